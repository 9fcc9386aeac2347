"""What a server can show: a desktop of its own, a shell, an X program."""
