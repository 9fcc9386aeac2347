"""Parts of a server's shell: keys made ahead, what is logged, sockets that are let go of."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import socket
import struct
import threading
import time
from typing import Any

import pytest
from tests.serve_rig import (
    KeysGuest,
    dial,
    eventually,
    link_message,
    port_of,
    rules,
    serving,
)

import aiospice
from aiospice.aio import rehearsal
from aiospice.aio.calm import CALM, Calm
from aiospice.aio.crypto import Crypto
from aiospice.aio.guestevents import EVENT_LIMIT, GuestEvents
from aiospice.aio.keypool import KeyPool, kept_ready, shared_pool
from aiospice.aio.listen import FEW_BYTES, READ_BYTES
from aiospice.aio.serverlog import LINES_PER_SECOND, ServerLog
from aiospice.aio.servershell import CLOSING_LIMIT
from aiospice.channels.events import Event
from aiospice.channels.server.inputs import KeyChanged, MouseMoved, PointerPlaced
from aiospice.errors import RemoteProtocolError
from aiospice.proof.certificates import make_certificates
from aiospice.server.config import Limits, ServerConfig
from aiospice.server.doorkeeper import DoorLimits
from aiospice.server.events import (
    ClientConnected,
    ClientDisconnected,
    ClientRefused,
    DeviceReadable,
    DeviceWritable,
    ServerChannelClosed,
)
from aiospice.wire import inputs

# Keys


async def test_keys_are_made_ahead_and_each_is_handed_out_once() -> None:
    counter = itertools.count()
    pool = KeyPool(lambda: next(counter).to_bytes(4, "big"), ready=4)
    pool.start()
    await eventually(lambda: len(pool) == 4)
    got: list[bytes] = []
    for _ in range(10):
        pool.take(lambda key: got.append(key) or True)  # type: ignore[func-returns-value]
    await eventually(lambda: len(got) == 10)
    assert len(set(got)) == 10
    await eventually(lambda: len(pool) == 4)
    assert pool.made == 14
    pool.close()


async def test_a_key_that_nobody_wants_any_more_is_kept() -> None:
    pool = KeyPool(lambda: b"key", ready=1)
    pool.take(lambda key: False)
    await eventually(lambda: len(pool) == 1)
    assert pool.made == 1
    pool.close()


async def test_a_pool_that_is_closed_gives_nothing_and_does_not_wait() -> None:
    going, made = threading.Event(), threading.Event()

    def make() -> bytes:
        going.wait(10)
        made.set()
        return b"key"

    pool = KeyPool(make)
    got: list[bytes] = []
    pool.take(lambda key: got.append(key) or True)  # type: ignore[func-returns-value]
    pool.close()
    pool.start()
    going.set()
    await asyncio.to_thread(made.wait, 10)
    await asyncio.sleep(0)
    assert not got
    assert not len(pool)


async def test_keys_are_not_made_ahead_while_a_guest_stands_still() -> None:
    calm = CALM
    pool = KeyPool(lambda: b"key", ready=2)
    calm.begin(pool)
    assert not gc.isenabled()
    pool.start()
    got: list[bytes] = []
    pool.take(lambda key: got.append(key) or True)  # type: ignore[func-returns-value]
    await eventually(lambda: len(got) == 1)  # who waits for one gets it
    assert pool.made == 1
    calm.end(pool)
    assert gc.isenabled()
    await eventually(lambda: pool.full)
    pool.close()


async def test_a_pool_that_rests_makes_what_is_waited_for() -> None:
    pool = KeyPool(lambda: b"key", ready=2)
    pool.rest(pool, True)
    got: list[bytes] = []
    pool.take(lambda key: got.append(key) or True)  # type: ignore[func-returns-value]
    await eventually(lambda: len(got) == 1)
    assert pool.full is False
    pool.rest(pool, False)
    await eventually(lambda: pool.full)
    assert pool.made == 3
    pool.close()


async def test_servers_of_a_loop_share_the_keys_that_are_made_ahead() -> None:
    pools = [shared_pool(lambda: b"key") for _ in range(2)]
    pool = pools[0]
    assert pools[1] is pool
    pool.start()
    await eventually(lambda: pool.full)
    assert pool.made == len(pool) == kept_ready(2)
    pool.rest("one", True)
    pool.rest("other", True)
    pool.rest("one", False)
    pool.take(lambda key: True)
    await asyncio.sleep(0)
    assert not pool.full  # the other still wants it to rest
    pool.rest("other", False)
    await eventually(lambda: pool.full)
    pool.close()
    assert len(pool) == kept_ready(2)
    pool.close()
    assert pool.closed
    another = shared_pool(lambda: b"key")
    assert another is not pool
    another.close()


async def test_calm_ends_by_itself_and_once_nobody_wants_it() -> None:
    calm = Calm(0.01)
    calm.begin(1)
    calm.begin(2)
    calm.end(1)
    calm.end(1)
    assert calm
    await eventually(lambda: not calm)
    assert gc.isenabled()


async def test_a_hand_over_is_rehearsed_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[Crypto] = []
    whole = rehearsal._round

    def counted(crypto: Crypto) -> None:
        rounds.append(crypto)
        whole(crypto)

    monkeypatch.setattr(rehearsal, "_round", counted)
    monkeypatch.setattr(rehearsal, "_done", False)
    await asyncio.gather(rehearsal.rehearse(), rehearsal.rehearse())
    assert len(rounds) == rehearsal.ROUNDS


# The log


def refused(number: int) -> ClientRefused:
    return ClientRefused(peer=f"192.0.2.1:{number}", rule="ticket", detail="inputs:0: wrong")


def test_a_flood_of_refusals_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    log = ServerLog(logging.getLogger("test"))
    for number in range(1000):
        log.tell(refused(number), 100.0)
    assert len(caplog.records) == LINES_PER_SECOND
    log.tell(refused(1000), 101.0)
    assert caplog.messages[-2:] == [
        f"{1000 - LINES_PER_SECOND} more links were refused",
        "192.0.2.1:1000: refused (ticket): inputs:0: wrong",
    ]


def test_what_a_peer_chose_stays_on_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = ServerLog(logging.getLogger("test"))
    nasty = "a\nb\x1b[2J" + "x" * 1000
    error = ValueError(nasty)
    log.tell(ClientRefused(peer="p", rule="ticket", detail=nasty), 0.0)
    log.tell(ClientConnected(client=1, peer="p", user=nasty), 0.0)
    log.tell(ClientDisconnected(client=1, peer="p", reason=nasty), 0.0)
    log.tell(ServerChannelClosed(client=1, channel="main:0", peer="p", error=error), 0.0)
    log.tell(ServerChannelClosed(client=1, channel="main:0", peer="p", error=None), 0.0)
    assert len(caplog.messages) == 4
    assert all(message.isprintable() and len(message) < 400 for message in caplog.messages)


# Sockets


async def test_refusals_below_spice_are_told_with_peer_and_reason(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    made = make_certificates(tmp_path)
    files: dict[str, Any] = {"certificate": made.certificate_file, "key": made.key_file}
    async with serving(tls_port=0, **files) as server:
        reader, writer = await dial(server)
        writer.write(link_message())
        await reader.read()
        writer.close()
        await eventually(lambda: rules(server) == ["connection"])
    page = b"GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n"
    async with serving(ws_port=0) as server:
        reader, writer = await dial(server)
        writer.write(page)
        assert (await reader.read()).startswith(b"HTTP/1.1 403 ")
        writer.close()
        await eventually(lambda: rules(server) == ["connection"])
    first, second = (message for message in caplog.messages if "refused" in message)
    assert "refused (connection): the client speaks plain SPICE to a TLS port" in first
    assert "refused (connection): a page of the origin http://evil.example" in second
    assert first.startswith("127.0.0.1:")
    assert first.count("127.0.0.1:") == 1


async def test_who_only_looks_whether_somebody_listens_is_not_held_to_it() -> None:
    async with serving() as server:
        for _ in range(150):
            _, writer = await dial(server)
            writer.close()
            await asyncio.sleep(0)
        await eventually(lambda: server.status()["links"]["half_links"] == 0)
        assert rules(server) == []
        async with aiospice.connect(server.addresses[0]):
            pass


async def test_links_that_are_left_after_their_key_cost_turns() -> None:
    door = DoorLimits(failures=1, failure_seconds=1e6)
    async with serving(config=ServerConfig(limits=Limits(door=door))) as server:
        reader, writer = await dial(server)
        writer.write(link_message())
        assert await reader.read(16)
        writer.close()
        await eventually(lambda: rules(server) == ["left"])
        reader, writer = await dial(server)
        assert not await reader.read()
        writer.close()
        await eventually(lambda: rules(server) == ["left", "failures"])


async def test_clients_that_keep_refused_links_open_hold_a_bounded_number_of_sockets() -> None:
    async with serving() as server:
        held = []
        for _ in range(CLOSING_LIMIT + 20):
            reader, writer = await dial(server)
            writer.write(b"this is no SPICE")
            held.append(writer)
            if not await reader.read():
                break
            assert server.status()["sockets"]["closing"] <= CLOSING_LIMIT + 1
        for writer in held:
            writer.transport.abort()
        await eventually(lambda: server.status()["sockets"] == {"open": 0, "closing": 0})


class SlowGuest(KeysGuest):
    """Takes its time for every key and every motion."""

    def __init__(self) -> None:
        super().__init__()
        self.moved: list[int] = []

    def key(self, code: int, pressed: bool) -> None:
        super().key(code, pressed)
        time.sleep(0.0005)

    def mouse_motion(self, dx: int, dy: int, buttons: int) -> None:
        self.moved.append(dx)
        time.sleep(0.0005)


async def test_a_client_that_floods_is_read_as_the_guest_takes_it_while_others_go_on() -> None:
    guest = SlowGuest()
    async with (
        serving(guest, on_second_client="share") as server,
        aiospice.connect(server.addresses[0]) as flooder,
        aiospice.connect(server.addresses[0]) as other,
    ):
        core: Any = server._shell.core
        sizes: list[int] = []
        real = core.received

        def received(number: int, data: bytes, now: float) -> None:
            sizes.append(len(data))
            real(number, data, now)

        core.received = received
        shell = flooder._shell
        transport = shell._wires[shell.core.at[3, 0]].transport
        assert transport is not None
        down = struct.pack("<HII", 101, 4, 0x1E)
        transport.write(down * 50_000)
        await eventually(lambda: len(guest.keys) > 100)
        before = len(guest.keys)
        await other.keyboard.type("b")
        await eventually(lambda: 0x30 in guest.keys)
        assert guest.keys.index(0x30) - before < EVENT_LIMIT + READ_BYTES // len(down)
        assert max(sizes) <= READ_BYTES
        await eventually(lambda: len(sizes) > 10)
        assert len([size for size in sizes if size > FEW_BYTES]) <= 1
        assert len(server._shell._events) <= EVENT_LIMIT + FEW_BYTES // len(down)


async def test_motion_after_motion_is_added_up_when_much_waits() -> None:
    guest = SlowGuest()
    async with serving(guest) as server, aiospice.connect(server.addresses[0]) as session:
        channel = session._shell.core.channels[3, 0]
        for _ in range(2000):
            channel.send(inputs.MouseMotion(dx=1, dy=1, buttons_state=0))
        session._shell.turn()
        await eventually(lambda: sum(guest.moved) == 2000)
        assert len(guest.moved) < 1000


def test_motions_with_other_buttons_between_stay_apart() -> None:
    told: list[Event] = []
    waiting = GuestEvents(told.append, lambda: 0.0)
    key = KeyChanged(code=1, pressed=True)
    moved = [MouseMoved(dx=1, dy=2, buttons=buttons) for buttons in (0, 0, 1, 1, 0)]
    placed = [PointerPlaced(x=x, y=0, display=0, buttons=0) for x in range(5)]
    elsewhere = PointerPlaced(x=0, y=0, display=1, buttons=0)
    waiting.put([key] * 40)
    waiting.put([*moved, key, *placed, elsewhere])
    waiting.deliver()
    assert told[40:] == [
        MouseMoved(dx=2, dy=4, buttons=0),
        MouseMoved(dx=2, dy=4, buttons=1),
        MouseMoved(dx=1, dy=2, buttons=0),
        key,
        placed[-1],
        elsewhere,
    ]
    assert not len(waiting)


def test_what_is_no_input_does_not_wait_behind_it() -> None:
    told: list[Event] = []
    time = itertools.count()
    waiting = GuestEvents(told.append, lambda: float(next(time)))
    keys = [KeyChanged(code=code, pressed=True) for code in range(1, 4)]
    others = [DeviceReadable(key=(10, 0)), DeviceWritable(key=(10, 0))]
    waiting.put([*keys, *others])
    for expected in ((others[0], keys[0]), (others[1], keys[1]), (keys[2],)):
        told.clear()
        waiting.deliver()
        assert told == list(expected)


@pytest.mark.parametrize("error", [RemoteProtocolError("TLS can't go on"), KeyError("a mistake")])
async def test_what_goes_wrong_with_one_connection_is_its_own_trouble(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    guest = KeysGuest()
    async with (
        serving(guest, on_second_client="share") as server,
        aiospice.connect(server.addresses[0]) as broken,
        aiospice.connect(server.addresses[0]) as other,
    ):
        core: Any = server._shell.core
        session = core.sessions[broken._shell.core.session_id]
        number = session.connections[3, 0].number
        real = core.take

        def take(connection: int) -> Any:
            if connection == number:
                raise error
            return real(connection)

        core.take = take
        assert guest.host is not None
        guest.host.set_locks(1)
        inputs_of_other: Any = other._shell.core.channels[3, 0]
        await eventually(lambda: inputs_of_other.locks == 1)
        await eventually(lambda: (3, 0) not in session.channels)
        assert (1, 0) in session.channels
        assert not other.closed
    assert ("can't be made" in caplog.text) is isinstance(error, KeyError)


async def test_a_client_that_resets_its_connections_is_gone_at_once() -> None:
    guest = KeysGuest()
    async with serving(guest) as server:
        sock = socket.create_connection(("127.0.0.1", port_of(server)))
        sock.send(link_message())
        await eventually(lambda: server.status()["sockets"]["open"] == 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        await eventually(lambda: server.status()["sockets"]["open"] == 0)
        assert server.status()["links"]["half_links"] == 0


async def test_nothing_is_accepted_for_a_moment_when_descriptors_run_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import errno

    from aiospice.aio import listen

    monkeypatch.setattr(listen, "_PAUSE_SECONDS", 0.05)
    async with serving() as server:
        (listener,) = server._listeners
        real, left = listener.sock, [3]

        class Exhausted:
            def fileno(self) -> int:
                return real.fileno()

            def accept(self) -> Any:
                if left[0]:
                    left[0] -= 1
                    raise OSError(errno.EMFILE, "Too many open files")
                return real.accept()

            def close(self) -> None:
                real.close()

        listener.sock = Exhausted()  # type: ignore[assignment]
        async with aiospice.connect(server.addresses[0]):
            pass
        assert not left[0]
    told = [message for message in caplog.messages if "nothing is accepted" in message]
    assert len(told) == 3
