"""What a client session needs to know before it starts: plain data."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["VIDEO_CODECS", "ClientConfig"]

#: What a user calls the video codecs (``SPICE_VIDEO_CODEC_TYPE_*``).
VIDEO_CODECS = {"mjpeg": 1, "vp8": 2, "h264": 3, "vp9": 4, "h265": 5}


class ClientConfig(NamedTuple):
    """Where the server is, who we are, and what we accept."""

    host: str = ""
    #: Plain port, 0: none.
    port: int = 0
    #: TLS port, 0: none.
    tls_port: int = 0
    unix_path: str = ""
    #: Path of the WebSocket resource, empty: no WebSocket.
    websocket_path: str = ""
    password: str = ""
    #: For SASL.
    username: str = ""
    #: PEM text of the only authorities to trust; empty: the system's.
    ca: bytes = b""
    host_subject: str = ""
    verify: bool = True
    proxy: str = ""
    #: Names of the channels that must go over TLS (``main``, ``inputs``, ... or ``all``).
    secure_channels: tuple[str, ...] = ()
    #: Shell patterns of hosts that a server may send the session to; empty: any.
    migrate_to: tuple[str, ...] = ()
    #: Seconds that opening one connection may take, and each step of the link.
    timeout: float = 10.0
    #: Channel types to open (``display``, ``inputs``, ...); None: all that the server offers.
    channels: tuple[str, ...] | None = None
    #: How images are to be packed (`aiospice.client.decode.COMPRESSIONS`), empty: as the server
    #: likes.
    compression: str = ""
    #: Video codecs (`VIDEO_CODECS`) that the server may use, the best first; None: all that can be
    #: decoded here, in the server's order; none at all: nothing is sent as a video.
    video_codecs: tuple[str, ...] | None = None
    #: What can be decoded here; whoever runs the session knows.
    decodable: tuple[str, ...] = ("mjpeg",)
    #: Offer the short data header.
    mini_header: bool = True
    #: OpenSSL's cipher list for TLS up to 1.2, empty: the library's.
    tls_ciphers: str = ""
    #: Take up with the guest's agent: clipboards and files.
    agent: bool = True
    #: What a window of the session should be called, empty: nothing given.
    title: str = ""

    def offered_codecs(self) -> tuple[int, ...]:
        """Numbers of the video codecs that are offered."""
        names = self.decodable if self.video_codecs is None else self.video_codecs
        return tuple(VIDEO_CODECS[name] for name in names if name in self.decodable)

    def preferred_codecs(self) -> tuple[int, ...]:
        """Numbers of the video codecs that the server is asked for, none: as it likes."""
        return () if self.video_codecs is None else self.offered_codecs()

    def __repr__(self) -> str:  # passwords don't belong into a log
        where = self.unix_path or f"{self.host}:{self.port or self.tls_port}"
        return f"ClientConfig({where})"
