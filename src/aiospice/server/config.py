"""How a server is to behave, as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from aiospice.server.doorkeeper import DoorLimits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiospice.link.sasl import SaslUser

__all__ = ["COMPRESSIONS", "KEEPS", "Limits", "Peer", "ServerConfig"]

#: What ``compression`` may be; the client's wish comes first if it has one.
COMPRESSIONS = ("auto", "off", "lz", "quic", "glz", "auto_lz", "auto_glz", "lz4")


#: What ``keep`` may be.
KEEPS = ("none", "tokens", "acks")


class Peer(NamedTuple):
    """Who is at the other end of a connection."""

    #: For logs and people: ``127.0.0.1:4242`` or ``unix:/run/spice.sock``.
    address: str
    #: What limits count by: the address without the port.
    host: str
    #: The connection is TLS.
    secure: bool = False
    #: A UNIX socket: nothing is gained by compressing.
    local: bool = False


class Limits(NamedTuple):
    """What a client may cost."""

    #: Seconds for a link, from the first byte of TCP to the last of the ticket.
    link: float = 10.0
    #: Seconds without a sign of life of a client that owes an answer to a ping.
    silence: float = 30.0
    #: Seconds that a client with something to read may leave it unread.
    stall: float = 30.0
    #: Connections of one client (a channel each).
    channels: int = 64
    #: Clients at a time, with ``on_second_client="share"``.
    clients: int = 1_000
    #: What addresses that aren't in yet may have under way.
    door: DoorLimits = DoorLimits()


class ServerConfig(NamedTuple):
    """A server's settings, but for where it listens."""

    #: The machine's name, as clients show it.
    name: str = "aiospice"
    #: 16 bytes.
    uuid: bytes = bytes(16)
    #: The ticket; None lets everybody in, an empty one nobody.
    password: str | None = None
    #: SASL instead of tickets: passwords or keys by user name.
    users: Mapping[str, SaslUser] | None = None
    #: SASL mechanisms, None for all that this project has.
    mechanisms: tuple[str, ...] | None = None
    #: Names of channels (``inputs``) that are opened over TLS only; ``all`` for all.
    secure_channels: frozenset[str] = frozenset()
    #: What becomes of a client when another comes.
    on_second_client: Literal["takeover", "refuse", "share"] = "takeover"
    #: Whether text and pictures may be copied to and from the guest.
    copy_paste: bool = True
    #: Whether files may be sent to the guest.
    file_transfer: bool = True
    #: One of `COMPRESSIONS`.
    compression: str = "auto"
    #: Pictures as JPEG: on thin lines, never, always.
    lossy: Literal["auto", "never", "always"] = "auto"
    #: Regions that keep changing as videos.
    video: Literal["auto", "never"] = "auto"
    #: Whether clients of ours keep copies of what the guest hasn't taken, so that they can send it
    #: again at the next server (`Policy.REPLAY`), and know that from tokens, or are told of each
    #: message.
    keep: Literal["none", "tokens", "acks"] = "none"
    #: `VideoCodecType` numbers that this server can encode, the best first.
    video_codecs: tuple[int, ...] = (1,)
    #: Whether sound may leave as Opus.
    opus: bool = False
    #: Frames a second that a display shows at most.
    frame_rate: float = 60.0
    limits: Limits = Limits()

    def needs_tls(self, channel: str) -> bool:
        """Whether a channel of that name (``inputs``) is for TLS only."""
        return "all" in self.secure_channels or channel in self.secure_channels
