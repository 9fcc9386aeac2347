"""The server's end of the channels: one module a channel, named as in `aiospice.channels`."""
