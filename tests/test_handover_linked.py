"""A guest and its clients move between servers that are joined by a link."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.serve_rig import eventually, seen, serving
from tests.test_handover_served import NAME, Moving

import aiospice
from aiospice.aio.coming import Come
from aiospice.aio.control import ControlClient
from aiospice.aio.going import Leave
from aiospice.aio.serve import Server
from aiospice.channels.inputs import InputsChannel
from aiospice.errors import LocalError, StateError
from aiospice.migration.link_source import (
    HandoverFailed,
    HandoverFinished,
    HandoverUncertain,
    SourceLinkPhase,
)
from aiospice.migration.link_target import GuestDropped, TargetDo
from aiospice.migration.peer import LateEnd
from aiospice.migration.source import Policy
from aiospice.proof.certificates import Certificates, make_certificates
from aiospice.server.guest import Guest, Host
from aiospice.server.peering import PeerLink
from aiospice.server.replaying import NotReplayed


@contextlib.asynccontextmanager
async def two(tmp_path: Path, **options: Any) -> AsyncIterator[tuple[Server, Server]]:
    """A server with a guest and one without, with their control sockets."""
    async with (
        serving(Moving(), control=tmp_path / "a", **options) as first,
        serving(Moving(), incoming=True, control=tmp_path / "b", **options) as second,
    ):
        yield first, second


async def moved(source: Server, target: Path | str, **options: Any) -> HandoverFinished:
    """Move the guest; gives how it went."""
    before = len(seen(source, HandoverFinished))
    source.handovers.migrate(str(target), **options)
    await eventually(lambda: source.handovers.leaving is None)
    await eventually(lambda: len(seen(source, HandoverFinished)) > before)
    return seen(source, HandoverFinished)[-1]


@pytest.mark.parametrize("policy", [each.value for each in Policy])
async def test_a_guest_moves_back_and_forth_over_the_control_sockets(
    policy: str, tmp_path: Path
) -> None:
    async with (
        two(tmp_path, password="secret", keep="acks") as (first, second),
        aiospice.connect(first.addresses[0], password="secret") as session,
    ):
        port = await session.port(NAME)
        noise = np.random.default_rng(1)
        here, there = (first, "a"), (second, "b")
        for turn in range(4):
            guest: Any = here[0].guest
            guest.screen.pixels[:] = noise.integers(0, 256, (200, 320, 4), np.uint8)
            guest.screen.update()
            inputs = session._shell.core.channels[3, 0]
            assert isinstance(inputs, InputsChannel)
            inputs.key_down(0x10 + turn)
            session._shell.turn()
            data = noise.bytes(100_000)
            await port.write(data)
            found = await moved(here[0], tmp_path / there[1], policy=policy)
            assert (found.whole, found.anew, found.away, found.missed) == (1, 0, 0, 0)
            assert await port.readexactly(len(data)) == data
            assert there[0].has_guest
            assert not here[0].has_guest
            here, there = there, here
            shown: Any = here[0].guest
            expected = np.ascontiguousarray(shown.screen.pixels[:, :, 2::-1])
            await eventually(partial(_shows, session, expected))
        keys: Any = here[0].guest
        await eventually(lambda: len(keys.keys) == 4)
        assert keys.keys == [(0x10 + turn, True) for turn in range(4)]
        assert not seen(first, NotReplayed)
        assert not seen(second, NotReplayed)


def _shows(session: Any, expected: np.ndarray[Any, np.dtype[np.uint8]]) -> bool:
    return bool((session._shell.core.screens[0].snapshot().array() == expected).all())


async def test_a_guest_without_clients_moves_and_comes_back(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, second):
        for _ in range(2):
            found = await moved(first, tmp_path / "b")
            assert (found.whole, found.away, found.missed) == (0, 0, 0)
            await moved(second, tmp_path / "a")
        async with aiospice.connect(first.addresses[0]) as session:
            guest: Any = first.guest
            guest.screen.pixels[:] = 77
            guest.screen.update()
            port = await session.port(NAME)
            await port.write(b"as ever")
            assert await port.readexactly(7) == b"as ever"
            expected = np.ascontiguousarray(guest.screen.pixels[:, :, 2::-1])
            await eventually(partial(_shows, session, expected))


class Rooted(Moving):
    """Can't move."""

    can_move = False


