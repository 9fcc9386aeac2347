"""Any record, changed anyhow, is refused or leaves a server that keeps its own rules."""

from __future__ import annotations

from struct import pack_into

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.test_handover_checks import PORT, on_the_way, packed, serves, world_with_agent
from tests.two_servers import Node, TwoServers

from aiospice.channels.server.base import ServerPhase
from aiospice.channels.server.inputs import KEYS_DOWN_LIMIT, InputsServer
from aiospice.devices.chardev import CharDevice, Origin
from aiospice.errors import RemoteProtocolError
from aiospice.server.core import ServerCore
from aiospice.server.events import ClientDisconnected, ServerChannelClosed
from aiospice.wire import main
from aiospice.wire.agent import AgentType
from aiospice.wire.agent_stream import CHUNK_HEADER, HEADER, pack_message
from aiospice.wire.handover import MAX_SURFACES

#: A byte changed, a field of 32 bits set to what is tempting, bytes cut off or added.
BYTE = st.tuples(st.just("byte"), st.integers(0, 400), st.integers(0, 255))
WORD = st.tuples(
    st.just("word"),
    st.integers(0, 100),
    st.sampled_from([0, 1, 2, 8, 9, 19, 33, 65, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]),
)
CUT = st.tuples(st.just("cut"), st.integers(0, 100), st.just(0))
MORE = st.tuples(st.just("more"), st.integers(1, 64), st.integers(0, 255))
CHANGES = st.lists(st.one_of(BYTE, WORD, CUT, MORE), min_size=1, max_size=4)
FORBIDDEN = {
    int(kind) for kind in AgentType if "CLIPBOARD" in kind.name or "FILE_XFER" in kind.name
}


def changed(body: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    """A record that somebody had their hands on."""
    found = bytearray(body)
    for what, place, value in changes:
        if what == "byte" and place < len(found):
            found[place] = value
        elif what == "word" and place + 4 <= len(found):
            pack_into("<I", found, place, value)
        elif what == "cut":
            del found[len(found) - place :]
        elif what == "more":
            found += bytes([value]) * place
    return bytes(found)


@pytest.mark.parametrize(
    "kind", [1, 2, 3, 8, 10], ids=["main", "display", "inputs", "card", "port"]
)
@given(changes=CHANGES)
@settings(max_examples=40)
def test_a_changed_record_is_refused_or_does_no_harm(
    kind: int, changes: list[tuple[str, int, int]]
) -> None:
    world, anna = world_with_agent(copy_paste=False, file_transfer=False, lossy="always")
    on_the_way(world, "target", kind, 5, lambda body: packed(5, changed(body, changes)))

    def meanwhile() -> None:
        """Something is in each record."""
        anna.channel(10).write(b"to the port")
        reply = pack_message(AgentType.REPLY, bytes(60))
        anna.channel(1).send(main.ClientAgentData(data=reply))
        anna.channel(1).send(main.ClientAgentData(data=reply[:50]))
        anna.channel(3).motion(1, 2)
        anna.channel(3).key_down(0x1E)
        world.run()

    world.move("source", "target", meanwhile)
    world.wait(1.5)
    target = world["target"]
    for ended in target.seen(ClientDisconnected):
        assert " of 10.0.0.1" in ended.reason, "it names the channel and the client"
    for event in target.seen(ServerChannelClosed):
        assert event.error is None or isinstance(event.error, RemoteProtocolError)
    check_rules(target)
    if not target.seen(ClientDisconnected):
        target.events.clear()
        anna.channel(3).key_up(0x1E)
        world.run()
        assert serves(target, world, anna)
        check_rules(target)
    world.forge = lambda line, data: data
    target.core.disconnect(anna.core.session_id, "enough", world.now)
    check_rules(target)
    agent_is_told_nothing_forbidden(world)
    assert len(target.host.port(PORT).read()) <= len(b"to the port")


def check_rules(node: Node) -> None:
    """What always holds in a server."""
    core = node.core
    for device in (core.agent.core, *(each.core for each in core.devices.values())):
        check_device(device)
    for session in core.sessions.values():
        for held in session.helds.values():
            for number, plane in held.planes.items():
                assert number < MAX_SURFACES or not plane.created
                for left, top, right, bottom in (*plane.lossy, *plane.dirty):
                    assert 0 <= left <= right <= plane.width
                    assert 0 <= top <= bottom <= plane.height
        caches = session.caches
        assert 0 <= caches.pixels <= max(caches.limit, 0) <= 1 << 30
        assert caches.window <= 1 << 25
        inputs = session.channels.get((3, 0))
        if isinstance(inputs, InputsServer):
            assert len(inputs.keys_down) <= KEYS_DOWN_LIMIT
            assert inputs.motion_count < 4 or inputs.phase is not ServerPhase.OPEN
    check_arrivals(core)


def check_device(device: CharDevice) -> None:
    assert device.unread_bytes == sum(len(each.data) for each in device.buffers) - device.taken
    assert device.taken <= (len(device.buffers[0].data) if device.buffers else 0)
    assert device.self_tokens <= device.rules.self_tokens
    for buffer in device.buffers:
        assert buffer.origin is not Origin.CLIENT or buffer.client in device.clients
    for client in device.clients.values():
        if client.flow_control:
            assert min(client.tokens, client.free) >= 0
            spent = device.unread_price(client.id)
            assert client.tokens + client.free + spent == client.window
            assert 0 <= client.send_tokens <= 0xFFFFFFFF


def check_arrivals(core: ServerCore) -> None:
    assert set(core.target.arrivals) <= set(core.sessions)
    if not core.target.arrivals:
        assert not any(device.core.waiting for device in core.devices.values())


def agent_is_told_nothing_forbidden(world: TwoServers) -> None:
    """What the guest reads is made of whole chunks, and of messages that may pass."""
    data = world["target"].host.agent().read(1 << 20)
    streams: dict[int, bytes] = {1: b"", 2: b""}
    while data:
        port, size = CHUNK_HEADER.unpack_from(data)
        assert len(data) >= CHUNK_HEADER.size + size
        streams[port] += data[CHUNK_HEADER.size :][:size]
        data = data[CHUNK_HEADER.size + size :]
    for stream in streams.values():
        while len(stream) >= HEADER.size:
            _, kind, _, size = HEADER.unpack_from(stream)
            assert kind not in FORBIDDEN
            stream = stream[HEADER.size + size :]
