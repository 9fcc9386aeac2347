"""Hand-overs that go wrong: cancelled, refused, cut off, too late, or led astray on purpose.

The rule: the session goes on with the source, or with the target, or it ends with an error that
says why. It never hangs, and no channel stays where nobody is.
"""

from __future__ import annotations

import pytest
from tests.script import Play, channel_key, destination, record_of, surface
from tests.script_moves import NAMES, abandoned, pair, ping, port, start_over, works

from aiospice.channels.inputs import InputsChannel
from aiospice.channels.vmc import DeviceData
from aiospice.client.moving import ChannelGone
from aiospice.client.screen import SurfaceCreated
from aiospice.client.session import SessionEnded, SessionPhase
from aiospice.errors import RemoteProtocolError, SessionLost
from aiospice.migration.client import (
    MigrationAbandoned,
    MigrationCancelled,
    MigrationFinished,
    MigrationPhase,
)
from aiospice.wire import common, main, vmc
from aiospice.wire.common import LinkCode


@pytest.fixture(params=[0, 1], ids=["whole", "bytewise"])
def play(request: pytest.FixtureRequest) -> Play:
    return Play(cut=request.param)


# -- cancelled -------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["opening", "linking", "answer", "ready"])
def test_a_cancel_before_any_migrate_leaves_everything_as_it_was(play: Play, when: str) -> None:
    source, target = pair(play)
    if when == "opening":
        target.black_hole = True
    elif when == "linking":
        target.silent = {channel_key(name) for name in NAMES}
    if when == "ready":
        play.prepare(source, target)
    else:
        play.begin(source, target)
    source.main.sends(main.MigrateCancel())
    play.sees(MigrationCancelled, number=1)
    works(play, source)
    play.wait(60)
    assert not play.opening
    play.sees_no(MigrationAbandoned)
    target.black_hole, target.silent = False, set()
    play.prepare(source, target)
    play.hand_over(source, target, *NAMES, "main:0")
    play.sees(MigrationFinished, number=2)


@pytest.mark.parametrize("step", ["migrate", "mark", "data", "two moved", "all but main"])
def test_a_cancel_after_migrate_brings_every_channel_back(play: Play, step: str) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    board = play.core.channels[3, 0]
    assert isinstance(board, InputsChannel)
    if step == "migrate":
        source.port.deaf = True
        source.port.sends(common.Migrate(flags=1))
    elif step == "mark":
        source.port.sends(common.Migrate(flags=3))
    elif step == "data":
        play.move(source, target, "port:0")
    elif step == "two moved":
        play.hand_over(source, target, "port:0", "display:0")
    else:
        play.hand_over(source, target, *NAMES)
    port(play).write(b"written meanwhile")
    source.main.sends(main.MigrateCancel())
    source.port.deaf = False
    play.run()
    play.sees(MigrationCancelled)
    assert play.core.migration.phase is MigrationPhase.IDLE
    got = b"".join(
        message.data
        for peer in (source.port, *([target.port] if step not in ("migrate", "mark") else []))
        for message in peer.log
        if isinstance(message, vmc.ClientData)
    )
    assert got == b"written meanwhile"
    works(play, source)


def test_what_the_source_says_before_its_cancel_is_read_is_not_lost(play: Play) -> None:
    """Connections have no order among each other: data may come before the CANCEL of main."""
    source, target = pair(play)
    play.prepare(source, target)
    play.move(source, target, "port:0")
    source.display.deaf = True
    source.display.sends(common.Migrate(flags=1))
    source.port.sends(vmc.Data(data=b"the guest "), vmc.Data(data=b"goes on"))
    source.display.sends(surface())
    play.sees_no(SurfaceCreated)
    source.main.sends(main.MigrateCancel())
    source.display.deaf = False
    play.run()
    assert b"".join(event.data for event in play.happened(DeviceData)) == b"the guest goes on"
    play.sees(SurfaceCreated)
    works(play, source)


def test_a_source_that_closes_a_channel_and_cancels_then_loses_just_that_one(play: Play) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    play.move(source, target, "port:0")
    source.port.closes()
    source.main.sends(main.MigrateCancel())
    gone = play.sees(ChannelGone, channel="port:0")
    assert isinstance(gone.error, SessionLost)
    works(play, source, "display:0", "inputs:0", "cursor:0")


def test_a_target_that_breaks_the_protocol_before_the_cancel(play: Play) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    play.move(source, target, "cursor:0")
    target.cursor.sends_raw(common.SetAck.number, b"")
    play.sees(ChannelGone, channel="cursor:0")
    source.main.sends(main.MigrateCancel())
    works(play, source, "display:0", "inputs:0", "port:0")


