"""The clipboard between a client's and a guest's end of the agent's protocol."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.agent_pair import Pair

from aiospice.agent import clipboard as module
from aiospice.agent.client import AgentFailed, AgentPhase, AgentReady, ClientAgent
from aiospice.agent.clipboard import ASK_LIMIT, REFUSALS_LIMIT
from aiospice.agent.events import (
    ClipboardData,
    ClipboardGrabbed,
    ClipboardReleased,
    ClipboardRequested,
)
from aiospice.agent.guest import GuestAgent
from aiospice.agent.guest_events import ClientAnnounced, ClientLeft
from aiospice.errors import LocalError, StateError
from aiospice.wire.agent import (
    AgentCapability,
    AgentType,
    AnnounceCapabilities,
    Clipboard,
    ClipboardGrab,
    ClipboardRequest,
)
from aiospice.wire.agent_stream import HEADER, pack_message

SELECTION = 1 << AgentCapability.CLIPBOARD_SELECTION
SERIAL = 1 << AgentCapability.CLIPBOARD_GRAB_SERIAL
BY_DEMAND = 1 << AgentCapability.CLIPBOARD_BY_DEMAND
ALL = BY_DEMAND | SELECTION | SERIAL


@pytest.fixture(params=[0, 1], ids=["whole", "bytewise"])
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair(cut=request.param)


def agent_with(capabilities: int, request: int = 0) -> ClientAgent:
    """A client's end that has heard of an agent with these capabilities, its answers taken."""
    client = ClientAgent()
    client.connected()
    announce = AnnounceCapabilities(request=request, caps=(capabilities,))
    client.receive(pack_message(announce.number, announce.body()), 0.0)
    said(client)
    client.events()
    return client


def said(client: ClientAgent) -> list[tuple[int, bytes]]:
    """Numbers and bodies of all messages that wait to leave."""
    found = []
    data = b""
    while piece := client.pop(0.0):
        data += piece
        size = HEADER.unpack_from(data)[3]
        if len(data) == HEADER.size + size:
            found.append((HEADER.unpack_from(data)[1], data[HEADER.size :]))
            data = b""
    return found


def test_both_ends_announce_themselves_and_learn_what_the_other_can(pair: Pair) -> None:
    pair.connect()
    ready = pair.client_saw(AgentReady)
    assert "clipboard-by-demand" in ready.capabilities
    assert "file-xfer-disabled" not in ready.capabilities
    assert "clipboard-grab-serial" in pair.guest_saw(ClientAnnounced).capabilities
    assert not any(isinstance(event, (AgentReady, AgentFailed)) for event in pair.client_events)
    assert pair.client.phase is AgentPhase.READY


@pytest.mark.parametrize("selection", ["clipboard", "primary", "secondary"])
def test_text_of_the_client_reaches_the_guest_when_it_pastes(pair: Pair, selection: str) -> None:
    pair.connect()
    pair.client.clipboards.grab({"text": b"hello", "png": b"\x89PNG"}, selection)
    pair.run()
    grabbed = pair.guest_saw(ClipboardGrabbed)
    assert (grabbed.selection, grabbed.forms) == (selection, ("text", "png"))
    assert pair.guest.clipboards.offered(selection) == ("text", "png")
    assert b"hello" not in b"".join(pair.pieces)
    pair.guest.request("text", selection)
    pair.run()
    assert pair.client_saw(ClipboardRequested) == ClipboardRequested(
        selection=selection, form="text", open=False
    )
    assert pair.guest_saw(ClipboardData) == ClipboardData(
        selection=selection, form="text", data=b"hello"
    )


def test_content_of_the_guest_reaches_the_client_when_it_is_asked_for(pair: Pair) -> None:
    pair.connect()
    pair.guest.clipboards.grab({"text": None})
    pair.run()
    assert pair.client_saw(ClipboardGrabbed).forms == ("text",)
    pair.client.request()
    pair.client.request()
    pair.run()
    assert pair.guest_saw(ClipboardRequested).open
    pair.guest.clipboards.answer("text", "ä".encode())
    pair.run()
    assert [pair.client_saw(ClipboardData).data for _ in range(2)] == ["ä".encode()] * 2
    assert not any(isinstance(event, ClipboardRequested) for event in pair.guest_events)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 3000), st.integers(0, 70_000), st.booleans())
