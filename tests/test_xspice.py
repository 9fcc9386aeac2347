"""The screen against Xspice and real X programs: here is what ``xwd -root`` shows, step by step.

spice-gtk is connected beside: a pixel that differs must differ there, too, and is listed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import aiospice
from aiospice.errors import ConnectError, LocalError, MissingProgram, SessionLost, SpiceTimeout
from aiospice.proof.xserver import parse_xwd
from aiospice.proof.xspice import Xspice, XspiceOptions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.xspice_stage import Stage

    from aiospice.proof.xserver import XProgram

XTERM = "-xrm", "*allowSendEvents: true"
COLOURS = r"""read x
for i in $(seq 1 400); do printf '\033[3%dm\033[4%dm %d ' $((i % 8)) $((i / 8 % 8)) $i; done
read x
for i in $(seq 1 300); do printf '\033[1;3%dm%s \033[0;4m%s\033[0m\n' $((i % 8)) $i "$x$i"; done
read x
"""


async def terminals(stage: Stage) -> None:
    """Text, core fonts and Render's, that scrolls."""
    x = stage.xspice
    await x.do("xsetroot", "-mod", "7", "5", "-fg", "#204060", "-bg", "#c0c8d0")
    await stage.look("root")
    listing = "read x; seq 1 3000; read x; ls -laR /usr/bin; read x"
    core = "-name", "core", "-geometry", "80x30+10+10"
    await stage.run("core", "xterm", *XTERM, *core, "-e", listing, window="core")
    await stage.look("xterm")
    await stage.key("core", "Return")
    await stage.look("xterm: 3000 lines")
    await stage.key("core", "Return")
    await stage.look("xterm: a long listing scrolls")
    await stage.key("core", "shift+Prior")
    await stage.look("xterm: scrolled back")
    font = "-fa", "DejaVu Sans Mono", "-fs", "11"
    render = "-name", "render", "-sb", "-geometry", "70x24+380+300", *font
    await stage.run("render", "xterm", *XTERM, *render, "-e", COLOURS, window="render")
    await stage.look("xterm -fa")
    for what in ("colours", "scrolls"):
        await stage.key("render", "Return")
        await stage.look(f"xterm -fa: {what}")


async def programs(stage: Stage) -> None:
    """The programs of x11-apps, opened over what is there."""
    x = stage.xspice
    await stage.run("xeyes", "xeyes", "-geometry", "200x150+500+20")
    await stage.look("xeyes")
    await x.xdotool("mousemove", 300, 700)
    await stage.look("xeyes: they follow the pointer")
    await stage.run("oclock", "oclock", "-geometry", "160x160+720+30")
    await stage.look("oclock")
    await stage.run("xlogo", "xlogo", "-render", "-geometry", "180x180+60+420")
    await stage.look("xlogo -render")
    await stage.run("xclock", "xclock", "-render", "-update", "1", "-geometry", "150x150+850+200")
    await stage.look("xclock")
    ico = "ico", "-sleep", "0.05", "-geometry", "220x220+250+480"
    await stage.run("ico", *ico, "-faces", "-obj", "cube", window="Ico.*")
    for i in range(2):
        await stage.look(f"ico -faces: {i}")
    await stage.end("ico")
    await stage.run("ico", *ico, window="Ico.*")
    await stage.look("ico")
    await stage.run("xmag", "xmag", "-source", "60x50+520+40", "-geometry", "+20+60")
    await stage.look("xmag")
    await stage.run("xcalc", "xcalc", "-geometry", "+600+420")
    await stage.look("xcalc")
    await stage.run("xfd", "xfd", "-fn", "10x20", "-geometry", "+420+60")
    await stage.look("xfd")


async def moves(stage: Stage) -> None:
    """Windows that are moved, raised, resized, hidden and closed; the screen's size."""
    for step in range(3):
        await stage.window("xlogo", "windowmove", 120 + 90 * step, 380 - 60 * step)
        await stage.look(f"xlogo moves: {step}")
    await stage.window("xeyes", "windowmove", 640, 250)
    await stage.look("xeyes moves")
    await stage.window("oclock", "windowmove", -60, 650)
    await stage.look("oclock moves over the edge")
    await stage.window("core", "windowraise")
    await stage.look("xterm is raised")
    await stage.window("xcalc", "windowraise")
    await stage.look("xcalc is raised")
    await stage.window("xlogo", "windowsize", 420, 300)
    await stage.look("xlogo grows")
    await stage.window("core", "windowunmap")
    await stage.look("xterm is hidden")
    await stage.window("render", "windowsize", 300, 200)
    await stage.look("xterm -fa shrinks")
    for name in ("ico", "xfd", "xmag", "xclock"):
        await stage.end(name)
        await stage.look(f"{name} is closed")
    for width, height in ((800, 600), (1280, 1024), (1024, 768)):
        await stage.xspice.resize(width, height)
        await stage.look(f"the screen has {width}x{height}")


async def composited(stage: Stage) -> None:
    """Windows on pixmaps of their own, laid together with shadows."""
    await stage.run("xcompmgr", "xcompmgr", "-c", window="")
    await stage.look("xcompmgr")
    for step in range(2):
        await stage.window("xcalc", "windowmove", 200 + 150 * step, 120)
        await stage.look(f"xcalc moves with its shadow: {step}")
    await stage.end("xcompmgr")
    await stage.look("xcompmgr has gone")