async def test_a_guest_that_can_not_move_is_not_stopped_for_it(tmp_path: Path) -> None:
    async with serving(Rooted()) as server:
        with pytest.raises(LocalError, match="can't move"):
            server.migrate(str(tmp_path / "b"))
        with pytest.raises(LocalError, match="can't move"):
            await server.prepare_migration("127.0.0.1", 5900)


async def test_a_client_that_does_not_answer_in_time_reconnects(tmp_path: Path) -> None:
    async with (
        two(tmp_path) as (first, second),
        aiospice.connect(first.addresses[0], migrate_to=("elsewhere",)) as session,
    ):
        await session.port(NAME)
        found = await moved(first, tmp_path / "b", ready_seconds=0.5)
        assert (found.whole, found.anew, found.away) == (0, 0, 1)
        assert second.has_guest


async def failed(source: Server, target: Path | str, **options: Any) -> str:
    """Try to move the guest; gives why it stayed. It lives on."""
    source.handovers.migrate(str(target), **options)
    await eventually(lambda: source.handovers.leaving is None)
    await eventually(lambda: seen(source, HandoverFailed))
    assert source.has_guest
    assert source._life is not None
    found = seen(source, HandoverFailed)[-1].reason
    source.seen.clear()  # type: ignore[attr-defined]
    return found


class Other(Moving):
    """Its devices are made in another order, and there is one more."""

    def attach(self, host: Host) -> None:
        self.more = host.port("org.example.more")
        super().attach(host)


class Named(Moving):
    name = "named"


class Without(Guest):
    """Has no device."""


class Crooked(Moving):
    """Remembers what can't move."""

    def freeze(self) -> Any:
        return {"open": object()}


async def test_devices_are_matched_by_their_names(tmp_path: Path) -> None:
    async with (
        serving(Moving(), control=tmp_path / "a") as first,
        serving(Other(), incoming=True, control=tmp_path / "b") as second,
        aiospice.connect(first.addresses[0]) as session,
    ):
        port = await session.port(NAME)
        await port.write(b"before")
        assert (await moved(first, tmp_path / "b")).whole == 1
        await port.write(b" and after")
        assert await port.readexactly(16) == b"before and after"
        names = [device.name for _, device in sorted(second._shell.core.devices.items())]
        assert names == [NAME, "org.example.more"]


@pytest.mark.parametrize(
    ("guest", "told"),
    [
        (Named, "the guest 'aiospice' can't come: here is 'named'"),
        (Without, "comes with a device 'org.example.echo' on channel (10, 0), and here is none"),
    ],
)
async def test_a_guest_that_does_not_fit_stays(
    guest: type[Guest], told: str, tmp_path: Path
) -> None:
    async with (
        serving(Moving()) as first,
        serving(guest(), incoming=True, control=tmp_path / "b") as second,
        aiospice.connect(first.addresses[0]) as session,
    ):
        port = await session.port(NAME)
        assert told in await failed(first, tmp_path / "b")
        await port.write(b"still here")
        assert await port.readexactly(10) == b"still here"
        assert not second.has_guest


async def test_what_can_not_be_told_leaves_the_guest_where_it_is(tmp_path: Path) -> None:
    async with (
        serving(Crooked()) as first,
        serving(Moving(), incoming=True, control=tmp_path / "b") as second,
        serving(Moving(), control=tmp_path / "c"),
        aiospice.connect(first.addresses[0]) as session,
    ):
        port = await session.port(NAME)
        reason = await failed(first, tmp_path / "b")
        assert "Guest.freeze['open'] is a object" in reason
        assert "a guest runs on this server already" in await failed(first, tmp_path / "c")
        assert "No such file" in await failed(first, tmp_path / "nothing")
        assert "no certificate for links" in await failed(first, "tls://127.0.0.1:1")
        await eventually(lambda: seen(second, GuestDropped))
        await port.write(b"still here")
        assert await port.readexactly(10) == b"still here"
        for wrong in ({"policy": "magic"}, {"ready_seconds": 0}):
            with pytest.raises(LocalError):
                first.handovers.migrate("x", **wrong)
        with pytest.raises(StateError, match="isn't here"):
            second.handovers.migrate(str(tmp_path / "c"))
        with pytest.raises(StateError, match="no hand-over"):
            first.handovers.cancel()


