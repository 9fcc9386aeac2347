"""The guest agent's protocol, both ends."""