async def painted(stage: Stage) -> None:
    """What the programs above don't draw."""
    from tests.x_painter import SCENES, Painter

    painter = await asyncio.to_thread(Painter, stage.xspice, 30, 40)
    for scene in SCENES:
        await asyncio.to_thread(painter.paint, scene)
        await stage.look(f"painted: {scene}")
    painter.close()
    await stage.look("the painted window is closed")


SCRIPTS: dict[str, Callable[[Stage], Awaitable[None]]] = {
    script.__name__: script for script in (terminals, programs, moves, composited, painted)
}
#: What each setting sends that the others don't, of images that aren't small.
WANTED = {
    "off": ("BITMAP",),
    "quic": ("QUIC",),
    "lz": ("LZ_RGB",),
    "glz": ("GLZ_RGB",),
    "auto_lz": ("LZ_RGB", "QUIC"),
    "auto_glz": ("GLZ_RGB", "QUIC"),
    "lz4": ("LZ4",),
}


@pytest.mark.peers
async def test_a_server_that_has_ended_leaves_nothing_behind() -> None:
    async with Xspice() as xspice:
        program: XProgram = await xspice.run("xlogo")
        await asyncio.sleep(0.1)
        picture = await xspice.root()
        assert (picture.width, picture.height) == (1024, 768)
        assert len(set(picture.bgrx[::4])) > 1
        socket, folder = Path(f"/tmp/.X11-unix/X{xspice.display[1:]}"), xspice.folder
        assert socket.exists()
    assert not program.running
    assert not xspice.running
    assert not folder.exists()
    assert not socket.exists()


@pytest.mark.peers
async def test_a_server_that_is_killed_leaves_nothing_either() -> None:
    async with Xspice() as xspice:
        socket = Path(f"/tmp/.X11-unix/X{xspice.display[1:]}")
        os.kill(xspice.pid, signal.SIGKILL)
        with pytest.raises(LocalError, match="xwd"):
            await xspice.root()
    assert not socket.exists()


@pytest.mark.peers
async def test_programs_that_fail_are_told_of() -> None:
    async with Xspice(XspiceOptions(password="secret")) as xspice:
        with pytest.raises(MissingProgram, match="x11-apps"):
            await xspice.run("there-is-no-such-program")
        with pytest.raises(SessionLost, match="xlogo ended"):
            await xspice.run("xlogo", "-display", ":none")
        with pytest.raises(SpiceTimeout, match="shows no window 'other'"):
            await xspice.run("xlogo", window="other", limit=0.2)
        with pytest.raises(LocalError, match="xwininfo"):
            await xspice.do("xwininfo", "-name", "nothing")
        assert await xspice.windows("nothing") == []
        with pytest.raises(aiospice.AiospiceError, match="password"):
            async with aiospice.connect(xspice.address, password="another"):
                pass
        async with aiospice.connect(xspice.address, password="secret") as session:
            assert await session.screen() == await xspice.root()


@pytest.mark.peers
async def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(ConnectError, match="ended at its start"):
        await Xspice(XspiceOptions(surface_memory=-1)).start()


def test_what_is_no_window_dump_is_refused() -> None:
    head = [100, 7, 2, 24, 2, 1, 0, 0, 32, 0, 32, 32, 8, 4, 0xFF0000, 0xFF00, 0xFF, 8, 256, 0]
    good = struct.pack(">25I", *head, 2, 1, 0, 0, 0) + b"bgrxBGRX"
    assert parse_xwd(good).rgb() == b"rgbRGB"
    of_three = good[:47] + b"\x18" + good[48:-8] + b"bgrBGR\0\0"  # 24 bits a pixel
    assert parse_xwd(of_three).rgb() == b"rgbRGB"
    for bad in (b"", good[:99], good[:-1]):
        with pytest.raises(LocalError, match=r"no window dump|cut short"):
            parse_xwd(bad)
    with pytest.raises(LocalError, match="16 bits a pixel"):
        parse_xwd(good[:47] + b"\x10" + good[48:])


@pytest.mark.peers
@pytest.mark.timeout(300)
@pytest.mark.parametrize("compression", WANTED)
async def test_x_programs_look_as_xwd_says(compression: str, tmp_path: Path) -> None:
    from tests.xspice_stage import Stage, seen_in

    async with Stage(tmp_path, compression) as stage:
        for script in SCRIPTS.values():
            await script(stage)
        screen = stage.session._screen(0)
        not_drawn, unknown = screen.not_drawn, stage.session.messages_unknown()
    seen = seen_in(stage.capture)
    wrong = [look for look in stage.looks if look.ours]
    print(f"{compression}: {len(stage.looks)} steps, {seen}")
    for look in stage.looks:
        if look.ours or look.gtk:
            warnings.warn(f"{compression}: {look}", stacklevel=1)
    assert [str(look) for look in wrong if look.only_ours] == []
    assert (not_drawn, unknown) == ({}, {})
    assert len(stage.looks) >= 20
    assert seen.surfaces > 10
    assert seen.on_surfaces > 10
    for kind in ("DrawFill", "DrawCopy", "CopyBits", "SurfaceDestroy"):
        assert seen.messages[kind] > 10, kind
    for image in ("SURFACE", "FROM_CACHE", *WANTED[compression]):
        assert seen.images[image] >= 50, image