async def test_it_is_called_off_while_the_guest_is_here(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, second), aiospice.connect(first.addresses[0]) as session:
        port = await session.port(NAME)
        here, there = (first, "a"), (second, "b")
        for pause in (0.0, 0.002, 0.01, 0.03):
            here[0].handovers.migrate(str(tmp_path / there[1]))
            await asyncio.sleep(pause)
            late = False
            try:
                here[0].handovers.cancel()
            except StateError:
                late = True
            await eventually(partial(_idle, first, second))
            if late:
                here, there = there, here
            await port.write(b"still here")
            assert await port.readexactly(10) == b"still here"
            assert here[0].has_guest
            assert not there[0].has_guest


def _idle(*servers: Server) -> bool:
    return not any(one.handovers.leaving or one.handovers.memory.active for one in servers)


async def test_a_guest_that_is_offered_to_its_own_source_changes_nothing_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go, copy = asyncio.Event(), Leave._copy

    async def wait(self: Leave) -> None:
        if self.server is first:
            await may_go.wait()
        await copy(self)

    monkeypatch.setattr(Leave, "_copy", wait)
    async with (
        two(tmp_path) as (first, second),
        serving(Moving(), control=tmp_path / "c") as third,
        aiospice.connect(first.addresses[0]) as session,
    ):
        port = await session.port(NAME)
        first.handovers.migrate(str(tmp_path / "b"), policy="carry")
        await eventually(lambda: first._shell.core.clients_ready)
        link = first._shell.core.peer
        assert "a guest runs on this server" in await failed(third, tmp_path / "a")
        assert first._shell.core.peer == link
        first.handovers.cancel()
        await eventually(partial(_idle, first, second))
        await eventually(lambda: not second.handovers.coming)
        assert second._shell.core.peer == PeerLink()
        may_go.set()
        done = await moved(first, tmp_path / "b", policy="carry")
        assert (done.whole, done.missed) == (1, 0)
        await port.write(b"still here")
        assert await port.readexactly(10) == b"still here"


async def test_nobody_knows_who_has_the_guest_until_somebody_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiospice.migration.link_source.ASK_SECONDS", 0.5)
    begin = Come.do

    async def die(self: Come, order: Any) -> None:
        if order.do is not TargetDo.RUN:
            await begin(self, order)
            return
        self.unplug()
        assert second._control is not None
        await second._control.close()

    monkeypatch.setattr(Come, "do", die)
    async with (
        two(tmp_path) as (first, second),
        aiospice.connect(first.addresses[0]) as session,
        ControlClient(tmp_path / "a") as control,
    ):
        port = await session.port(NAME)
        await control.ask("migrate", target=str(tmp_path / "b"))
        await eventually(lambda: seen(first, HandoverUncertain))
        status = await control.ask("status")
        assert status["handover"]["to"]["phase"] == "uncertain"
        with pytest.raises(LocalError, match="can't be called off"):
            await control.ask("cancel-migration")
        await control.ask("resume")
        await port.write(b"still here")
        assert await port.readexactly(10) == b"still here"
        assert first.has_guest
        await control.ask("status")
        with pytest.raises(LocalError, match="no hand-over"):
            await control.ask("discard")


# -- by TLS ------------------------------------------------------------------------------------


def tls(folder: Path, own: Certificates, authority: Certificates, **more: Any) -> dict[str, Any]:
    return {
        "migrate_cert": own.certificate_file,
        "migrate_key": own.key_file,
        "migrate_ca": authority.ca_file,
        **more,
    }


async def test_a_guest_moves_by_tls_to_a_server_that_is_known(tmp_path: Path) -> None:
    ours = make_certificates(tmp_path / "ours")
    theirs = make_certificates(tmp_path / "theirs", issuer=ours)
    strange = make_certificates(tmp_path / "strange")
    listen = {"migrate_listen": "tls://127.0.0.1:0"}
    async with (
        serving(Moving(), **tls(tmp_path, ours, ours)) as first,
        serving(Moving(), incoming=True, **tls(tmp_path, theirs, ours, **listen)) as second,
        serving(Moving(), incoming=True, **tls(tmp_path, strange, ours, **listen)) as false,
        serving(Moving(), incoming=True, **tls(tmp_path, theirs, strange, **listen)) as picky,
        aiospice.connect(first.addresses[0]) as session,
    ):
        port = await session.port(NAME)
        assert "local issuer certificate" in await failed(first, address(false))
        assert "the link to tls://" in await failed(first, address(picky))
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of_link(second))
        writer.write(b"\0" * 100)
        with contextlib.suppress(ConnectionError):
            assert b"aiospice" not in await reader.read()
        writer.close()
        assert (await moved(first, address(second))).whole == 1
        await port.write(b"moved")
        assert await port.readexactly(5) == b"moved"
        assert second.has_guest
        assert second.status()["handover"]["listens"] == address(second)