def test_back_pressure_is_there_again_after_a_cancel(play: Play) -> None:
    source, target = pair(play)
    play.core.stop_reading((10, 0))
    play.prepare(source, target)
    source.display.sends(common.Migrate(flags=3))
    assert not source.port.paused
    source.main.sends(main.MigrateCancel())
    assert source.port.paused


@pytest.mark.parametrize("semi", [False, True])
def test_the_target_cannot_cancel_the_move_to_itself(play: Play, semi: bool) -> None:
    source, target = pair(play)
    if semi:
        source.main.sends(main.MigrateBegin(destination=destination(target)))
        source.main.gets(main.MigrateConnected)
        source.main.sends(main.MigrateEnd())
        target.main.sends(main.MigrateCancel(), target.init(session_id=source.session_id))
    else:
        play.prepare(source, target)
        play.hand_over(source, target, "main:0")
        target.main.sends(main.MigrateCancel())
        play.hand_over(source, target, *NAMES)
    play.sees(MigrationFinished)
    works(play, target)


def test_a_cancel_without_a_migration_is_nothing(play: Play) -> None:
    source, _ = pair(play)
    source.main.sends(main.MigrateCancel())
    play.sees_no(MigrationCancelled)
    works(play, source)


# -- the target can't be connected to --------------------------------------------------------------


def test_a_target_that_cannot_be_reached(play: Play) -> None:
    source, target = pair(play)
    target.unreachable = True
    play.begin(source, target)
    abandoned(play, source, "refused")


def test_a_target_that_never_answers_the_connection(play: Play) -> None:
    source, target = pair(play)
    target.black_hole = True
    play.begin(source, target)
    play.wait(10)
    abandoned(play, source, "not there after 9.5 s")
    play.wait(10)


@pytest.mark.parametrize("name", ["main:0", "display:0", "port:0"])
@pytest.mark.parametrize("late", [False, True])
def test_a_target_that_refuses_one_channel(play: Play, name: str, late: bool) -> None:
    source, target = pair(play)
    code = LinkCode.CHANNEL_NOT_AVAILABLE
    (target.results if late else target.refusals)[channel_key(name)] = code
    play.begin(source, target)
    abandoned(play, source, name)


def test_a_target_without_one_of_the_channels(play: Play) -> None:
    source, target = pair(play)
    target.offers = {channel_key(name) for name in NAMES[:3]}
    play.begin(source, target)
    abandoned(play, source, "port:0")


def test_a_target_with_another_password(play: Play) -> None:
    source, target = pair(play, password="right")
    target.password = "wrong"
    play.begin(source, target)
    abandoned(play, source, "permission denied")


@pytest.mark.parametrize("name", ["main:0", "cursor:0"])
def test_a_target_that_closes_while_it_is_connected_to(play: Play, name: str) -> None:
    source, target = pair(play)
    play.begin(source, target)
    target[name].closes()
    abandoned(play, source, name)


@pytest.mark.parametrize("what", ["cursor link", "main link", "answer"])
def test_preparing_has_a_limit_below_the_sources(play: Play, what: str) -> None:
    source, target = pair(play)
    if what != "answer":
        target.silent = {channel_key(what.split()[0])}
    play.begin(source, target)
    play.wait(9.4)
    source.main.gets_nothing()
    play.wait(0.2)
    abandoned(play, source, "not there after 9.5 s")


def test_a_target_that_wants_tls_gets_it(play: Play) -> None:
    source, target = pair(play, tls=True)
    target.secured = {(1, 0), channel_key("inputs")}
    play.prepare(source, target)
    assert target.main.endpoint.tls
    assert target.inputs.endpoint.tls
    assert not target.cursor.endpoint.tls
    play.hand_over(source, target, *NAMES, "main:0")
    play.sees(MigrationFinished, mode="seamless")


@pytest.mark.parametrize("where", ["main", "display"])
def test_garbage_from_a_target_being_prepared(play: Play, where: str) -> None:
    source, target = pair(play)
    target.silent = {channel_key(where)}
    play.begin(source, target)
    peer = next(
        p for p in play.peers.values() if p.server is target and p.key == channel_key(where)
    )
    peer.sends_bytes(b"SSH-2.0-OpenSSH_9\r\n" * 10)
    abandoned(play, source, f"{where}:0")


# -- the target fails after it was ready -----------------------------------------------------------


