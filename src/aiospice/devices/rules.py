"""What holds for each kind of character device (spice-server ``server/reds.cpp``,
``spicevmc.cpp``, ``smartcard.cpp``; limits that upstream lacks are named as ours)."""

from __future__ import annotations

from typing import NamedTuple

from aiospice.wire.agent_stream import MAX_AGENT_DATA
from aiospice.wire.channels import CHANNEL_LIMITS
from aiospice.wire.smartcard import DEVICE_HEADER, MAX_CARD_DATA
from aiospice.wire.tokens import LEAST_MESSAGE

__all__ = [
    "AGENT",
    "RETRY_SECONDS",
    "SMARTCARD",
    "TOKEN_SECONDS",
    "VMC",
    "VMC_MESSAGE",
    "Rules",
]

#: How often a guest that can't signal is offered again what it didn't take.
RETRY_SECONDS = 0.1
#: How long a message waits for a token of a client before that client is removed.
TOKEN_SECONDS = 30.0
#: The most bytes of one message from a port, usbredir or webdav device.
VMC_MESSAGE = (64 << 10) + 32


class Rules(NamedTuple):
    """Windows and limits of a device; messages are counted, sizes are in bytes."""

    #: Messages that a client with tokens may have on their way, and how many used up ones are
    #: returned together.
    window: int
    interval: int
    #: Messages of the server's own, or of clients without tokens, that may wait for the guest.
    self_tokens: int
    #: The largest message of a client with tokens, and of one without.
    client_limit: int
    plain_limit: int
    #: The largest message to a client.
    message_limit: int
    #: Bytes of clients without tokens that may wait for the guest; then they aren't read.
    unread: int
    #: Messages and bytes for one client that may wait for its socket; then the guest isn't read.
    outgoing: int
    outgoing_bytes: int
    #: Messages that may wait for a token of one client while others have some.
    send_queue: int
    #: How many clients at once, 0: any number.
    clients: int = 1
    #: Nobody there: the guest's bytes are read and dropped, or left in the device.
    drops_alone: bool = False
    #: What a client that leaves has sent, and what it hasn't been handed, stays for the guest and
    #: for the next client: the device is a stream of bytes.
    keeps: bool = True
    #: A message that hasn't left grows by what comes next: where one ends has no meaning.
    joins: bool = True


#: The guest's agent. ``outgoing``: upstream's read buffers.
AGENT = Rules(
    window=10,
    interval=5,
    self_tokens=1,
    client_limit=MAX_AGENT_DATA,
    plain_limit=MAX_AGENT_DATA,
    message_limit=MAX_AGENT_DATA,
    unread=1 << 20,
    outgoing=5,
    outgoing_bytes=1 << 20,
    send_queue=5,
    clients=0,
    drops_alone=True,
    keeps=False,
    joins=False,
)

#: Ports, usbredir and webdav. ``window``, ``interval`` and ``client_limit`` are ours: upstream
#: has no tokens here, and pauses the socket when its 128 self tokens are used up. Many small
#: messages rather than few large ones: what a guest or a client writes in lines needs one each.
VMC = Rules(
    window=64,
    interval=16,
    self_tokens=128,
    client_limit=LEAST_MESSAGE,
    plain_limit=CHANNEL_LIMITS[10],
    message_limit=VMC_MESSAGE,
    unread=1 << 20,
    outgoing=1024,
    outgoing_bytes=1 << 20,
    send_queue=0,
)

#: Smartcard readers. Upstream bounds nothing here; the numbers are ours.
SMARTCARD = Rules(
    window=16,
    interval=4,
    self_tokens=32,
    client_limit=DEVICE_HEADER.size + MAX_CARD_DATA,
    plain_limit=DEVICE_HEADER.size + MAX_CARD_DATA,
    message_limit=DEVICE_HEADER.size + MAX_CARD_DATA,
    unread=1 << 20,
    outgoing=64,
    outgoing_bytes=1 << 20,
    send_queue=4,
    drops_alone=True,
    keeps=False,
    joins=False,
)