async def test_clients_are_told_the_subject_of_the_targets_certificate(tmp_path: Path) -> None:
    ours = make_certificates(tmp_path / "ours", subject="O=here,CN=a", names=())
    theirs = make_certificates(tmp_path / "theirs", subject="O=there,CN=b", names=(), issuer=ours)

    def options(own: Certificates, name: str) -> dict[str, Any]:
        found = {"certificate": own.certificate_file, "key": own.key_file}
        return {**found, "tls_port": 0, "control": tmp_path / name}

    async with (
        serving(Moving(), **options(ours, "a")) as first,
        serving(Moving(), incoming=True, **options(theirs, "b")) as second,
        aiospice.connect(
            first.addresses[0],
            ca_file=ours.ca_file,
            host_subject="O=here,CN=a",
            migrate_to=["127.0.0.1"],
        ) as session,
    ):
        port = await session.port(NAME)
        assert second.handovers.subject == "O=there,CN=b"
        assert (await moved(first, tmp_path / "b")).whole == 1
        await port.write(b"moved")
        assert await port.readexactly(5) == b"moved"


def address(server: Server) -> str:
    found: str = server.handovers.status()["listens"]
    return found


def port_of_link(server: Server) -> int:
    return int(address(server).rpartition(":")[2])


@pytest.mark.parametrize(
    "options",
    [
        {"migrate_listen": "tls://127.0.0.1:0"},
        {"migrate_cert": "nothing.pem", "migrate_ca": "nothing.pem"},
        {"migrate_cert": "nothing.pem"},
        {"migrate_key": "nothing.pem"},
    ],
)
async def test_options_of_links_that_can_not_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(LocalError):
        async with serving(Moving(), **options):
            pass


async def test_links_are_for_tls_only(tmp_path: Path) -> None:
    own = make_certificates(tmp_path)
    with pytest.raises(LocalError, match="need TLS"):
        async with serving(Moving(), **tls(tmp_path, own, own, migrate_listen="127.0.0.1:0")):
            pass


async def test_what_is_no_link_is_cut(tmp_path: Path) -> None:
    async with serving(Moving(), control=tmp_path / "a", incoming=True) as server:
        for junk in (b"\xff" * 20, b"{}\n", b""):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "a"))
            writer.write(b'{"do": "link"}\n' + junk)
            await reader.readline()
            assert json.loads(await reader.readline())["ok"]
            writer.write_eof()
            async with asyncio.timeout(20):
                await reader.read()
            writer.close()
        await eventually(lambda: not server.handovers.coming)
        async with ControlClient(tmp_path / "a") as control:
            assert not (await control.ask("status"))["handover"]["guest_here"]
            await control.ask("expect-migration", client=7, ticket="secret", timeout=5)
            with pytest.raises(LocalError, match="client can't be"):
                await control.ask("expect-migration", client="7")


async def test_the_last_word_of_the_last_client_is_told_though_it_has_left() -> None:
    said = LateEnd(1, (10, 0), whole=True)
    link = SimpleNamespace(phase=SourceLinkPhase.RUNNING, inbox=[], outbox=[], up=True)
    core = SimpleNamespace(peer_out=[said])
    leave: Any = SimpleNamespace(core=core, link=link, now=lambda: 0.0, completed=True)
    leave._link_up, leave._ready = True, True
    leave._pass_on = lambda: Leave._pass_on(leave)
    leave._follow = lambda: setattr(link, "phase", SourceLinkPhase.OVER)
    Leave.look(leave)
    assert link.outbox == [said]
    assert core.peer_out == []


async def test_what_is_to_be_told_to_the_other_server_does_not_wait_for_something_else() -> None:
    async with serving(Moving()) as server:
        shell = server._shell
        await eventually(lambda: shell._due is None)
        shell.core.peer_out.append(LateEnd(1, (10, 0), whole=True))
        shell._turn_if_needed()
        assert shell._due is not None
        shell.core.peer_out.clear()
