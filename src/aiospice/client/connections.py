"""The connections of a session, and the channels on them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aiospice.channels.base import ChannelPhase
from aiospice.channels.events import Event
from aiospice.effects import Close, Effect, Endpoint, Open, Pause, Resume
from aiospice.errors import (
    AddressError,
    AiospiceError,
    CertificateError,
    ConnectError,
    LinkError,
    RemoteProtocolError,
    SpiceTimeout,
)
from aiospice.migration.links import PARKED_LIMIT, ChannelLink, LinkStage, Numbers
from aiospice.wire.caps import (
    DisplayCap,
    MainCap,
    PlaybackCap,
    RecordCap,
    SmartcardCap,
    VmcCap,
)
from aiospice.wire.channels import channel_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiospice.channels.base import ClientChannel, Key
    from aiospice.client.config import ClientConfig
    from aiospice.link.client import ClientCrypto

__all__ = ["CHANNEL_CAPS", "MAIN", "Connections", "endpoint_for", "modules_for", "named"]

MAIN: Key = (1, 0)

#: What this client announces for each channel type.
CHANNEL_CAPS: dict[int, tuple[int, ...]] = {
    1: (
        MainCap.SEMI_SEAMLESS_MIGRATE,
        MainCap.NAME_AND_UUID,
        MainCap.AGENT_CONNECTED_TOKENS,
        MainCap.SEAMLESS_MIGRATE,
        MainCap.HOLD,
        MainCap.KEEP,
    ),
    2: (
        DisplayCap.SIZED_STREAM,
        DisplayCap.MONITORS_CONFIG,
        DisplayCap.COMPOSITE,
        DisplayCap.A8_SURFACE,
        DisplayCap.STREAM_REPORT,
        DisplayCap.LZ4_COMPRESSION,
        DisplayCap.PREF_COMPRESSION,
        DisplayCap.MULTI_CODEC,
        DisplayCap.PREF_VIDEO_CODEC_TYPE,
    ),
    5: (PlaybackCap.VOLUME, PlaybackCap.LATENCY),
    6: (RecordCap.VOLUME,),
    8: (SmartcardCap.TOKENS,),
    9: (VmcCap.DATA_COMPRESS_LZ4, VmcCap.TOKENS),
    10: (VmcCap.DATA_COMPRESS_LZ4, VmcCap.TOKENS),
    11: (VmcCap.DATA_COMPRESS_LZ4, VmcCap.TOKENS),
}

#: What it announces for each video codec (``SPICE_VIDEO_CODEC_TYPE_*``) on a display channel.
_CODEC_CAPS: dict[int, int] = {
    1: DisplayCap.CODEC_MJPEG,
    2: DisplayCap.CODEC_VP8,
    3: DisplayCap.CODEC_H264,
    4: DisplayCap.CODEC_VP9,
    5: DisplayCap.CODEC_H265,
}

_CHANNELS = {
    1: ("main", "MainChannel"),
    2: ("display", "DisplayChannel"),
    3: ("inputs", "InputsChannel"),
    4: ("cursor", "CursorChannel"),
    5: ("playback", "PlaybackChannel"),
    6: ("record", "RecordChannel"),
    8: ("smartcard", "SmartcardChannel"),
    9: ("vmc", "VmcChannel"),
    10: ("vmc", "PortChannel"),
    11: ("vmc", "PortChannel"),
}


#: What is imported for a display, in pieces of about the same size.
_DISPLAY_MODULES = (
    "wire.shapes",
    "wire.images",
    "wire.draw",
    "channels.display",
    "canvas.raster",
    "codecs.image",
    "client.images",
    "client.draws",
    "client.screen",
    "client.picture",
)


def modules_for(channels: Iterable[str] | None) -> list[str]:
    """Modules that a session with these types of channels (None: all) will import later on.

    To import them while a server thinks (it makes an RSA key for each link) costs no time.
    """
    wanted = None if channels is None else set(channels)
    found: list[str] = []
    for number, (module, _) in _CHANNELS.items():
        if wanted is None or channel_name(number) in wanted:
            found += _DISPLAY_MODULES if number == 2 else [f"channels.{module}"]
    return [f"aiospice.{name}" for name in dict.fromkeys(found)]


def endpoint_for(config: ClientConfig, key: Key, *, secure: bool = False) -> Endpoint:
    """Where the connection of a channel goes: its TLS port if it must, else the plain one.

    ``secure`` asks for the TLS port whatever the configuration prefers. `AddressError` when TLS is
    needed and there is no TLS port.
    """
    name = channel_name(key[0])
    must = secure or "all" in config.secure_channels or name in config.secure_channels
    plain = bool(config.port or config.unix_path)
    if must and not config.tls_port:
        raise AddressError(f"the {name} channel must go over TLS, and no TLS port is given")
    if not plain and not config.tls_port:
        raise AddressError("neither a port nor a TLS port nor a UNIX socket is given")
    tls = must or not plain
    return Endpoint(
        host=config.host,
        port=config.tls_port if tls else config.port,
        unix_path="" if tls else config.unix_path,
        tls=tls,
        ca=config.ca,
        host_subject=config.host_subject,
        verify=config.verify,
        tls_ciphers=config.tls_ciphers,
        websocket_path=config.websocket_path,
        proxy=config.proxy,
    )


class Connections:
    """Opens connections, links channels on them, and finds one from the other. Plain data."""

    def __init__(self, config: ClientConfig, crypto: ClientCrypto) -> None:
        self.config = config
        self.crypto = crypto
        self.session_id = 0
        self.channels: dict[Key, ClientChannel] = {}
        #: Connections by number: being opened, or with a channel on them.
        self.links: dict[int, ChannelLink] = {}
        #: Which connection a channel is on.
        self.at: dict[Key, int] = {}
        #: Connections to a server that has been left, not closed yet.
        self.retired: dict[int, ChannelLink] = {}
        #: Channels that aren't read because nobody takes what they bring.
        self.stopped: set[Key] = set()
        self._numbers = Numbers()
        self._effects: list[Effect] = []
        self._events: list[Event] = []

    # -- for the shell -------------------------------------------------------------------------

    def effects(self) -> list[Effect]:
        """What is to be done, in order; each once."""
        found, self._effects = self._effects, []
        return found

    def events(self) -> list[Event]:
        """What has happened, in order; each once."""
        found, self._events = self._events, []
        return found

    # -- links ---------------------------------------------------------------------------------

    def make_link(
        self, key: Key, endpoint: Endpoint, *, connection_id: int, hold: bool = False
    ) -> ChannelLink:
        """A connection to come; the caller opens it."""
        secure = None
        if not endpoint.tls and self.config.tls_port and not endpoint.unix_path:
            secure = endpoint_for(self.config, key, secure=True)
        return ChannelLink(
            self._numbers, key, endpoint, self._link_arguments(key, connection_id, hold), secure
        )

    def _link_arguments(self, key: Key, connection_id: int, hold: bool) -> dict[str, Any]:
        return {
            "connection_id": connection_id,
            "crypto": self.crypto,
            "channel_caps": self._caps(key[0]),
            "password": self.config.password,
            "username": self.config.username,
            "hold": hold,
            "mini_header": self.config.mini_header,
        }

    def _caps(self, channel_type: int) -> tuple[int, ...]:
        caps = CHANNEL_CAPS.get(channel_type, ())
        if channel_type == 2:
            caps += tuple(_CODEC_CAPS[codec] for codec in self.config.offered_codecs())
        return caps

    def _open(self, key: Key, *, connection_id: int) -> None:
        link = self.make_link(key, endpoint_for(self.config, key), connection_id=connection_id)
        self._open_link(link)

    def _open_link(self, link: ChannelLink) -> None:
        self.links[link.number] = link
        self._effects.append(Open(link.number, link.endpoint, self.config.timeout))

    def _drop(self, link: ChannelLink) -> None:
        """Close a connection and forget it."""
        self.links.pop(link.number, None)
        self.retired.pop(link.number, None)
        if link.stage is not LinkStage.CLOSED:
            link.stage = LinkStage.CLOSED
            self._effects.append(Close(link.number))

    def _retire(self, key: Key) -> None:
        """Keep a channel's connection open, unread, until `_close_retired`."""
        number = self.at.pop(key, None)
        link = self.links.pop(number, None) if number is not None else None
        if link is not None and link.stage is not LinkStage.CLOSED:
            self.retired[link.number] = link

    def _close_retired(self) -> None:
        for link in list(self.retired.values()):
            self._drop(link)

    def _pending(self) -> list[ChannelLink]:
        """Connections whose channel isn't on them yet."""
        return [link for link in self.links.values() if self.at.get(link.key) != link.number]

    # -- channels ------------------------------------------------------------------------------

    def _make_channel(self, link: ChannelLink) -> ClientChannel:
        module, name = _CHANNELS[link.key[0]]
        kind = getattr(import_module(f"aiospice.channels.{module}"), name)
        channel: ClientChannel = kind(link.key, link.framing, link.link.server_channel_caps)
        return channel

    def _put_on(self, channel: ClientChannel, link: ChannelLink) -> None:
        """The channel is on that connection from now on."""
        self.links[link.number] = link
        self.at[channel.key] = link.number
        if link.paused:
            link.paused = False
            self._effects.append(Resume(link.number))
        if channel.key in self.stopped:
            self._effects.append(Pause(link.number))

    def _limit_parked(self, channel: ClientChannel) -> None:
        """Don't read a connection whose channel can't go on, beyond a limit."""
        link = self.link_of(channel.key)
        if link is None or link.framing is None:
            return
        if channel.waits or channel.phase is ChannelPhase.FROZEN:
            self._park(link)
        elif self._behind(channel):
            if not link.paused:
                link.paused = True
                self._effects.append(Pause(link.number))
        elif link.paused:
            link.paused = False
            if channel.key not in self.stopped:
                self._effects.append(Resume(link.number))

    def _behind(self, channel: ClientChannel) -> bool:
        """Whether more has come on a channel than could be carried out."""
        return False

    def _park(self, link: ChannelLink) -> None:
        """What the connection has brought has to wait."""
        assert link.framing is not None
        if link.framing.buffered > PARKED_LIMIT and not link.paused:
            link.paused = True
            self._effects.append(Pause(link.number))

    def link_of(self, key: Key) -> ChannelLink | None:
        """The connection that a channel is on."""
        number = self.at.get(key)
        return None if number is None else self.links.get(number)

    def stop_reading(self, key: Key) -> None:
        """Let the peer of a channel feel that nobody takes its data."""
        if key not in self.stopped:
            self.stopped.add(key)
            if (link := self.link_of(key)) is not None:
                self._effects.append(Pause(link.number))

    def go_on_reading(self, key: Key) -> None:
        """Undo `stop_reading`."""
        if key in self.stopped:
            self.stopped.discard(key)
            if (link := self.link_of(key)) is not None:
                self._effects.append(Resume(link.number))


def named(error: AiospiceError, link: ChannelLink) -> AiospiceError:
    """An error of the main link that says which address it is about."""
    address = str(link.endpoint)
    if address in str(error):
        return error
    if isinstance(error, RemoteProtocolError):
        error.where = f"{error.where or link.name} of {address}"
        return error
    if isinstance(error, (LinkError, ConnectError, CertificateError, SpiceTimeout)):
        return type(error)(f"{address}: {error}")
    return error
