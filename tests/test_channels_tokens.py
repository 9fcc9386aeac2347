"""Tokens of device channels, client end: across hand-overs, and with servers that have none."""

from __future__ import annotations

from typing import Any

import pytest
from tests.script import Play, Server, record_of

from aiospice.channels.main import AGENT_RETURN, AGENT_WINDOW, MainChannel
from aiospice.channels.vmc import CHUNK_BYTES, DeviceData, PortChannel
from aiospice.wire import common, main, smartcard, vmc
from aiospice.wire.caps import SmartcardCap, VmcCap
from aiospice.wire.tokens import LEAST_MESSAGE

OURS = (VmcCap.DATA_COMPRESS_LZ4, VmcCap.TOKENS)
WINDOW, INTERVAL = PortChannel.window, PortChannel.interval


@pytest.fixture(params=[0, 1], ids=["whole", "bytewise"])
def play(request: pytest.FixtureRequest) -> Play:
    return Play(cut=request.param)


def ours(play: Play, name: str) -> Server:
    """A server with tokens."""
    server = play.server(name)
    server.caps[10] = OURS
    server.caps[8] = (SmartcardCap.TOKENS,)
    return server


def up(play: Play, server: Server) -> PortChannel:
    """A session with a port."""
    play.connect(server, "port:0")
    return port(play)


def port(play: Play) -> PortChannel:
    found = play.core.channels[10, 0]
    assert isinstance(found, PortChannel)
    return found


def flow(play: Play) -> Any:
    found = port(play).flow
    assert found is not None
    return found


def balanced(play: Play) -> bool:
    it = flow(play)
    unread = sum(messages for _, messages in it.unread)
    return bool(it.granted + it.due + it.used + unread == it.window)


def test_a_server_with_tokens_is_told_the_window_first(play: Play) -> None:
    source = ours(play, "source")
    play.start(source)
    source.main.sends(source.init())
    source.lists("port:0", "smartcard:0")
    source.port.gets(vmc.ClientTokens, count=WINDOW, message_size=LEAST_MESSAGE)
    source.smartcard.gets(
        smartcard.ClientTokens, count=16, message_size=smartcard.MAX_CARD_DATA + 12
    )
    source.port.gets_nothing()
    assert balanced(play)


def test_a_server_without_tokens_is_told_none_and_sent_all(play: Play) -> None:
    source = play.server("source")
    up(play, source)
    port(play).write(b"abc")
    play.run()
    source.port.gets(vmc.ClientData, data=b"abc")
    assert port(play).flow is None
    port(play).consumed(5)
    source.port.sends(vmc.Tokens(count=1, message_size=LEAST_MESSAGE))
    assert (10, 0) not in play.core.channels
    assert "without the capability" in play.story("")


def test_data_waits_for_tokens_and_messages_without_data_do_not(play: Play) -> None:
    source = ours(play, "source")
    up(play, source)
    port(play).write(b"abc")
    port(play).send_break()
    play.run()
    source.port.gets_nothing()
    source.port.sends(vmc.Tokens(count=1, message_size=LEAST_MESSAGE))
    source.port.gets(vmc.ClientData, data=b"abc")
    source.port.gets(vmc.ClientPortEvent)
    port(play).write(bytes(CHUNK_BYTES + 1))
    play.run()
    source.port.gets_nothing()
    assert flow(play).sent == type(flow(play).sent)([3])
    source.port.sends(vmc.Tokens(count=1, message_size=LEAST_MESSAGE))
    source.port.gets(vmc.ClientData, data=bytes(CHUNK_BYTES))
    assert port(play).bytes_at_risk == CHUNK_BYTES


@pytest.mark.parametrize(
    ("messages", "rule"),
    [
        ([vmc.Data(data=b"x")] * (WINDOW + 1), "a message without a token: all 64"),
        ([vmc.Data(data=bytes(LEAST_MESSAGE + 1))], "a message of 16385 bytes, we take 16384"),
        ([vmc.Tokens(count=5, message_size=LEAST_MESSAGE - 1)], "16384 is the least"),
    ],
)
def test_a_server_that_breaks_the_rules_loses_the_channel(
    play: Play, messages: list[Any], rule: str
) -> None:
    source = ours(play, "source")
    up(play, source)
    channel = port(play)
    source.port.sends(*messages)
    assert (10, 0) not in play.core.channels
    story = play.story("")
    assert rule in story or rule in str(channel.error)


# -- hand-overs ----------------------------------------------------------------------------------


