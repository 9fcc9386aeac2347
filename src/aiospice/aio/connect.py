"""``aiospice.connect``: from an address to a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.aio.session import Session
from aiospice.client.config import ClientConfig
from aiospice.errors import AddressError, LocalError, MissingProgram

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Iterable
    from types import TracebackType
    from typing import Any

    from aiospice.aio.capture import CaptureFile
    from aiospice.aio.transport import Dial

__all__ = ["connect"]


class connect:
    """Connect to a server: ``await connect(...)``, or ``async with connect(...) as session``.

    ``address`` is a `ClientConfig`, or text: ``spice://host:port``, ``spice+tls://host:port``,
    ``spice+unix:///path``, ``ws://host:port/path``, ``wss://...``,
    ``spice://host?port=5900&tls-port=5901``, or the path of a ``.vv`` file. Options given here
    override what the address says:

    password, username: for the ticket or SASL.
    ca_file: PEM file of the only authorities to trust (``ca`` for its content).
    host_subject: subject that the certificate must have.
    proxy: ``http://[user:password@]host:port`` that is asked to CONNECT.
    timeout: seconds for opening one connection, and for each step after it.
    migrate_to: shell patterns of hosts that the server may send the session to; none: any.
    channels: names of the channel types to open; None: all that the server offers.
    compression: how images are to be packed: ``off``, ``auto_glz``, ``auto_lz``, ``quic``, ``glz``,
        ``lz`` or ``lz4``; None: as the server likes.
    video_codecs: names of the video codecs that the server may use, the best first, of ``mjpeg``,
        ``vp8``, ``h264``, ``vp9`` and ``h265`` (all but the first need ``aiospice[video]``); None:
        all that can be decoded, as the server likes; none: it sends images instead of videos.
    mini_header: offer the short data header.
    agent: take up with the guest's agent, for clipboard and files.
    capture: a `CaptureFile` that records the session.
    dial: makes the sockets, for example in another network namespace.

    Raises `AddressError`, `ConnectError`, `CertificateError`, `LinkError`, `SpiceTimeout` or
    `RemoteProtocolError` when it fails.
    """

    def __init__(
        self,
        address: str | os.PathLike[str] | ClientConfig,
        *,
        password: str | None = None,
        username: str | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        ca: bytes | None = None,
        host_subject: str | None = None,
        proxy: str | None = None,
        timeout: float | None = None,
        migrate_to: Iterable[str] | None = None,
        channels: Iterable[str] | None = None,
        compression: str | None = None,
        video_codecs: Iterable[str] | None = None,
        mini_header: bool | None = None,
        agent: bool | None = None,
        capture: CaptureFile | None = None,
        dial: Dial | None = None,
    ) -> None:
        config = address if isinstance(address, ClientConfig) else _parse(address)
        if compression:
            _check_compression(compression)
        if ca_file is not None:
            ca = _read(ca_file)
        given: dict[str, Any] = {
            "password": password,
            "username": username,
            "ca": ca,
            "host_subject": host_subject,
            "proxy": proxy,
            "timeout": timeout,
            "migrate_to": None if migrate_to is None else tuple(migrate_to),
            "channels": None if channels is None else ("main", *channels),
            "compression": compression,
            "video_codecs": None if video_codecs is None else _checked_codecs(video_codecs),
            "mini_header": mini_header,
            "agent": agent,
        }
        self._config = config._replace(**{k: v for k, v in given.items() if v is not None})
        self._dial = dial
        self._capture = capture
        self._session: Session | None = None

    async def _make(self) -> Session:
        session = Session(self._config, dial=self._dial, capture=self._capture)
        return await session._connect()

    def __await__(self) -> Generator[Any, None, Session]:
        return self._make().__await__()

    async def __aenter__(self) -> Session:
        self._session = await self._make()
        return self._session

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()


def _parse(address: str | os.PathLike[str]) -> ClientConfig:
    from aiospice.aio.address import parse_address

    text = address if isinstance(address, str) else address.__fspath__()
    return parse_address(text)


def _check_compression(name: str) -> None:
    from aiospice.client.decode import COMPRESSIONS

    if name not in COMPRESSIONS:
        raise LocalError(f"no compression is called {name!r}, only {', '.join(COMPRESSIONS)}")


def _checked_codecs(names: Iterable[str]) -> tuple[str, ...]:
    from aiospice.aio.videocodecs import available
    from aiospice.client.config import VIDEO_CODECS

    found = tuple(dict.fromkeys(names))
    for name in found:
        if name not in VIDEO_CODECS:
            raise LocalError(f"no video codec is called {name!r}, only {', '.join(VIDEO_CODECS)}")
        if name not in available():
            raise MissingProgram(f"{name} videos need PyAV: pip install 'aiospice[video]'")
    return found


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError as error:
        raise AddressError(f"the CA file {path} can't be read: {error.strerror}") from error
