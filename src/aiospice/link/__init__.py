"""The handshake before a channel opens, both ends: `client.LinkClient`, `server.LinkServer`."""