@pytest.mark.parametrize("name", ["main:0", "display:0"])
def test_a_target_whose_connection_is_gone_after_ready_is_started_over_with(
    play: Play, name: str
) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    target[name].closes()
    source[name].sends(common.Migrate(flags=3))
    source[name].gets(common.MigrateFlushMark)
    source[name].sends(common.MigrateData(data=record_of(name)))
    assert "target" in play.sees(MigrationAbandoned).reason
    start_over(play, target)


def test_a_semi_seamless_target_whose_main_is_gone_is_started_over_with(play: Play) -> None:
    source, target = pair(play)
    source.main.sends(main.MigrateBegin(destination=destination(target)))
    source.main.gets(main.MigrateConnected)
    target.main.closes()
    source.main.sends(main.MigrateEnd())
    start_over(play, target)


def test_a_semi_seamless_target_whose_main_dies_before_it_begins_is_started_over_with(
    play: Play,
) -> None:
    source, target = pair(play)
    source.main.sends(main.MigrateBegin(destination=destination(target)))
    source.main.gets(main.MigrateConnected)
    source.main.sends(main.MigrateEnd())
    target.main.closes()
    assert "before the session began" in play.sees(MigrationAbandoned).reason
    start_over(play, target)


def test_a_target_that_fails_and_a_source_that_cancels(play: Play) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    target.main.closes()
    source.main.sends(main.MigrateCancel())
    works(play, source)


def test_a_target_whose_main_dies_after_the_switch_ends_the_session(play: Play) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    play.hand_over(source, target, *NAMES, "main:0")
    target.main.closes()
    error = play.sees(SessionEnded).error
    assert isinstance(error, SessionLost)
    assert "target:5901" in str(error)
    assert not play.peers


# -- the source fails ------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["connecting", "ready"])
def test_the_source_dies_before_the_hand_over(play: Play, when: str) -> None:
    source, target = pair(play)
    if when == "connecting":
        play.begin(source, target)
    else:
        play.prepare(source, target)
    source.main.closes()
    error = play.sees(SessionEnded).error
    assert isinstance(error, SessionLost)
    assert "while it was about to move to target, port 5901" in str(error)
    assert not play.peers
    assert play.core.next_wake() is None


@pytest.mark.parametrize("moved", range(4))
@pytest.mark.parametrize("victim", ["main:0", "port:0"])
def test_the_source_dies_during_the_hand_over(play: Play, moved: int, victim: str) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    play.hand_over(source, target, *NAMES[:moved])
    if not moved:
        source.display.sends(common.Migrate(flags=3))
    source[victim].closes()
    assert "source closed" in play.sees(MigrationAbandoned).reason
    start_over(play, target)
    assert play.core.session_id == target.session_id


def test_the_source_dies_after_the_last_record(play: Play) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    play.hand_over(source, target, "main:0", *NAMES[:3])
    source.port.sends(common.Migrate(flags=3))
    source.port.gets(common.MigrateFlushMark)
    source.port.post(common.MigrateData.number, record_of("port"))
    source.port.closes()
    play.sees(MigrationFinished, mode="seamless")
    works(play, target)


def test_main_of_the_source_closing_behind_main_is_no_matter(play: Play) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    play.hand_over(source, target, "main:0")
    source.main.closes()
    play.hand_over(source, target, *NAMES)
    play.sees(MigrationFinished, mode="seamless")
    works(play, target)


# -- the source breaks the protocol ----------------------------------------------------------------


@pytest.mark.parametrize("message", [ping(), vmc.Data(data=b"x")], ids=["ping", "data"])
def test_nothing_may_come_between_migrate_and_the_record(
    play: Play, message: common.Ping | vmc.Data
) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    source.port.sends(common.Migrate(flags=3), message)
    error = play.sees(ChannelGone, channel="port:0").error
    assert isinstance(error, RemoteProtocolError)
    assert "between MIGRATE and MIGRATE_DATA" in str(error)
    assert type(message).__name__ in str(error)
    # the others go on
    play.hand_over(source, target, "display:0", "inputs:0", "cursor:0", "main:0")
    play.sees(MigrationFinished, mode="seamless")
    works(play, target, *NAMES[:3])


def test_the_last_channel_that_cannot_move_ends_the_hand_over(play: Play) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    play.hand_over(source, target, "main:0", *NAMES[:3])
    source.port.sends(common.Migrate(flags=3), ping())
    play.sees(ChannelGone, channel="port:0")
    play.sees(MigrationFinished)
    works(play, target, *NAMES[:3])
    play.wait(60)
    assert play.core.next_wake() is None


