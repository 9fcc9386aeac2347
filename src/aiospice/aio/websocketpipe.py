"""WebSocket once it is upgraded, the same at both ends."""

from __future__ import annotations

from typing import Generic, TypeVar

from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, State

from aiospice.errors import ConnectError, RemoteProtocolError

__all__ = ["WebSocketPipe", "tame"]

ProtocolT = TypeVar("ProtocolT", bound=Protocol)


class WebSocketPipe(Generic[ProtocolT]):
    """What both ends' layers are made of; they add the upgrade and its errors."""

    _where: str
    _protocol: ProtocolT
    ended: bool

    def _take(self, event: object) -> bytes:
        """The bytes that a frame brings."""
        assert isinstance(event, Frame)
        if event.opcode is Opcode.TEXT:
            raise RemoteProtocolError(
                "a WebSocket text message came; SPICE is carried in binary ones",
                where=self._where,
            )
        if event.opcode is Opcode.CLOSE:
            self.ended = True
        if event.opcode in (Opcode.BINARY, Opcode.CONT):
            return bytes(event.data)
        return b""

    def send(self, data: bytes) -> None:
        """Take bytes to be sent."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_binary(data)

    def close(self) -> None:
        """Say goodbye."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(1000)

    def data_to_send(self) -> bytes:
        """What is to go out."""
        return b"".join(self._protocol.data_to_send())

    def _error(self, text: str) -> ConnectError:
        return ConnectError(f"{self._where}: {text}")


def tame(error: BaseException | str) -> str:
    """Make a text that may quote the peer fit for one line."""
    text = "".join(c if c.isprintable() else " " for c in str(error))
    return text[:200] or type(error).__name__
