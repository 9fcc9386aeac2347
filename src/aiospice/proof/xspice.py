"""Xspice as a peer: an X server that is a SPICE server, so that any X program draws for a client.

Its driver turns what X programs do into drawing commands of QXL, with off-screen surfaces and
cached images. ``xwd -root`` is the true screen::

    async with Xspice() as xspice:
        await xspice.run("xlogo")
        picture = await xspice.root()

Traps of the real thing (package xserver-xspice 0.1.5 of Debian 12): its buffers have no size unless
the configuration gives one, and it crashes at the start; a server reset crashes it, hence
``-noreset``; the wrapper script ``Xspice`` kills its X server so that files of it in ``/tmp`` stay,
so Xorg is started here with what the script would set. A pointer of two colours is drawn into the
screen by the X server; ``xwd`` leaves it out.

Of the drawing commands the driver sends fills, copies of images and of surfaces, and moves within
a surface; all else it draws itself, Render included: its support for that is compiled out.

Facts: the script and the driver's ``spiceqxl.xorg.conf.example``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiospice.errors import ConnectError
from aiospice.proof.qemu import free_port
from aiospice.proof.xserver import XServer, find_program, write_private

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Xspice", "XspiceOptions"]

_CONFIG = """\
Section "Device"
    Identifier "screen device"
    Driver "spiceqxl"
{options}
EndSection
Section "InputDevice"
    Identifier "pointer"
    Driver "xspice pointer"
EndSection
Section "InputDevice"
    Identifier "keyboard"
    Driver "xspice keyboard"
EndSection
Section "Monitor"
    Identifier "monitor"
EndSection
Section "Screen"
    Identifier "screen"
    Monitor "monitor"
    Device "screen device"
    DefaultDepth 24
EndSection
Section "ServerLayout"
    Identifier "layout"
    Screen "screen"
    InputDevice "keyboard"
    InputDevice "pointer"
EndSection
Section "ServerFlags"
    Option "AutoAddDevices" "False"
EndSection
"""


@dataclass(slots=True, frozen=True)
class XspiceOptions:
    """What server to start. The defaults: no password, images as they are, no videos."""

    address: str = "127.0.0.1"  #: where the SPICE server listens
    #: ``off``, ``auto_glz``, ``auto_lz``, ``quic``, ``glz`` or ``lz``
    compression: str = "off"
    jpeg: str = "never"  #: JPEG for slow networks: ``auto``, ``never``, ``always``
    zlib: str = "never"  #: deflated GLZ for slow networks: ``auto``, ``never``, ``always``
    streaming: str = "off"  #: videos: ``off``, ``all``, ``filter``
    surfaces: bool = True  #: off-screen pixmaps are surfaces of the server
    image_cache: bool = True  #: images that programs put are kept by the client
    fallback_cache: bool = True  #: so are those that the driver draws itself
    password: str | None = None  #: ticket; None means that none is asked for
    agent: bool = False  #: a port for an agent, and one for its tablet: `Xspice.agent_port`
    several_clients: bool = False  #: a second client doesn't throw the first one out
    surface_memory: int = 128  #: MiB for off-screen surfaces
    life: float = 300  #: seconds after which the server is ended whatever happens


class Xspice(XServer):
    """An X server that is a SPICE server; use it with ``async with`` or call `start` and `stop`.

    Only programs started by `run` and `do` may connect to its display (and root).
    """

    name = "Xspice"

    def __init__(self, options: XspiceOptions | None = None) -> None:
        self.options = options or XspiceOptions()
        self.port = 0  #: TCP port of the SPICE server
        super().__init__(self.options.life)

    @property
    def address(self) -> str:
        """Address of the server in this package's notation."""
        return f"spice://{self.options.address}:{self.port}"

    @property
    def agent_port(self) -> Path:
        """Where spice-vdagentd finds the client's port, and beside it the ``tablet``."""
        return self.folder / "agent" / "port"

    def _look_for_programs(self) -> None:
        for name in ("Xspice", "Xorg"):
            find_program(name)

    def _command(self) -> list[str]:
        command = [find_program("Xorg"), "-config", str(self.folder / "xorg.conf")]
        return [*command, "-logfile", str(self.folder / "log")]

    def _server_environment(self) -> dict[str, str]:
        several = {"SPICE_DEBUG_ALLOW_MC": "1"} if self.options.several_clients else {}
        agent: dict[str, str] = {}
        if self.options.agent:
            self.agent_port.parent.mkdir(exist_ok=True)
            agent = {
                "XSPICE_VDAGENT_ENABLED": "1",
                "XSPICE_VDAGENT_VIRTIO_PATH": str(self.agent_port),
                "XSPICE_VDAGENT_UINPUT_PATH": str(self.agent_port.with_name("tablet")),
                "XSPICE_VDAGENT_UID": str(os.getuid()),
                "XSPICE_VDAGENT_GID": str(os.getgid()),
            }
        return super()._server_environment() | several | agent

    async def _spawn(self, timeout: float) -> None:
        self.port = free_port(self.options.address)
        self._write_files()
        await super()._spawn(timeout)
        if "cannot bind" in (text := self.output()) or "in use" in text:
            raise ConnectError(f"Xspice can't listen on port {self.port}: {text}")

    def _write_files(self) -> None:
        options = self.options
        wanted: dict[str, object] = {
            "SpicePort": self.port,
            "SpiceAddr": options.address,
            "SpiceImageCompression": options.compression,
            "SpiceJpegWanCompression": options.jpeg,
            "SpiceZlibGlzWanCompression": options.zlib,
            "SpiceStreamingVideo": options.streaming,
            "SpiceDisableTicketing": options.password is None,
            "EnableSurfaces": options.surfaces,
            "EnableImageCache": options.image_cache,
            "EnableFallbackCache": options.fallback_cache,
            "FrameBufferSize": 32,
            "SurfaceBufferSize": options.surface_memory,
            "CommandBufferSize": 128,
            "NumHeads": 1,
        }
        if options.password is not None:
            wanted["SpicePassword"] = options.password
        lines = (f'    Option "{name}" "{value}"' for name, value in wanted.items())
        write_private(self.folder / "xorg.conf", _CONFIG.format(options="\n".join(lines)).encode())

    async def resize(self, width: int, height: int) -> None:
        """Give the screen another size, one of those that ``xrandr`` lists."""
        await self.do("xrandr", "--output", "qxl-0", "--mode", f"{width}x{height}")
