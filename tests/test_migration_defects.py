"""Defects of other implementations (spice-gtk 0.42, spice-server 0.15.1) that aren't here."""

from __future__ import annotations

import pytest
from tests.script import Play, destination, key_downs
from tests.script_moves import NAMES, pair, start_over, works

from aiospice.client.moving import ChannelGone
from aiospice.migration.client import (
    MigrationAbandoned,
    MigrationCancelled,
    MigrationFinished,
    MigrationPhase,
    MigrationStarted,
)
from aiospice.wire import common, inputs, main, vmc
from aiospice.wire.caps import MainCap


@pytest.fixture(params=[0, 1], ids=["whole", "bytewise"])
def play(request: pytest.FixtureRequest) -> Play:
    return Play(cut=request.param)


def test_defect_port_init_again_from_the_target_is_no_error(play: Play) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    target.port.sends(vmc.PortInit(name=b"name of port:0", opened=1))
    play.hand_over(source, target, *NAMES, "main:0")
    works(play, target)


def test_defect_a_new_channel_after_a_cancel_is_opened_on_the_source(play: Play) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    play.hand_over(source, target, "cursor:0")
    source.main.sends(main.MigrateCancel())
    source.lists(*NAMES, "playback:0")
    assert source["playback:0"].endpoint.host == "source"
    assert (5, 0) not in target.peers


def test_defect_a_new_channel_after_a_move_is_opened_on_the_target(play: Play) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    play.hand_over(source, target, *NAMES, "main:0")
    target.lists(*NAMES, "playback:0")
    assert target["playback:0"].endpoint.host == "target"


def test_defect_switch_host_after_ready_leaves_nothing_behind(play: Play) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    prepared = list(target.all)
    source.main.sends(main.MigrateSwitchHost(destination=destination(target)))
    assert all(peer.left for peer in prepared)
    start_over(play, target)
    third = play.server("third", 5902)
    target.display.skip()
    play.prepare(target, third)
    play.hand_over(target, third, *NAMES, "main:0")
    play.sees(MigrationFinished, mode="seamless")


def test_defect_a_channel_without_a_counterpart_is_never_put_on_another_ones(play: Play) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    source.lists(*NAMES, "playback:0")  # a channel that came after the links
    source["playback:0"].sends(common.Migrate(flags=0))
    play.sees(MigrationAbandoned)
    start_over(play, target, *NAMES, "playback:0")


def test_defect_a_channel_that_dies_on_the_target_does_not_keep_the_move_from_ending(
    play: Play,
) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    play.hand_over(source, target, "cursor:0")
    target.cursor.closes()
    play.sees(ChannelGone, channel="cursor:0")
    play.hand_over(source, target, "display:0", "inputs:0", "port:0", "main:0")
    play.sees(MigrationFinished)
    assert play.core.migration.phase is MigrationPhase.IDLE
    works(play, target, "display:0", "inputs:0", "port:0")


def test_defect_a_switched_channel_goes_on_with_the_source_after_a_cancel_at_once(
    play: Play,
) -> None:
    source, target = pair(play)
    play.prepare(source, target)
    play.hand_over(source, target, "inputs:0")
    source.main.sends(main.MigrateCancel())
    play.core.channels[3, 0].send(inputs.KeyDown(code=9))
    play.run()
    assert key_downs(source.inputs.skip()) == [9]


def test_defect_a_unix_socket_does_not_win_over_the_targets_host(play: Play) -> None:
    source = play.server("source")
    target = play.server("target", 5901)
    play.config["unix_path"] = "/run/source"
    play.connect(source, *NAMES)
    assert source.main.endpoint.unix_path
    source.display.skip()
    play.prepare(source, target)
    assert not any(peer.endpoint.unix_path for peer in target.all)
    play.hand_over(source, target, *NAMES, "main:0")
    play.sees(MigrationFinished)
    target.lists(*NAMES, "record:0")
    assert target["record:0"].endpoint == target.cursor.endpoint


def test_defect_migrate_without_a_migration_sends_nothing_back(play: Play) -> None:
    source, _ = pair(play)
    source.port.sends(common.Migrate(flags=3), common.MigrateData(data=b"record"))
    source.port.gets_nothing()
    assert source.port.left


def test_defect_a_source_that_begins_again_without_a_cancel_is_followed(play: Play) -> None:
    source, target = pair(play)
    third = play.server("third", 5902)
    play.prepare(source, target)
    play.begin(source, third)
    play.sees(MigrationCancelled, number=1)
    play.sees(MigrationStarted, number=2)
    assert all(peer.left for peer in target.all)
    third.main.gets(main.MigrateDstDoSeamless)
    third.main.sends(main.MigrateDstSeamlessAck())
    source.main.gets(main.MigrateConnectedSeamless)
    play.hand_over(source, third, *NAMES, "main:0")
    play.sees(MigrationFinished, number=2)


def test_defect_a_target_without_seamless_is_not_asked_for_it(play: Play) -> None:
    source, target = pair(play)
    target.caps[1] = (MainCap.SEMI_SEAMLESS_MIGRATE,)
    play.begin(source, target)
    target.main.gets_nothing()
    source.main.gets(main.MigrateConnected)
