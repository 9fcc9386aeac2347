"""Hand-overs as conversations between two or three servers and a session: the good ways."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from tests.script import Play, Server, channel_key, destination, key_downs, record_of, surface

from aiospice.channels.inputs import InputsChannel
from aiospice.channels.main import MainChannel
from aiospice.channels.vmc import DeviceData, PortChannel, PortOpened
from aiospice.client.moving import BytesAtRisk, ChannelGone
from aiospice.client.screen import SurfaceCreated, SurfaceDestroyed
from aiospice.client.session import SessionEnded, SessionPhase
from aiospice.migration.client import (
    ChannelMoved,
    MigrationFinished,
    MigrationPhase,
    MigrationReady,
    MigrationStarted,
)
from aiospice.migration.links import PARKED_LIMIT
from aiospice.wire import common, display, inputs, main, vmc
from aiospice.wire.caps import MainCap

NAMES = ("display:0", "inputs:0", "cursor:0", "port:0")


@pytest.fixture(params=[0, 1], ids=["whole", "bytewise"])
def play(request: pytest.FixtureRequest) -> Play:
    return Play(cut=request.param)


def pair(play: Play, *names: str) -> tuple[Server, Server]:
    source, target = play.server("source"), play.server("target", 5901)
    play.connect(source, *(names or NAMES))
    return source, target


def port(play: Play) -> PortChannel:
    found = play.core.channels[10, 0]
    assert isinstance(found, PortChannel)
    return found


def board(play: Play) -> InputsChannel:
    found = play.core.channels[3, 0]
    assert isinstance(found, InputsChannel)
    return found


def ping(number: int = 1) -> common.Ping:
    return common.Ping(id=number, timestamp=1, data=b"")


def on(play: Play, server: Server) -> bool:
    """Everything is on ``server``, and nothing is open elsewhere."""
    return all(peer.server is server for peer in play.peers.values()) and set(play.core.at) == set(
        play.core.channels
    )


# -- seamless --------------------------------------------------------------------------------------


def test_a_seamless_hand_over_step_by_step(play: Play) -> None:
    source, target = pair(play)
    source.display.sends(surface(8, 8))
    play.sees(SurfaceCreated)
    play.begin(source, target)
    play.sees(MigrationStarted, number=1, seamless_offered=True)
    assert target.peers[1, 0].link.request is not None
    assert {peer.link.request.connection_id for peer in target.all if peer.link.request} == {
        source.session_id
    }
    target.main.gets(main.MigrateDstDoSeamless, src_version=1)
    source.main.gets_nothing()
    play.wait(1)
    target.main.sends(main.MigrateDstSeamlessAck())
    source.main.gets(main.MigrateConnectedSeamless)
    play.sees(MigrationReady, mode="seamless", seconds=1.0)
    play.hand_over(source, target, *NAMES, "main:0")
    assert [event.channel for event in play.happened(ChannelMoved)] == [*NAMES, "main:0"]
    play.sees(MigrationFinished, mode="seamless", number=1, bytes_at_risk=0)
    assert on(play, target)
    target.display.gets(display.PreferredCompression)
    for name in (*NAMES, "main:0"):
        target[name].gets_nothing()
    play.sees_no(SurfaceDestroyed)
    assert play.core.screens[0].snapshot().width == 8
    assert play.core.phase is SessionPhase.UP
    assert play.core.next_wake() is None


@pytest.mark.parametrize("flags", list(itertools.permutations(range(4))))
def test_all_flags_on_different_channels(flags: tuple[int, ...]) -> None:
    play = Play(cut=3)
    source, target = pair(play)
    play.prepare(source, target)
    for name, value in zip(NAMES, flags, strict=True):
        play.move(source, target, name, value)
    play.move(source, target, "main:0")
    play.sees(MigrationFinished, mode="seamless")
    for name, value in zip(NAMES, flags, strict=True):
        marks = [m for m in source[name].log if isinstance(m, common.MigrateFlushMark)]
        records = [m for m in target[name].log if isinstance(m, common.ClientMigrateData)]
        assert (len(marks), len(records)) == (value & 1, value >> 1)


@pytest.mark.parametrize(
    "order", list(itertools.permutations(("display:0", *NAMES[1:3], "main:0")))
)
def test_every_order_of_migrate_over_the_channels(order: tuple[str, ...]) -> None:
    play = Play()
    source, target = pair(play, *(name for name in NAMES[:3]))
    play.prepare(source, target)
    for name in order:
        source[name].post(common.Migrate.number, common.Migrate(flags=3).body())
    play.run()
    for name in order:
        source[name].gets(common.MigrateFlushMark)
        source[name].gets_nothing()
    for name in reversed(order):
        source[name].sends(common.MigrateData(data=record_of(name)))
        target[name].gets(common.ClientMigrateData, data=record_of(name))
    play.sees(MigrationFinished, mode="seamless")
    assert on(play, target)


def test_the_queue_goes_to_the_target_behind_the_record_in_order_and_complete(play: Play) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    source.inputs.deaf = source.port.deaf = True
    for code in range(1, 20):
        board(play).key_down(code)
    port(play).write(b"a" * 50_000)
    source.inputs.sends(common.Migrate(flags=3))
    source.port.sends(common.Migrate(flags=3))
    source.inputs.deaf = source.port.deaf = False
    play.run()
    sent = key_downs(source.inputs.log)
    data = b"".join(m.data for m in source.port.log if isinstance(m, vmc.ClientData))
    assert isinstance(source.inputs.log[-1], common.MigrateFlushMark)
    assert isinstance(source.port.log[-1], common.MigrateFlushMark)
    source.inputs.sends(common.MigrateData(data=record_of("inputs")))
    source.port.sends(common.MigrateData(data=record_of("port")))
    target.inputs.gets(common.ClientMigrateData)
    target.port.gets(common.ClientMigrateData)
    assert sent + key_downs(target.inputs.log) == list(range(1, 20))
    data += b"".join(m.data for m in target.port.log if isinstance(m, vmc.ClientData))
    assert data == b"a" * 50_000


def test_only_the_flush_mark_follows_migrate_to_the_source(play: Play) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    source.inputs.sends(common.Migrate(flags=3))
    for code in (1, 2, 3):
        board(play).key_down(code)
    board(play).motion(5, 5)
    play.run()
    source.inputs.gets(common.MigrateFlushMark)
    source.inputs.gets_nothing()
    source.inputs.sends(common.MigrateData(data=record_of("inputs")))
    target.inputs.gets(common.ClientMigrateData)
    assert key_downs(target.inputs.inbox) == [1, 2, 3]  # type: ignore[arg-type]
    assert isinstance(target.inputs.skip()[-1], inputs.MouseMotion)


def test_answers_for_the_source_do_not_go_to_the_target(play: Play) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    source.display.deaf = True
    source.display.sends(common.SetAck(generation=9, window=1), ping(7), common.Migrate(flags=3))
    source.display.deaf = False
    play.run()
    got = [type(message) for message in source.display.skip()]
    assert got[-1] is common.MigrateFlushMark
    source.display.sends(common.MigrateData(data=b"record"))
    target.display.gets(common.ClientMigrateData, data=b"record")
    target.display.gets(display.PreferredCompression)
    target.display.gets_nothing()
    # nor does the window of the source hold there
    target.display.sends(ping(1), ping(2))
    target.display.gets(common.Pong, id=1)
    target.display.gets(common.Pong, id=2)
    target.display.gets_nothing()


def test_what_the_target_says_before_the_switch_is_handled_behind_the_record(play: Play) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    target.display.sends(common.SetAck(generation=3, window=2), ping(5), surface(2, 2, 7))
    target.main.sends(ping(6), main.MultiMediaTime(time=99))
    target.port.sends(vmc.PortInit(name=b"name of port:0", opened=1))
    for name in ("display:0", "main:0", "port:0"):
        target[name].gets_nothing()
    play.sees_no(SurfaceCreated)
    play.hand_over(source, target, "display:0")
    target.display.gets(common.AckSync, generation=3)
    target.display.gets(common.Pong, id=5)
    play.sees(SurfaceCreated)
    play.hand_over(source, target, "inputs:0", "cursor:0", "port:0", "main:0")
    target.main.gets(common.Pong, id=6)
    play.sees(MigrationFinished)
    assert len(play.happened(PortOpened)) == 1
    play.sees_no(ChannelGone)


def test_messages_before_the_targets_answer_wait_in_order(play: Play) -> None:
    source, target = pair(play)
    play.begin(source, target)
    target.main.gets(main.MigrateDstDoSeamless)
    target.main.sends(ping(1), ping(2), main.MigrateDstSeamlessAck(), ping(3))
    source.main.gets(main.MigrateConnectedSeamless)
    play.hand_over(source, target, *NAMES, "main:0")
    assert [target.main.gets(common.Pong).id for _ in range(3)] == [1, 2, 3]


def test_a_target_that_talks_too_much_before_the_switch_is_not_read() -> None:
    play = Play()
    source, target = pair(play)
    play.prepare(source, target)
    target.port.sends(*[vmc.Data(data=bytes(1 << 16))] * 16)
    assert target.port.paused
    link = play.core.migration.links[10, 0]
    assert link.framing is not None
    assert link.framing.buffered <= PARKED_LIMIT + (64 << 10)
    play.hand_over(source, target, "port:0")
    assert not target.port.paused
    assert sum(len(event.data) for event in play.happened(DeviceData)) == 1 << 20


def test_a_channel_whose_data_nobody_takes_still_moves(play: Play) -> None:
    source, target = pair(play)
    play.core.stop_reading((10, 0))
    play.prepare(source, target)
    assert source.port.paused
    source.port.sends(vmc.Data(data=b"late"), common.Migrate(flags=3))
    source.display.sends(common.Migrate(flags=3))
    source.port.gets(common.MigrateFlushMark)
    source.port.sends(common.MigrateData(data=record_of("port")))
    play.sees(DeviceData, data=b"late")
    assert target.port.paused  # nobody takes what comes there either
    play.core.go_on_reading((10, 0))
    play.run()
    assert not target.port.paused


def test_state_of_the_devices_goes_on(play: Play) -> None:
    source, target = pair(play)
    source.main.sends(main.AgentConnectedTokens(num_tokens=3))
    source.main.gets(main.AgentStart)
    agent = play.core.channels[1, 0]
    assert isinstance(agent, MainChannel)
    for _ in range(5):
        agent.agent_send(b"x")
    board(play).motion(1, 1)
    play.run()
    assert len(source.main.skip()) == 3
    play.prepare(source, target)
    play.core.channels[3, 0].send(inputs.KeyDown(code=1))
    play.run()
    source.inputs.skip()
    play.hand_over(source, target, *NAMES, "main:0")
    target.main.gets_nothing()
    target.main.sends(main.AgentToken(num_tokens=1))
    target.main.gets(main.ClientAgentData, data=b"x")
    target.main.gets_nothing()
    for _ in range(10):
        board(play).motion(1, 1)
    play.run()
    assert len(target.inputs.skip()) == 7  # one of eight was counted by the source
    target.inputs.sends(inputs.MouseMotionAck())
    assert len(target.inputs.skip()) == 1


def test_what_a_record_proves_is_not_at_risk(play: Play) -> None:
    source, target = pair(play)
    port(play).write(b"x" * 1000)
    play.run()
    source.port.skip()
    assert port(play).bytes_at_risk == 1000
    play.prepare(source, target)
    source.port.sends(common.Migrate(flags=3))
    source.port.gets(common.MigrateFlushMark)
    source.port.sends(common.MigrateData(data=record_of("port", b"x" * 30)))
    assert port(play).bytes_at_risk == 30


def test_the_serial_counts_on_over_a_seamless_move(play: Play) -> None:
    source, target = pair(play)
    source.display.sends(ping(), ping())
    source.display.skip()
    play.prepare(source, target)
    play.hand_over(source, target, "display:0")
    assert play.core.channels[2, 0].serial == 4  # with MIGRATE and MIGRATE_DATA
    target.display.sends(ping())
    assert play.core.channels[2, 0].serial == 5


@pytest.mark.parametrize("mini", [(False, True), (True, False), (False, False)])
def test_source_and_target_may_use_different_headers(mini: tuple[bool, bool]) -> None:
    play = Play(cut=5)
    source, target = play.server("source"), play.server("target", 5901)
    source.mini_header(mini[0])
    target.mini_header(mini[1])
    play.connect(source, *NAMES)
    play.prepare(source, target)
    play.hand_over(source, target, *NAMES, "main:0")
    target.cursor.sends(ping(3))
    target.cursor.gets(common.Pong, id=3)
    play.sees(MigrationFinished)


def test_three_migrations_in_a_row_and_back_home(play: Play) -> None:
    servers = [play.server(name, 5900 + at) for at, name in enumerate(("a", "b", "c"))]
    play.connect(servers[0], *NAMES)
    for number in range(1, 4):
        source, target = servers[(number - 1) % 3], servers[number % 3]
        port(play).write(b"%d" % number)
        play.run()
        source.port.gets(vmc.ClientData, data=b"%d" % number)
        source.display.skip()
        play.prepare(source, target)
        play.hand_over(source, target, *NAMES, "main:0")
        play.sees(MigrationFinished, number=number, mode="seamless")
        assert on(play, target)
    assert play.core.config.host == "a"


def test_a_second_migration_is_postponed_until_the_first_is_complete(play: Play) -> None:
    first, second = pair(play)
    third = play.server("third", 5902)
    play.prepare(first, second)
    play.hand_over(first, second, "main:0")
    play.begin(second, third)
    assert not third.all
    play.hand_over(first, second, *NAMES)
    play.sees(MigrationFinished, number=1)
    play.sees(MigrationStarted, number=2, target="third, port 5902")
    third.main.gets(main.MigrateDstDoSeamless)
    third.main.sends(main.MigrateDstSeamlessAck())
    second.main.gets(main.MigrateConnectedSeamless)
    second.display.skip()
    play.hand_over(second, third, *NAMES, "main:0")
    play.sees(MigrationFinished, number=2)
    assert on(play, third)


def test_a_postponed_migration_can_be_called_off_and_nothing_else_is(play: Play) -> None:
    first, second = pair(play)
    third = play.server("third", 5902)
    play.prepare(first, second)
    play.hand_over(first, second, "main:0", "port:0")
    play.begin(second, third)
    second.main.sends(main.MigrateCancel())
    play.hand_over(first, second, "display:0", "inputs:0", "cursor:0")
    play.sees(MigrationFinished, number=1)
    assert on(play, second)
    assert not third.all


def test_a_channel_still_being_opened_when_the_others_move_is_opened_on_the_target(
    play: Play,
) -> None:
    source, target = play.server("source"), play.server("target", 5901)
    source.silent.add(channel_key("cursor"))
    play.start(source)
    source.main.sends(source.init())
    source.main.gets(main.AttachChannels)
    source.lists("inputs:0", "cursor:0")
    play.prepare(source, target)
    play.hand_over(source, target, "inputs:0", "main:0")
    play.sees(MigrationFinished)
    assert target.cursor.link.request is not None
    assert target.cursor.link.request.connection_id == play.core.session_id
    assert on(play, target)


# -- semi-seamless ---------------------------------------------------------------------------------


def semi(play: Play, source: Server, target: Server, how: str) -> None:
    """Everything up to the answer to the source."""
    if how == "101":
        source.main.sends(main.MigrateBegin(destination=destination(target)))
    else:
        if how == "no cap":
            target.caps[1] = (MainCap.SEMI_SEAMLESS_MIGRATE,)
        play.begin(source, target)
        if how == "nack":
            target.main.gets(main.MigrateDstDoSeamless)
            target.main.sends(main.MigrateDstSeamlessNack())
    source.main.gets(main.MigrateConnected)
    play.sees(MigrationReady, mode="semi-seamless")


@pytest.mark.parametrize("how", ["101", "nack", "no cap"])
def test_a_semi_seamless_move_begins_anew_on_links_that_are_there(play: Play, how: str) -> None:
    source, target = pair(play)
    source.display.sends(surface())
    board(play).key_down(30)
    port(play).write(b"hello")
    play.run()
    semi(play, source, target, how)
    links = len(play.opened)
    source.main.sends(main.MigrateEnd())
    target.main.gets(main.ClientMigrateEnd)
    target.display.gets_nothing()
    target.main.sends(target.init(session_id=source.session_id))
    target.main.gets_nothing()  # no ATTACH_CHANNELS: they are attached
    target.display.gets(display.Init)
    target.display.gets(display.PreferredCompression)
    (risk,) = play.happened(BytesAtRisk)
    assert (risk.channel, risk.to_guest) == ("port:0", 5)
    assert play.happened(SurfaceDestroyed)
    play.sees(MigrationFinished, mode="semi-seamless", bytes_at_risk=5)
    assert on(play, target)
    assert len(play.opened) == links
    # the port waits for the new server's word
    port(play).write(b"more")
    play.run()
    target.port.gets_nothing()
    target.port.sends(vmc.PortInit(name=b"name of port:0", opened=1))
    target.port.gets(vmc.ClientData, data=b"more")
    assert play.core.next_wake() is None


def test_a_channel_lost_on_the_source_does_not_hinder_a_semi_seamless_move(play: Play) -> None:
    source, target = pair(play)
    semi(play, source, target, "101")
    source.cursor.closes()
    play.sees(ChannelGone, channel="cursor:0")
    source.main.sends(main.MigrateEnd())
    target.main.sends(target.init(session_id=source.session_id))
    play.sees(MigrationFinished, mode="semi-seamless")
    assert on(play, target)
    assert (4, 0) not in play.core.channels


# -- switch-host -----------------------------------------------------------------------------------


def start_over(play: Play, target: Server, *names: str, **init: Any) -> None:
    """The client comes as a new one."""
    assert target.main.link.request is not None
    assert target.main.link.request.connection_id == 0
    target.main.sends(target.init(**init))
    target.main.gets(main.AttachChannels)
    target.lists(*names)


@pytest.mark.parametrize("when", ["idle", "connecting", "ready"])
def test_switch_host_starts_over_on_the_target(play: Play, when: str) -> None:
    source, target = pair(play)
    port(play).write(b"hello")
    play.run()
    if when == "connecting":
        play.begin(source, target)
    elif when == "ready":
        play.prepare(source, target)
    source.main.sends(main.MigrateSwitchHost(destination=destination(target)))
    start_over(play, target, *NAMES)
    target.display.gets(display.Init)
    finished = play.sees(MigrationFinished, mode="switch-host", number=1, bytes_at_risk=5)
    assert finished.pause <= finished.seconds
    assert on(play, target)
    assert play.core.session_id == target.session_id != source.session_id
    play.wait(60)
    play.sees_no(SessionEnded)
    assert play.core.next_wake() is None


def test_the_machine_is_faster_than_the_client(play: Play) -> None:
    """SWITCH_HOST while the links are on their way; what comes of them later does no harm."""
    source, target = pair(play)
    target.silent = {channel_key("cursor")}
    play.begin(source, target)
    target.main.gets(main.MigrateDstDoSeamless)
    old = list(play.peers.values())
    source.main.sends(main.MigrateSwitchHost(destination=destination(target)))
    assert all(peer.left for peer in old if peer.server is target)
    target.silent = set()
    start_over(play, target, *NAMES)
    play.sees(MigrationFinished, mode="switch-host")
    assert on(play, target)
    # and the next one works (in spice-gtk the clone that stays behind forbids it)
    third = play.server("third", 5902)
    target.display.skip()
    play.prepare(target, third)
    play.hand_over(target, third, *NAMES, "main:0")
    play.sees(MigrationFinished, mode="seamless", number=2)


def test_what_the_source_still_sends_is_read_while_the_session_starts_over(play: Play) -> None:
    source, target = pair(play)
    source.main.sends(main.MigrateSwitchHost(destination=destination(target)))
    source.port.sends(vmc.Data(data=b"the last words"))
    play.sees(DeviceData, data=b"the last words")
    start_over(play, target, *NAMES)
    play.sees(MigrationFinished)


def test_a_target_that_is_not_there_yet_is_tried_again(play: Play) -> None:
    source, target = pair(play)
    target.unreachable = True
    source.main.sends(main.MigrateSwitchHost(destination=destination(target)))
    play.wait(3)
    play.sees_no(SessionEnded)
    target.unreachable = False
    play.wait(1)
    start_over(play, target, *NAMES)
    play.sees(MigrationFinished, mode="switch-host")


def test_sent_on_while_starting_over(play: Play) -> None:
    source, target = pair(play)
    third = play.server("third", 5902)
    target.silent = {channel_key("cursor")}
    source.main.sends(main.MigrateSwitchHost(destination=destination(target)))
    start_over(play, target, *NAMES)
    target.main.sends(main.MigrateSwitchHost(destination=destination(third)))
    start_over(play, third, *NAMES)
    play.sees(MigrationFinished, mode="switch-host")
    assert on(play, third)


def test_a_channel_that_the_new_server_lacks_is_told(play: Play) -> None:
    source, target = pair(play)
    source.main.sends(main.MigrateSwitchHost(destination=destination(target)))
    start_over(play, target, "display:0", "inputs:0", "port:0", "record:0")
    play.sees(ChannelGone, channel="cursor:0")
    play.sees(MigrationFinished)
    assert (6, 0) in play.core.channels
    assert on(play, target)
    assert play.core.migration.phase is MigrationPhase.IDLE
