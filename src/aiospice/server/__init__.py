"""The server's session: clients, what each of them holds, and the machine that they are shown."""
