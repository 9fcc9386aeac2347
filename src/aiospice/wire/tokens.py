"""Tokens on smartcard, usbredir, port and webdav channels: an extension of aiospice's own.

Upstream has tokens for the guest's agent alone; the other devices are held up by pausing a socket.
Where both sides announce the capability ``TOKENS`` (bit 31 of the channel's first word, which
spice-server, spice-gtk and spice-html5 leave alone), each side tells how many messages of data it
takes, and how large they may be, and later gives back what its reader has consumed. A side without
a token sends no data; one that does breaks the protocol, and so does a larger message. Messages
that carry no data need no token.
"""

from __future__ import annotations

from aiospice.wire.message import CLIENT, SERVER, Message
from aiospice.wire.record import u32

__all__ = ["LEAST_MESSAGE", "TOKENS", "TOKENS_NUMBER", "ClientTokens", "Tokens"]

#: The capability's bit, the same on all these channels.
TOKENS = 31
#: Far from upstream's numbers, which end at 202.
TOKENS_NUMBER = 31_001
#: A side has to take messages with at least so many bytes of data.
LEAST_MESSAGE = 16 << 10
_DEVICES = (8, 9, 10, 11)


class Tokens(Message, channels=_DEVICES, sender=SERVER, number=TOKENS_NUMBER):
    """The client may send ``count`` more messages of data, each of ``message_size`` bytes at most.

    An extension of aiospice's own (capability TOKENS). The first gives the whole window. The size
    is that of the data before it is compressed, and at least 16,384.
    """

    count: int = u32()
    message_size: int = u32()


class ClientTokens(Message, channels=_DEVICES, sender=CLIENT, number=TOKENS_NUMBER):
    """The server may send ``count`` more messages of data, each of ``message_size`` bytes at most.

    An extension of aiospice's own (capability TOKENS), as `Tokens`.
    """

    count: int = u32()
    message_size: int = u32()
