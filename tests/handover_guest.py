"""A guest that moves, and starts quickly: an echo and a small screen."""

from __future__ import annotations

from typing import Any

from aiospice.guests.echo import Echo
from aiospice.server.guest import Guest, Host, HostDevice

__all__ = ["ECHO", "EchoGuest"]

ECHO = "org.example.echo"


class EchoGuest(Guest):
    """See the module's text."""

    name = "echo"

    def attach(self, host: Host) -> None:
        self.echo = Echo(host.port(ECHO))
        host.display(0).resize(64, 48)
        self.echo.device.opened = True

    def device_readable(self, device: HostDevice) -> None:
        self.echo.pump()

    device_writable = device_readable

    def freeze(self) -> Any:
        return bytes(self.echo.held)

    def thaw(self, state: Any) -> None:
        self.echo.held[:] = state
