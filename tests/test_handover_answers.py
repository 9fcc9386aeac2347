"""A hand-over that is called off while a client connects or answers, and the one after it.

Answers have no number. One that was under way when its question was withdrawn was taken for the
next one's, and the session was sent to a target at which the client no longer was. And a target
that closed and refused connections while a spice-gtk was making them ended that spice-gtk.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
from tests.moving_stage import MovingStage, TwoStages, two_stages
from tests.serve_stage import ECHO
from tests.test_handover_checks import machine, messages, packed
from tests.test_handover_servers import check_screen
from tests.two_servers import TwoServers, WorldClient

from aiospice.channels.server.main import STALE_SECONDS, MainServer, TargetAnswered
from aiospice.migration.client import MigrationFinished
from aiospice.migration.link_source import HandoverFailed
from aiospice.proof.delay import DelayedNetwork
from aiospice.proof.gtkclient import GtkClient
from aiospice.wire import main
from aiospice.wire.message import Message

#: Moments at which the first question is withdrawn, in one-way trips of the client's line.
MOMENTS = [step / 2 for step in range(1, 20)]
TRIP = 0.1
#: The client's link to the target is under way then.
TAKEN = (2.5, 3.0, 3.5, 4.0)


def another(world: TwoServers, anna: WorldClient) -> None:
    """The source calls the hand-over off, and asks anew at once."""
    source, target = world["source"].core, world["target"].core
    source.cancel_migration(world.now)
    target.call_off_arrivals("it was called off", world.now)
    target.target.forget()
    target.expect_migration(anna.core.session_id, now=world.now)
    source.prepare_migration("target", 5900, policy=world.policy, now=world.now)


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("moment", MOMENTS)
def test_an_answer_to_a_question_that_was_withdrawn_is_not_the_next_one_s(
    moment: float, refused: bool
) -> None:
    world = TwoServers(machine, freezes=False, delay=TRIP)
    anna = world.client()
    world.wait(20 * TRIP)
    source, target = world["source"].core, world["target"].core
    target.expect_migration(anna.core.session_id, now=world.now)
    host = "source" if refused else "target"  # which doesn't expect who is there already
    source.prepare_migration(host, 5900, policy=world.policy, now=world.now)
    world.wait(moment * TRIP)
    another(world, anna)
    world.carry("source", "target")
    source.complete_migration(world.now)
    world.wait(60 * TRIP)
    # Whom the first question had sent takes the place that the second one has announced.
    late = not refused and moment in TAKEN
    modes = [event.mode for event in anna.seen(MigrationFinished)]
    assert modes == ["switch-host" if late else "seamless"]
    assert list(target.sessions) == [anna.core.session_id]
    check_screen(world, world["target"], anna)


def main_channel() -> MainServer:
    """An open main channel, with nothing to say."""
    world = TwoServers(machine, freezes=False)
    world.client()
    (session,) = world["source"].core.sessions.values()
    found = session.channels[1, 0]
    assert isinstance(found, MainServer)
    return found


def says(channel: MainServer, *messages: Message, at: float = 1000.0) -> list[int]:
    """What a client's messages give: the numbers of the answers that count."""
    data = b"".join(packed(each.number, each.body()) for each in messages)
    found = channel.receive(data, at)
    return [event.answer for event in found if isinstance(event, TargetAnswered)]


def sent(channel: MainServer) -> list[tuple[int, bytes]]:
    """The messages that the channel has sent since."""
    return messages(channel.take())


BEGIN = main.MigrateBeginSeamless(
    destination=main.DstInfo(port=5900, secure_port=0, host=b"target", cert_subject=b""),
    src_mig_version=main.MIGRATION_VERSION,
)
CONNECTED, WHOLE = main.MigrateConnected(), main.MigrateConnectedSeamless()


def test_each_question_has_its_answer_in_order() -> None:
    channel = main_channel()
    channel.offer(BEGIN)
    channel.withdraw(1000.0)
    channel.offer(BEGIN)
    channel.withdraw(1000.0)
    channel.withdraw(1000.0)
    channel.offer(BEGIN)
    numbers = [number for number, _ in sent(channel)]
    cancel = main.MigrateCancel.number
    assert numbers == [BEGIN.number, cancel, BEGIN.number, cancel, BEGIN.number]
    assert says(channel, WHOLE, CONNECTED) == []
    assert says(channel, WHOLE) == [WHOLE.number]
    assert sent(channel) == []


def test_an_answer_that_never_came_is_not_waited_for_for_ever() -> None:
    channel = main_channel()
    channel.offer(BEGIN)
    channel.withdraw(1000.0)
    channel.offer(BEGIN)
    assert says(channel, WHOLE, at=1000.0 + STALE_SECONDS) == [WHOLE.number]


def test_a_question_that_was_not_asked_yet_needs_no_cancel() -> None:
    channel = main_channel()
    channel.withdraw(1000.0)
    assert sent(channel) == []


def failed(two: TwoStages, times: int, _: MovingStage) -> bool:
    """So many hand-overs have failed."""
    return len(two.events(HandoverFailed)) == times


@pytest.mark.peers
@pytest.mark.net
@pytest.mark.parametrize("policy", ["carry", "direct"])
async def test_spice_gtk_goes_whole_after_moves_that_were_called_off(policy: str) -> None:
    async with AsyncExitStack() as stack:
        net = await stack.enter_async_context(DelayedNetwork(40))
        making = two_stages(MovingStage, host=net.server_address, password="secret")
        two = await stack.enter_async_context(making)
        where: dict[str, Any] = {"port": two.port, "prefix": net.command(), "password": "secret"}
        gtk = await stack.enter_async_context(GtkClient(net.server_address, **where))
        await gtk.opened("main:0", "display:0", "inputs:0", "port:0")
        await gtk.wait("port", name=ECHO, opened=True)
        for turn, seconds in enumerate((0.02, 0.06, 0.1, 0.2, 0.3, 0.5), 1):
            two.here.migrate(str(two.folder / "1.sock"), policy)
            await asyncio.sleep(seconds)
            two.here.handovers.cancel()
            await two.until(lambda _: two.here.handovers.leaving is None, "the end of it")
            await two.until(partial(failed, two, turn), "its stay")
            await gtk.do("port_write", name=ECHO, data=b"%d" % turn)
            await asyncio.sleep(0.5)  # a link that is under way would take the next one's place
        await two.move(policy)
        await gtk.do("port_write", name=ECHO, data=b"moved")
        await two.until(lambda guest: guest.port_heard == b"123456moved", "all bytes")
        two.all_went_whole()
        assert gtk.complaints() == []
