"""What may lie between SPICE and the socket: layers of bytes, none of which does any input/output.

From the socket up: [HTTP proxy] [TLS] [WebSocket]. Each is fed with what came from below and
says what to send; `Stack` plugs them together and starts a layer once the one below is ready.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from aiospice.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiospice.effects import Endpoint

__all__ = ["Layer", "Stack", "stack_for"]


class Layer(Protocol):
    """One layer. After a call has raised, only `data_to_send` may be called (a last alert)."""

    @property
    def name(self) -> str:
        """What it is called in errors (``TLS``)."""

    @property
    def ready(self) -> bool:
        """The handshake is done: `send` may be called."""

    @property
    def ended(self) -> bool:
        """The peer has ended this layer in an orderly way: nothing more will come."""

    def start(self) -> None:
        """Begin the handshake; the layer below is ready."""

    def receive(self, data: bytes) -> bytes:
        """Take bytes from below, return those for above.

        Raises `ConnectError` (or `CertificateError`) before it is ready, `RemoteProtocolError`
        afterwards.
        """

    def receive_eof(self) -> None:
        """Take the end of the stream; raises `ConnectError` if it isn't ready yet."""

    def send(self, data: bytes) -> None:
        """Take bytes from above."""

    def close(self) -> None:
        """Say goodbye to the peer."""

    def data_to_send(self) -> bytes:
        """Hand out the bytes for below, once."""


class Stack:
    """Layers on top of each other, itself a layer; ``layers`` are given bottom first."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = tuple(layers)
        self._started = 0

    @property
    def name(self) -> str:
        """The layer whose handshake runs, or the top one."""
        return self._layers[max(self._started - 1, 0)].name

    @property
    def ready(self) -> bool:
        return self._started == len(self._layers) and self._layers[-1].ready

    @property
    def ended(self) -> bool:
        return any(layer.ended for layer in self._layers)

    def start(self) -> None:
        self.receive(b"")

    def receive(self, data: bytes) -> bytes:
        for index, layer in enumerate(self._layers):
            if index == self._started:  # all below are ready
                self._started += 1
                layer.start()
            if data:
                data = layer.receive(data)
            if not layer.ready:
                return b""
        return data

    def receive_eof(self) -> None:
        for layer in self._layers[: self._started]:
            layer.receive_eof()

    def send(self, data: bytes) -> None:
        if not self.ready:
            raise StateError(f"the {self.name} handshake isn't finished, nothing can be sent yet")
        self._layers[-1].send(data)

    def close(self) -> None:
        for index in range(self._started - 1, -1, -1):
            layer = self._layers[index]
            if layer.ready:
                layer.close()
            self._hand_down(index)

    def data_to_send(self) -> bytes:
        for index in range(self._started - 1, -1, -1):
            self._hand_down(index)
        return self._layers[0].data_to_send()

    def _hand_down(self, index: int) -> None:
        if index:
            data = self._layers[index].data_to_send()
            if data:
                self._layers[index - 1].send(data)


def stack_for(endpoint: Endpoint) -> Stack | None:
    """Make the layers that ``endpoint`` needs; None if SPICE goes straight onto the socket."""
    layers: list[Layer] = []
    if endpoint.proxy:
        _add_proxy(layers, endpoint)
    if endpoint.tls:
        from aiospice.aio.tls import TlsLayer

        layers.append(
            TlsLayer(
                str(endpoint),
                endpoint.host,
                ca=endpoint.ca,
                host_subject=endpoint.host_subject,
                verify=endpoint.verify,
                ciphers=endpoint.tls_ciphers,
            )
        )
    if endpoint.websocket_path:
        from aiospice.aio.websocket import WebSocketLayer

        layers.append(WebSocketLayer(endpoint))
    return Stack(layers) if layers else None


def _add_proxy(layers: list[Layer], endpoint: Endpoint) -> None:
    from aiospice.aio.proxy import ProxyLayer, parse_proxy

    proxy = parse_proxy(endpoint.proxy)
    if proxy.scheme == "https":
        from aiospice.aio.tls import TlsLayer

        layers.append(TlsLayer(f"proxy {proxy}", proxy.host))
    layers.append(ProxyLayer(proxy, endpoint.host, endpoint.port))