def test_main_without_its_record_is_the_end(play: Play) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    source.main.sends(common.Migrate(flags=3), ping())
    assert isinstance(play.sees(SessionEnded).error, RemoteProtocolError)
    assert not play.peers


@pytest.mark.parametrize("when", ["idle", "connecting", "nack", "cancelled", "finished"])
def test_migrate_without_a_hand_over_is_an_error(play: Play, when: str) -> None:
    source, target = pair(play)
    here = source
    if when == "connecting":
        play.begin(source, target)
    elif when == "nack":
        play.begin(source, target)
        target.main.sends(main.MigrateDstSeamlessNack())
    elif when == "cancelled":
        play.prepare(source, target)
        source.main.sends(main.MigrateCancel())
    elif when == "finished":
        play.prepare(source, target)
        play.hand_over(source, target, *NAMES, "main:0")
        here = target
    here.port.skip()
    here.port.sends(common.Migrate(flags=3))
    assert isinstance(play.sees(ChannelGone, channel="port:0").error, RemoteProtocolError)
    here.port.gets_nothing()
    assert (10, 0) not in play.core.channels


def test_a_record_that_nobody_asked_for(play: Play) -> None:
    source, target = pair(play)
    source.port.sends(common.MigrateData(data=b"x"))
    assert "nobody asked" in str(play.sees(ChannelGone).error)
    play.prepare(source, target)


@pytest.mark.parametrize("when", ["idle", "connecting", "seamless"])
def test_migrate_end_without_a_semi_seamless_move_is_an_error(play: Play, when: str) -> None:
    source, target = pair(play)
    if when == "connecting":
        play.begin(source, target)
    elif when == "seamless":
        play.prepare(source, target)
    source.main.sends(main.MigrateEnd())
    assert isinstance(play.sees(SessionEnded).error, RemoteProtocolError)
    assert not play.peers


# -- limits of time --------------------------------------------------------------------------------


@pytest.mark.parametrize("last", ["main:0", "port:0"])
def test_a_channel_that_never_leaves_the_source_has_a_limit(play: Play, last: str) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    play.hand_over(source, target, *(name for name in (*NAMES, "main:0") if name != last))
    play.wait(9.9)
    play.sees_no(MigrationAbandoned)
    play.wait(0.2)
    assert last in play.sees(MigrationAbandoned).reason
    start_over(play, target)


def test_a_record_that_never_comes_has_a_limit(play: Play) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    source.display.sends(common.Migrate(flags=3))
    play.wait(10.1)
    start_over(play, target)


def test_a_mark_that_cannot_leave_has_a_limit(play: Play) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    source.display.deaf = True
    source.display.sends(common.Migrate(flags=1))
    play.wait(10.1)
    start_over(play, target)


def test_a_semi_seamless_target_that_never_begins_has_a_limit(play: Play) -> None:
    source, target = pair(play)
    source.main.sends(main.MigrateBegin(destination=destination(target)))
    source.main.sends(main.MigrateEnd())
    play.wait(19)
    play.sees_no(MigrationAbandoned)
    play.wait(2)
    start_over(play, target)


@pytest.mark.parametrize("step", ["connect", "link", "init", "list", "channel"])
def test_starting_over_has_a_limit_at_every_step(play: Play, step: str) -> None:
    source, target = pair(play)
    target.unreachable = step == "connect"
    target.silent = {(1, 0)} if step == "link" else {channel_key("port")}
    source.main.sends(main.MigrateSwitchHost(destination=destination(target)))
    if step in ("list", "channel"):
        target.main.sends(target.init())
    if step == "channel":
        target.lists(*NAMES)
    play.wait(60)
    if step == "channel":
        assert play.sees(ChannelGone, channel="port:0").error is not None
        play.sees(MigrationFinished, mode="switch-host")
    else:
        assert isinstance(play.sees(SessionEnded).error, Exception)
        assert play.core.phase is SessionPhase.CLOSED
        assert not play.peers
    assert play.core.next_wake() is None


def test_a_channel_lost_on_the_target_while_the_others_come(play: Play) -> None:
    source, target = pair(play)
    target.silent = {channel_key("port")}
    source.main.sends(main.MigrateSwitchHost(destination=destination(target)))
    target.main.sends(target.init())
    target.lists(*NAMES)
    target.cursor.closes()
    play.sees(ChannelGone, channel="cursor:0")
    play.wait(30)
    play.sees(MigrationFinished)
    works(play, target, "display:0", "inputs:0")