def test_tokens_go_on_from_a_server_of_ours_to_another(play: Play) -> None:
    source, target = ours(play, "source"), ours(play, "target")
    up(play, source)
    source.port.sends(vmc.Tokens(count=3, message_size=LEAST_MESSAGE))
    source.port.sends(*[vmc.Data(data=b"four")] * (INTERVAL + 1))
    for _ in range(5):
        port(play).write(bytes(CHUNK_BYTES))
    play.run()
    assert len(source.port.skip()) == 3
    play.prepare(source, target)
    source.port.sends(common.Migrate(flags=3))
    source.port.gets(common.MigrateFlushMark)
    # Consumed while the channel is frozen: the target is told.
    port(play).consumed(4 * INTERVAL)
    play.run()
    source.port.gets_nothing()
    record = record_of("port:0")
    source.port.sends(common.MigrateData(data=record))
    target.port.gets(common.ClientMigrateData, data=record)
    target.port.gets(vmc.ClientTokens, count=INTERVAL)
    target.port.gets_nothing()
    assert balanced(play)
    target.port.sends(vmc.Tokens(count=2, message_size=LEAST_MESSAGE))
    assert len(target.port.skip()) == 2
    target.port.sends(vmc.Data(data=b"more"))
    assert sum(len(event.data) for event in play.happened(DeviceData)) == 4 * (INTERVAL + 2)
    assert balanced(play)


def test_a_server_of_others_as_target_needs_no_tokens(play: Play) -> None:
    source, target = ours(play, "source"), play.server("target")
    up(play, source)
    port(play).write(b"waits")
    play.run()
    source.port.skip()
    play.prepare(source, target)
    play.move(source, target, "port:0")
    target.port.gets(vmc.ClientData, data=b"waits")
    assert port(play).flow is None


def test_a_server_of_ours_as_target_of_others_is_told_the_window(play: Play) -> None:
    source, target = play.server("source"), ours(play, "target")
    up(play, source)
    play.prepare(source, target)
    source.port.sends(common.Migrate(flags=3))
    port(play).write(b"waits")
    source.port.gets(common.MigrateFlushMark)
    source.port.sends(common.MigrateData(data=record_of("port:0")))
    target.port.gets(common.ClientMigrateData)
    target.port.gets(vmc.ClientTokens, count=WINDOW)
    target.port.gets_nothing()
    target.port.sends(vmc.Tokens(count=1, message_size=LEAST_MESSAGE))
    target.port.gets(vmc.ClientData, data=b"waits")


@pytest.mark.parametrize("target_has", [True, False])
def test_a_hand_over_that_is_cancelled_goes_back_to_what_the_source_knows(
    play: Play, target_has: bool
) -> None:
    source = ours(play, "source")
    target = ours(play, "target") if target_has else play.server("target")
    up(play, source)
    source.port.skip()
    source.port.sends(vmc.Tokens(count=5, message_size=LEAST_MESSAGE))
    source.port.sends(*[vmc.Data(data=b"four")] * (INTERVAL + 3))
    port(play).write(b"x")
    play.run()
    source.port.gets(vmc.ClientData)
    play.prepare(source, target)
    play.move(source, target, "port:0")
    port(play).consumed(4 * INTERVAL)
    play.run()
    source.main.sends(main.MigrateCancel())
    play.run()
    assert flow(play).tokens == 4
    if target_has:
        source.port.gets(vmc.ClientTokens, count=INTERVAL)
        assert balanced(play)
    source.port.gets_nothing()
    port(play).write(b"y")
    play.run()
    source.port.gets(vmc.ClientData, data=b"y")


def test_starting_over_begins_with_a_whole_window(play: Play) -> None:
    source, target = ours(play, "source"), ours(play, "target")
    up(play, source)
    source.port.sends(vmc.Tokens(count=5, message_size=LEAST_MESSAGE))
    source.port.sends(*[vmc.Data(data=b"old")] * INTERVAL)
    source.main.sends(
        main.MigrateSwitchHost(
            destination=main.DstInfo(port=5900, secure_port=0, host=b"target", cert_subject=b"")
        )
    )
    target.main.sends(target.init())
    target.lists("port:0")
    target.port.gets(vmc.ClientTokens, count=WINDOW)
    assert flow(play).tokens == 0
    # What the old server sent is consumed first, and gives the new one nothing.
    port(play).consumed(3 * INTERVAL)
    target.port.sends(*[vmc.Data(data=b"new")] * INTERVAL)
    target.port.gets_nothing()
    port(play).consumed(3 * INTERVAL)
    play.run()
    target.port.gets(vmc.ClientTokens, count=INTERVAL)
    assert balanced(play)


# -- the agent -----------------------------------------------------------------------------------


def test_agent_pieces_that_nobody_dealt_with_give_no_tokens_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    consumed = MainChannel.agent_consumed
    monkeypatch.setattr(MainChannel, "agent_consumed", lambda self, count=1: None)
    play = Play(agent=False)
    source = play.server("source")
    play.connect(source, agent_connected=1)
    source.main.gets(main.AgentStart, num_tokens=AGENT_WINDOW)
    source.main.sends(*[main.AgentData(data=b"x")] * AGENT_WINDOW)
    source.main.gets_nothing()
    channel = play.core.channels[1, 0]
    assert isinstance(channel, MainChannel)
    consumed(channel, AGENT_RETURN - 1)
    play.run()
    source.main.gets_nothing()
    channel = play.core.channels[1, 0]
    consumed(channel, 1)  # type: ignore[arg-type]
    play.run()
    source.main.gets(main.ClientAgentToken, num_tokens=AGENT_RETURN)