def test_any_content_crosses_whole(cut: int, size: int, up: bool) -> None:
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    pair = Pair(cut=cut + 100 if cut else 0, frozen=size < 20_000).connect()
    near, far = (pair.client, pair.guest) if up else (pair.guest, pair.client)
    near.clipboards.grab({"jpg": data})
    pair.run()
    far = pair.guest if up else pair.client
    far.request("jpg")
    pair.run()
    saw = pair.guest_saw if up else pair.client_saw
    assert saw(ClipboardData).data == data


def test_who_grabs_last_owns_and_what_was_there_is_gone(pair: Pair) -> None:
    pair.connect()
    pair.client.clipboards.grab({"text": b"client"})
    pair.run()
    pair.guest.clipboards.grab({"text": b"guest"})
    pair.run()
    assert pair.client.clipboards.owned() == ()
    assert pair.client.clipboards.offered() == ("text",)
    pair.client.clipboards.grab({"text": b"client again"})
    pair.run()
    assert pair.guest.clipboards.owned() == ()
    pair.client.clipboards.release()
    pair.run()
    assert pair.guest_saw(ClipboardReleased).selection == "clipboard"
    assert pair.guest.clipboards.offered() == ()


def test_when_both_grab_at_once_the_client_wins(pair: Pair) -> None:
    pair.connect()
    for round_ in range(3):
        pair.client.clipboards.grab({"text": b"client %d" % round_})
        pair.guest.clipboards.grab({"text": b"guest"})
        pair.run()
        assert pair.client.clipboards.owned() == ("text",)
        assert pair.client.clipboards.offered() == ()
        assert pair.guest.clipboards.owned() == ()
        assert pair.guest.clipboards.offered() == ("text",)
    pair.guest.clipboards.grab({"png": b"in turn"})
    pair.run()
    assert pair.client.clipboards.offered() == ("png",)


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["client", "guest"]),
        st.sampled_from(["grab", "grab", "release", "request", "step"]),
        st.sampled_from(["clipboard", "primary"]),
        st.integers(0, 4),
    ),
    max_size=30,
)


@settings(max_examples=60)
@given(OPERATIONS)
def test_whatever_crosses_both_ends_agree_on_who_owns_what(
    operations: list[tuple[str, str, str, int]],
) -> None:
    pair = Pair(frozen=False).connect()
    for number, (who, what, selection, steps) in enumerate(operations):
        end = pair.client if who == "client" else pair.guest
        if what == "grab":
            end.clipboards.grab({"text": b"%d" % number}, selection)
        elif what == "release":
            end.clipboards.release(selection)
        elif what == "request":
            end.request("text", selection)
        for _ in range(steps):  # some of what is on its way arrives
            (pair._client_step if number & 1 else pair._guest_step)()
    pair.run()
    for selection in ("clipboard", "primary"):
        mine, theirs = pair.client.clipboards, pair.guest.clipboards
        assert mine.offered(selection) == theirs.owned(selection)
        assert theirs.offered(selection) == mine.owned(selection)
        assert not (mine.owned(selection) and theirs.owned(selection))
    for told, other in ((pair.client_events, "client"), (pair.guest_events, "guest")):
        asked = sum(op[:2] == (other, "request") for op in operations)
        assert sum(isinstance(event, ClipboardData) for event in told) == asked
    assert pair.client.phase is AgentPhase.READY
    assert pair.guest.error is None


def test_a_new_client_is_offered_what_the_guest_has(pair: Pair) -> None:
    pair.guest.clipboards.grab({"text": b"early"})
    pair.connect()
    assert pair.client_saw(ClipboardGrabbed).forms == ("text",)
    pair.leave()
    pair.guest_saw(ClientLeft)
    pair.connect()
    assert pair.client_saw(ClipboardGrabbed).forms == ("text",)
    pair.client.request()
    pair.run()
    assert pair.client_saw(ClipboardData).data == b"early"


def test_what_the_client_has_is_offered_to_an_agent_that_starts_anew(pair: Pair) -> None:
    pair.connect()
    pair.client.clipboards.grab({"text": b"kept"})
    pair.run()
    pair.client.disconnected()
    assert pair.client.phase is AgentPhase.ABSENT
    pair.guest = GuestAgent()
    pair.client.connected()
    pair.run()
    assert pair.guest.clipboards.offered() == ("text",)


