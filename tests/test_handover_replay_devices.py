"""Whatever a client writes and a guest reads around a move by replay: every byte once, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.two_servers import TwoServers

from aiospice.migration.source import Policy
from aiospice.server.config import ServerConfig
from aiospice.server.replaying import NotReplayed

if TYPE_CHECKING:
    from aiospice.server.guest import Host, HostDevice

PORT = "org.example.port"
#: Bytes that look different wherever one begins.
STREAM = b"".join(b"%07x," % number for number in range(100_000))
DEVICES = {9: "usbredir", 10: "port", 11: "webdav"}
#: Bytes that a client writes (often several in a turn), that the guest reads, or a turn of all.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("writes"), st.sampled_from([1, 16_384, 40_000, 400_000])),
        st.tuples(st.just("reads"), st.sampled_from([1, 100, 20_000, 262_144])),
        st.tuples(st.just("turns"), st.just(0)),
    ),
    max_size=20,
)


def machine(host: Host) -> None:
    host.display(0).resize(32, 24)
    for device in (host.usbredir(), host.port(PORT), host.webdav()):
        device.opened = True


def device_of(world: TwoServers, name: str, kind: int) -> HostDevice:
    host = world[name].host
    return host._device(world[name].core.device((kind, 0)))


@pytest.mark.parametrize("kind", DEVICES, ids=DEVICES.values())
@given(keep=st.sampled_from(["tokens", "acks"]), before=STEPS, after=STEPS)
@settings(max_examples=30)
def test_the_guest_reads_every_byte_once(
    kind: int, keep: str, before: list[tuple[str, int]], after: list[tuple[str, int]]
) -> None:
    world = TwoServers(machine, ServerConfig(keep=keep))  # type: ignore[arg-type]
    world.policy = Policy.REPLAY if keep == "tokens" else Policy.ACK
    anna = world.client()
    world.wait(1)
    sent, read = bytearray(), bytearray()

    def play(steps: list[tuple[str, int]], name: str) -> None:
        for what, count in steps:
            if what == "writes":
                piece = (STREAM * 2)[len(sent) % len(STREAM) :][:count]
                sent.extend(piece)
                anna.channel(kind).write(piece)
            elif what == "reads":
                read.extend(device_of(world, name, kind).read(count))
            else:
                world.run()

    play(before, "source")
    world.move("source", "target")
    play(after, "target")
    world.run()
    while piece := device_of(world, "target", kind).read(1 << 20):
        read.extend(piece)
        world.run()
    assert not world["source"].seen(NotReplayed)
    assert read == sent
