"""The QEMU rig: the guest, the machine protocol, migration."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from aiospice.errors import ConnectError, MissingProgram, SpiceTimeout
from aiospice.proof import qemu as rig
from aiospice.proof.qemu import Qemu, QemuOptions, guest_image
from aiospice.proof.qmp import QmpError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import PairFactory, QemuFactory


@pytest.mark.parametrize("name", ["echo", "quiet"])
def test_a_guest_is_a_boot_sector(name: str) -> None:
    image = guest_image(name).read_bytes()
    assert len(image) == 512
    assert image[510:] == b"\x55\xaa"


@pytest.mark.peers
def test_the_carried_guests_are_what_their_source_assembles_to(tmp_path: Path) -> None:
    if not shutil.which("as") or not shutil.which("ld"):
        raise MissingProgram("as and ld aren't installed: install binutils (Debian)")
    script = guest_image().with_name("build.sh")
    subprocess.run(["sh", script, tmp_path], check=True, stdin=subprocess.DEVNULL)
    for name in ("echo", "quiet"):
        assert (tmp_path / f"{name}.img").read_bytes() == guest_image(name).read_bytes()


async def test_without_qemu_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig, "PROGRAM", "no-such-qemu")
    with pytest.raises(MissingProgram, match="qemu-system-x86"):
        await Qemu().start()


@pytest.mark.peers
async def test_a_wrong_option_is_reported_in_qemus_words(qemu_factory: QemuFactory) -> None:
    with pytest.raises(ConnectError, match="no-such-option: invalid option"):
        await qemu_factory(extra=("-no-such-option",))


@pytest.mark.peers
async def test_the_guest_shows_keys_and_a_quiet_one_keeps_its_screen(
    qemu_factory: QemuFactory,
) -> None:
    qemu = await qemu_factory(guest="quiet", vga="std")
    before = await qemu.screendump()
    assert before.startswith(b"P6\n720 400\n255\n")
    await asyncio.sleep(0.2)
    assert await qemu.screendump() == before
    await qemu.send_key("a")
    while (await qemu.text())[23] != "1e 9e":
        await asyncio.sleep(0.02)
    assert await qemu.screendump() != before


@pytest.mark.peers
async def test_the_guest_echoes_each_byte_in_order(
    qemu_factory: QemuFactory, tmp_path: Path
) -> None:
    path = tmp_path / "serial"
    serial = f"socket,id=echo,path={path},server=on,wait=off"
    await qemu_factory(
        echo_port=None, extra=("-chardev", serial, "-device", "isa-serial,chardev=echo")
    )
    reader, writer = await asyncio.open_unix_connection(str(path))
    sent = bytes(range(256)) * 40
    writer.write(sent)
    got = await asyncio.wait_for(reader.readexactly(len(sent)), 30)
    assert got == sent
    writer.close()


@pytest.mark.peers
async def test_the_counter_runs_in_the_echo_guest(qemu_factory: QemuFactory) -> None:
    qemu = await qemu_factory()
    first = (await qemu.text())[24]
    while (await qemu.text())[24] == first:
        await asyncio.sleep(0.02)


@pytest.mark.peers
async def test_qmp_refusals_events_and_limits(qemu_factory: QemuFactory) -> None:
    qemu = await qemu_factory()
    with pytest.raises(QmpError, match="no-such-command"):
        await qemu.qmp.command("no-such-command")
    await qemu.qmp.command("stop")
    event = await qemu.qmp.wait_event("STOP")
    assert event in qemu.qmp.events
    with pytest.raises(SpiceTimeout, match="RESUME"):
        await qemu.qmp.wait_event("RESUME", timeout=0.05)
    await qemu.quit()
    assert not qemu.running
    with pytest.raises(ConnectError):
        await qemu.qmp.command("query-status")


@pytest.mark.peers
async def test_every_kind_of_listener_starts(qemu_factory: QemuFactory) -> None:
    local = await qemu_factory(unix=True)
    assert local.address == f"spice+unix://{local.unix_path}"
    ticket = await qemu_factory(password="a,b=c")
    assert (await ticket.query_spice())["auth"] == "spice"
    await ticket.set_password("another", expires_in=60)


@pytest.mark.peers
async def test_all_devices_together(qemu_factory: QemuFactory) -> None:
    everything = QemuOptions(
        agent=True, webdav=True, usb_redir=2, smartcard=True, audio=True, tablet=True
    )
    qemu = await qemu_factory(**{name: getattr(everything, name) for name in everything.__slots__})
    assert qemu.running


@pytest.mark.peers
async def test_a_machine_moves_and_keeps_its_screen(qemu_pair: PairFactory) -> None:
    pair = await qemu_pair(guest="quiet")
    await pair.source.send_key("b")
    while (await pair.source.text())[23] != "30 b0":
        await asyncio.sleep(0.02)
    for race in (False, True):
        old = pair.source
        move = await pair.migrate(race=race)
        assert move.status == "completed"
        assert move.announced <= move.started <= move.stopped <= move.resumed
        assert not old.running
        assert (await pair.source.text())[23] == "30 b0"


@pytest.mark.peers
async def test_a_migration_can_be_cancelled_refused_and_its_source_killed(
    qemu_pair: PairFactory,
) -> None:
    pair = await qemu_pair()
    await pair.prepare()
    assert await pair.cancel() == "cancelled"
    assert (await pair.migrate(refuse=True)).status == "completed"
    await pair.prepare()
    await pair.kill_source()
    assert not pair.source.running


@pytest.mark.peers
async def test_a_client_that_never_arrives_has_a_limit(qemu_pair: PairFactory) -> None:
    pair = await qemu_pair()
    with pytest.raises(SpiceTimeout, match="client isn't at the target"):
        await pair.migrate(asyncio.Event().wait, ready_limit=0.05)


@pytest.mark.peers
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_a_qemu_ends_with_its_life(qemu_factory: QemuFactory) -> None:
    qemu = await qemu_factory(life=3)
    while qemu.running:
        await asyncio.sleep(0.02)