def test_an_agent_that_announces_itself_again_is_taken_for_a_new_one(pair: Pair) -> None:
    pair.connect()
    pair.guest.clipboards.grab({"text": b"old"})
    pair.run()
    pair.client.request()
    pair.guest = GuestAgent()  # its process was started again, and the server didn't notice
    pair.run()
    assert pair.client_saw(ClipboardData).data is None
    pair.client_saw(ClipboardReleased)
    pair.client_saw(AgentReady)
    pair.guest_saw(ClientAnnounced)
    assert pair.client.phase is AgentPhase.READY
    pair.client.clipboards.grab({"text": b"new"})
    pair.run()
    assert pair.guest.clipboards.offered() == ("text",)


def test_a_request_for_what_is_not_there_is_answered_with_nothing(pair: Pair) -> None:
    pair.connect()
    pair.client.request("png", "primary")
    pair.run()
    assert pair.client_saw(ClipboardData) == ClipboardData(
        selection="primary", form="png", data=None
    )
    pair.client.clipboards.grab({"text": None})
    pair.run()
    pair.guest.request()
    pair.run()
    pair.client.clipboards.grab({"text": b"other"})  # who waits for the old one gets nothing
    pair.run()
    assert pair.guest_saw(ClipboardData).data is None


def test_content_above_the_clients_limit_is_not_sent(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.connect()
    pair.guest.clipboards.limit = 10
    pair.guest.clipboards.grab({"text": bytes(11), "png": bytes(10)})
    pair.run()
    pair.client.request()
    pair.client.request("png")
    pair.run()
    assert pair.client_saw(ClipboardData).data is None
    assert pair.client_saw(ClipboardData).data == bytes(10)
    monkeypatch.setattr(module, "CONTENT_LIMIT", 5)
    with pytest.raises(LocalError, match="6 bytes; a clipboard takes 5"):
        pair.client.clipboards.grab({"text": bytes(6)})


def test_line_ends_are_those_of_the_guest() -> None:
    crlf = 1 << AgentCapability.GUEST_LINEEND_CRLF
    client = agent_with(ALL | crlf)
    client.clipboards.grab({"text": b"a\nb\r\nc", "png": b"\n"})
    said(client)
    for form in (1, 2):
        client.receive(pack_message(8, ClipboardRequest(layout=ALL, type=form).body()), 0.0)
    answers = [Clipboard.parse(body, ALL).data for _, body in said(client)]
    assert answers == [b"a\r\nb\r\nc", b"\n"]
    client.request()
    client.receive(pack_message(4, Clipboard(layout=ALL, type=1, data=b"x\r\ny").body()), 0.0)
    found = [event for event in client.events() if isinstance(event, ClipboardData)]
    assert found[0].data == b"x\ny"


def test_an_old_agent_has_one_selection_without_serials_and_is_released_before_a_new_grab() -> None:
    client = agent_with(BY_DEMAND)
    client.clipboards.grab({"text": b"primary"}, "primary")
    assert said(client) == []
    client.clipboards.grab({"text": b"one"})
    client.clipboards.grab({"text": b"two"})
    assert [number for number, _ in said(client)] == [7, 9, 7]
    with pytest.raises(StateError, match="primary"):
        client.request("text", "primary")
    client.receive(pack_message(8, ClipboardRequest(layout=0, type=1).body()), 0.0)
    assert said(client) == [(4, Clipboard(layout=0, type=1, data=b"two").body())]


def test_without_clipboards_on_demand_there_are_none() -> None:
    client = agent_with(SELECTION)
    client.clipboards.grab({"text": b"x"})
    assert said(client) == []
    with pytest.raises(StateError):
        client.request()


def test_unknown_forms_and_selections_do_no_harm() -> None:
    client = agent_with(ALL)
    grab = ClipboardGrab(layout=ALL, selection=9, serial=0, types=(1,))
    client.receive(pack_message(7, grab.body()), 0.0)
    grab = ClipboardGrab(layout=ALL, selection=0, serial=0, types=(77, 1, 1, 0))
    client.receive(pack_message(7, grab.body()), 0.0)
    assert [event for event in client.events() if isinstance(event, ClipboardGrabbed)] == [
        ClipboardGrabbed(selection="clipboard", forms=("text",))
    ]
    client.receive(pack_message(8, ClipboardRequest(layout=ALL, selection=9, type=1).body()), 0.0)
    assert said(client) == [(4, Clipboard(layout=ALL, selection=9, type=0, data=b"").body())]
    for wrong in ({"page": b""}, {}):
        with pytest.raises(LocalError):
            client.clipboards.grab(wrong)
    with pytest.raises(LocalError, match="secondary"):
        client.clipboards.grab({"text": b""}, "second")


def test_content_that_nobody_asked_for_is_dropped_and_not_kept() -> None:
    client = agent_with(ALL)
    body = Clipboard(layout=ALL, type=1, data=bytes(100_000)).body()
    client.receive(pack_message(4, body)[:90_000], 0.0)
    assert client._stream.held == 0
    client.receive(pack_message(4, body)[90_000:], 0.0)
    client.receive(pack_message(4, Clipboard(layout=ALL, type=1, data=b"x").body()), 0.0)
    assert client.events() == []
    client.request()
    client.receive(pack_message(4, body), 0.0)
    assert len(client.events()[0].as_dict()["data"]) == 200_000


def test_what_comes_before_the_capabilities_is_not_understood_and_left_out() -> None:
    client = ClientAgent()
    client.connected()
    client.receive(pack_message(7, ClipboardGrab(layout=ALL, types=(1,)).body()), 0.0)
    assert client.events() == []
    assert client.clipboards.offered() == ()


@pytest.mark.parametrize("form", [1, 2], ids=["of what is there", "of what is not"])
def test_an_agent_that_asks_and_does_not_read_is_given_up(form: int) -> None:
    client = agent_with(ALL)
    client.clipboards.grab({"text": bytes(5000)})
    said(client)
    request = pack_message(8, ClipboardRequest(layout=ALL, type=form).body())
    for _ in range(2 + max(ASK_LIMIT, REFUSALS_LIMIT)):
        client.receive(request, 0.0)
    failed = [event for event in client.events() if isinstance(event, AgentFailed)]
    assert "does not read" in str(failed[0].error)
    assert client.phase is AgentPhase.FAILED
    with pytest.raises(StateError, match="given up"):
        client.request()
    assert client.pending < 100_000


def test_a_client_that_asks_and_does_not_read_stops_itself() -> None:
    pair = Pair(frozen=False).connect()
    pair.deaf = True
    request = pack_message(8, ClipboardRequest(layout=ALL, type=1).body())
    client = agent_with(ALL)
    sent = 0
    while pair.guest.room and sent < 10_000:
        pair.guest.receive(b"".join([b"\1\0\0\0", len(request).to_bytes(4, "little"), request]))
        sent += 1
    assert pair.guest.error is None
    assert sent == 1001
    pair.deaf = False
    pair.run()
    assert pair.guest.room
    assert client.phase is AgentPhase.READY


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (HEADER.pack(2, 4, 0, 0), "protocol"),
        (HEADER.pack(1, 7, 0, 70_000) + bytes(70_000), "70000 bytes"),
        (pack_message(6, b"\0\0\0\0\0"), "AnnounceCapabilities"),
        (pack_message(7, b"\0"), "ClipboardGrab"),
    ],
)
def test_a_broken_stream_ends_the_agent_and_nothing_else(data: bytes, text: str) -> None:
    client = agent_with(ALL)
    client.request()
    client.receive(data, 0.0)
    events = client.events()
    assert text in str(events[-1])
    assert events[0] == ClipboardData(selection="clipboard", form="text", data=None)
    client.receive(data, 0.0)
    assert client.events() == []
    client.connected()
    assert client.phase is AgentPhase.ANNOUNCED
    guest = GuestAgent()
    guest.receive(b"\1\0\0\0" + len(data[:2048]).to_bytes(4, "little") + data[:2048])
    for start in range(2048, len(data), 2048):
        part = data[start : start + 2048]
        guest.receive(b"\1\0\0\0" + len(part).to_bytes(4, "little") + part)
    unknown_yet = text in ("ClipboardGrab", "70000 bytes")  # clipboards, and no client is known
    assert (guest.error is None) == unknown_yet
    assert guest.room == (0 if guest.error else 1 << 16)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(list(AgentType)), st.binary(max_size=40)), max_size=8))
def test_any_messages_are_survived_by_both_ends(messages: list[tuple[int, bytes]]) -> None:
    pair = Pair().connect()
    for number, body in messages:
        data = pack_message(number, body)
        pair.client.receive(data, 0.0)
        pair.to_guest(b"\1\0\0\0" + len(data).to_bytes(4, "little") + data)
        pair.run()
    assert pair.client.phase in (AgentPhase.READY, AgentPhase.FAILED, AgentPhase.ANNOUNCED)
