"""Files from a client's end of the agent's protocol to a guest's, and what else both can say."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.agent_pair import Pair

from aiospice.agent.arrivals import ARRIVALS_LIMIT
from aiospice.agent.client import AgentPhase, AgentReplied, ClientAgent
from aiospice.agent.files import (
    CHUNK,
    IOErrors,
    is_safe_name,
    pack_announcement,
    read_announcement,
)
from aiospice.agent.guest_events import (
    DesktopConfigured,
    FileCame,
    FileEnded,
    FileOffered,
    FilePart,
    GraphicsDevices,
    MonitorsConfigured,
    PointerMoved,
    VolumeWanted,
)
from aiospice.agent.transfers import (
    TRANSFERS_LIMIT,
    Transfer,
    TransferEnded,
    TransferPhase,
    TransferStarted,
)
from aiospice.errors import (
    AiospiceError,
    DecodeError,
    LocalError,
    SpiceTimeout,
    StateError,
    TransferFailed,
)
from aiospice.wire.agent import (
    DeviceDisplayInfo,
    DisplayConfigFlags,
    FileXferData,
    FileXferStart,
    FileXferStatus,
    GraphicsDeviceInfo,
    MouseButtons,
    MouseState,
    XferResult,
)
from aiospice.wire.agent_stream import MAX_AGENT_DATA, pack_chunk, pack_message


@pytest.fixture(params=[0, 1], ids=["whole", "bytewise"])
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair(cut=request.param).connect()


def content(size: int, seed: int = 0) -> bytes:
    return (bytes((i * 7 + seed) % 256 for i in range(256)) * (size // 256 + 1))[:size]


def under_way(pair: Pair, number: int) -> Transfer:
    return pair.client.transfers.active[number]


def push(pair: Pair, number: int, data: bytes, step: int = CHUNK) -> None:
    """Hand in a file as it is wanted, until it is done or stuck."""
    while number in pair.client.transfers.active:
        transfer = under_way(pair, number)
        wanted = min(pair.client.transfers.wanted(transfer), step)
        if not wanted:
            break
        pair.client.transfers.feed(transfer, data[transfer.fed : transfer.fed + wanted], pair.now)
        pair.run()


def received(pair: Pair, number: int) -> bytes:
    parts = [event for event in pair.guest_events if isinstance(event, FilePart)]
    mine = [part for part in parts if part.number == number]
    offset = 0
    for part in mine:
        assert part.offset == offset
        offset += len(part.data)
    return b"".join(part.data for part in mine)


@pytest.mark.parametrize("size", [0, 1, 5000])
def test_a_file_crosses_byte_for_byte(pair: Pair, size: int) -> None:
    data = content(size)
    number = pair.client.send_file("notes.txt", size, 0.0).number
    pair.run()
    assert pair.client_saw(TransferStarted) == TransferStarted(
        number=number, name="notes.txt", size=size
    )
    offered = pair.guest_saw(FileOffered)
    assert (offered.name, offered.size) == ("notes.txt", size)
    assert pair.client.transfers.wanted(under_way(pair, number)) == 0
    pair.guest.accept_file(offered.number)
    pair.run()
    push(pair, number, data, step=1700)
    assert under_way(pair, number).phase is TransferPhase.SENT
    assert received(pair, offered.number) == data
    pair.guest_saw(FileCame)
    pair.guest.finish_file(offered.number)
    pair.run()
    ended = pair.client_saw(TransferEnded)
    assert (ended.error, ended.sent) == (None, size)
    assert pair.client.transfers.active == {}
    assert pair.guest.arrivals.active == {}


def test_several_large_files_share_the_way_and_little_of_them_waits() -> None:
    pair = Pair(frozen=False).connect()
    files = {f"file {i}": content(300_000 + i, seed=i) for i in range(3)}
    numbers = {
        name: pair.client.send_file(name, len(data), 0.0).number for name, data in files.items()
    }
    pair.run()
    for _ in files:
        pair.guest.accept_file(pair.guest_saw(FileOffered).number)
    pair.run()
    most = 0
    for _ in range(1000):
        for name, number in numbers.items():
            transfer = pair.client.transfers.active.get(number)
            wanted = 0 if transfer is None else pair.client.transfers.wanted(transfer)
            if transfer is not None and wanted:
                data = files[name][transfer.fed : transfer.fed + wanted]
                pair.client.transfers.feed(transfer, data, 0.0)
        most = max(most, pair.client.pending)
        pair.tokens = 10
        pair.run()
        for event in pair.guest_events:
            if isinstance(event, FileCame):
                pair.guest.finish_file(event.number)
        if not pair.client.transfers.active:
            break
    assert not pair.client.transfers.active
    assert most < len(files) * 2 * (CHUNK + 100)
    for name, number in numbers.items():
        assert received(pair, number) == files[name]


def test_pieces_have_bytes_of_one_message_only() -> None:
    pair = Pair().connect()
    pair.pieces.clear()
    number = pair.client.send_file("a", 5000, 0.0).number
    pair.run()
    pair.guest.accept_file(number)
    pair.run()
    pair.client.transfers.feed(under_way(pair, number), bytes(5000), 0.0)
    pair.client.clipboards.grab({"text": b"x"})
    pair.run()
    assert [len(piece) for piece in pair.pieces[-4:]] == [
        MAX_AGENT_DATA,
        MAX_AGENT_DATA,
        20 + 12 + 5000 - 2 * MAX_AGENT_DATA,
        20 + 4 + 4 + 4,
    ]


def test_a_file_that_is_cancelled_here_ends_there() -> None:
    pair = Pair(cut=100).connect()
    number = pair.client.send_file("a", 9_000, 0.0).number
    pair.run()
    pair.guest.accept_file(number)
    pair.run()
    pair.tokens = 2
    pair.client.transfers.feed(under_way(pair, number), bytes(6_000), 0.0)
    pair.run()
    assert under_way(pair, number).sent == 2 * MAX_AGENT_DATA - 32
    pair.client.transfers.cancel(under_way(pair, number))
    pair.tokens = None
    pair.run()
    assert isinstance(pair.client_saw(TransferEnded).error, TransferFailed)
    assert pair.guest_saw(FileEnded).reason == "the client has cancelled it"
    assert pair.client.pending == 0
    assert pair.guest.error is None


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("refuse", "the guest has cancelled it"),
        ("fail", "could not take it: it may not be written there"),
        ("space", "not enough space in the guest: 100000 bytes are needed, 7 are free"),
    ],
)
def test_the_guest_refuses_a_file_and_says_why(pair: Pair, how: str, text: str) -> None:
    number = pair.client.send_file("a", 100_000, 0.0).number
    pair.run()
    if how == "refuse":
        pair.guest.refuse_file(number)
    elif how == "fail":
        pair.guest.fail_file(number, IOErrors.PERMISSION_DENIED)
    else:
        pair.guest.no_space(number, 7)
    pair.run()
    error = pair.client_saw(TransferEnded).error
    assert isinstance(error, TransferFailed)
    assert text in str(error)


def test_a_guest_that_takes_no_files_says_so_beforehand() -> None:
    pair = Pair(files=False).connect()
    with pytest.raises(TransferFailed, match="switched off"):
        pair.client.send_file("a", 1, 0.0)
    start = FileXferStart(id=5, data=pack_announcement("a", 1))
    pair.to_guest(pack_chunk(1, pack_message(start.number, start.body())))
    assert pair.guest.arrivals.active == {}
    data = pair.guest.take()
    assert FileXferStatus(id=5, result=XferResult.DISABLED, data=b"").body() in data


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../etc/passwd",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "a\0b",
        "a\nb",
        "\x7f",
        "x" * 256,
    ],
)
def test_a_name_that_leaves_the_folder_is_refused_at_both_ends(pair: Pair, name: str) -> None:
    with pytest.raises(LocalError, match="name"):
        pair.client.send_file(name, 1, 0.0)
    start = FileXferStart(id=9, data=pack_announcement(name.replace("\0", "/"), 1))
    pair.to_guest(pack_chunk(1, pack_message(start.number, start.body())))
    pair.run()
    assert not any(isinstance(event, FileOffered) for event in pair.guest_events)
    assert pair.guest.error is None


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60).filter(
        lambda name: not name[-1].isspace() and is_safe_name(name) is None
    ),
    st.integers(0, (1 << 63) - 1),
)
@example("  two spaces = [x] # \\s", 3)
def test_an_announcement_says_name_and_size(name: str, size: int) -> None:
    assert read_announcement(pack_announcement(name, size)) == (name, size)


@given(st.binary(max_size=80))
@example(b"[vdagent-file-xfer]\nname=x\nsize=-1\n")
@example(b"[vdagent-file-xfer]\nname=x\nsize=9223372036854775808\n")
@example(b"[vdagent-file-xfer]\nsize=1\n")
@example(b"[other]\nname=x\nsize=1\n")
@example(b"[vdagent-file-xfer]\nname=\xff\nsize=1\n")
def test_any_bytes_are_an_announcement_or_a_decode_error(data: bytes) -> None:
    with pytest.raises(DecodeError, match="FileXferStart"):
        read_announcement(data)


def test_an_announcement_as_glib_writes_it_is_read() -> None:
    data = (
        b"# made by GLib\n[vdagent-file-xfer]\nname=\\sa\\\\b \nsize=12\nother=1\n\n[x]\nname=y\n\0"
    )
    assert read_announcement(data) == (" a\\b", 12)


def test_a_file_that_is_longer_than_it_said_is_broken_off(pair: Pair) -> None:
    number = pair.client.send_file("a", 10, 0.0).number
    pair.run()
    pair.guest.accept_file(number)
    long = FileXferData(id=number, data=bytes(11))
    pair.to_guest(pack_chunk(1, pack_message(long.number, long.body())))
    pair.run()
    assert "longer than the 10 bytes" in pair.guest_saw(FileEnded).reason
    assert isinstance(pair.client_saw(TransferEnded).error, TransferFailed)


def test_bytes_that_nobody_asked_for_and_twice_the_same_number_are_refused(pair: Pair) -> None:
    number = pair.client.send_file("a", 10, 0.0).number
    pair.run()
    early = FileXferData(id=number, data=bytes(10))
    pair.to_guest(pack_chunk(1, pack_message(early.number, early.body())))
    assert "before it was asked for" in pair.guest_saw(FileEnded).reason
    start = FileXferStart(id=3, data=pack_announcement("a", 1))
    twice = pack_chunk(1, pack_message(start.number, start.body())) * 2
    pair.to_guest(twice)
    assert pair.guest.error is not None
    assert "another file" in str(pair.guest.error)
    with pytest.raises(StateError):
        pair.guest.finish_file(3)


def test_too_many_files_at_once_are_refused_at_both_ends() -> None:
    pair = Pair(frozen=False).connect()
    for index in range(ARRIVALS_LIMIT + 1):
        pair.client.send_file(f"{index}", 1, 0.0)
    pair.run()
    assert "too many files" in str(pair.client_saw(TransferEnded).error)
    for index in range(TRANSFERS_LIMIT - ARRIVALS_LIMIT):
        pair.client.send_file(f"{index}", 1, 0.0)
    with pytest.raises(LocalError, match="wait for one"):
        pair.client.send_file("more", 1, 0.0)


def test_a_message_that_is_too_large_ends_the_files_under_way(pair: Pair) -> None:
    pair = Pair().connect()
    number = pair.client.send_file("a", 4 << 20, 0.0).number
    pair.run()
    pair.guest.accept_file(number)
    data = pack_message(12, FileXferData(id=number, data=bytes(2 << 20)).body())
    for start in range(0, len(data), 2048):
        pair.guest.receive(pack_chunk(1, data[start : start + 2048]))
        assert pair.guest._streams[1].held == 0
    pair.run()
    assert "too large" in pair.guest_saw(FileEnded).reason


@pytest.mark.parametrize("when", ["asked", "sending", "sent"])
def test_a_guest_that_does_nothing_about_a_file_is_given_a_limit(when: str) -> None:
    pair = Pair().connect()
    number = pair.client.send_file("a", 10, 5.0, limit=20.0).number
    if when != "asked":
        pair.run()
        pair.guest.accept_file(number)
        pair.run()
        pair.now = 5.0
        pair.tokens = None if when == "sent" else 0
        pair.client.transfers.feed(under_way(pair, number), bytes(10), 5.0)
    pair.run()
    assert pair.client.next_wake() == 25.0
    pair.client.wake(24.9)
    assert number in pair.client.transfers.active
    pair.client.wake(25.0)
    pair.tokens = None
    pair.run()
    error = pair.client_saw(TransferEnded).error
    assert isinstance(error, SpiceTimeout)
    assert "20 s" in str(error)
    assert pair.guest_saw(FileEnded).reason == "the client could not read it"
    assert pair.client.next_wake() is None


@pytest.mark.parametrize("how", ["gone", "anew", "over"])
def test_files_under_way_end_with_the_agent(how: str) -> None:
    pair = Pair().connect()
    number = pair.client.send_file("a", 100_000, 0.0).number
    pair.run()
    pair.guest.accept_file(number)
    pair.run()
    pair.client.transfers.feed(under_way(pair, number), bytes(CHUNK), 0.0)
    pair.tokens = 3
    pair.run()
    sent = under_way(pair, number).sent
    rest = 20 + 12 + CHUNK - 3 * MAX_AGENT_DATA
    if how == "over":
        pair.client.forget("the session started over")
    else:
        (pair.client.disconnected if how == "gone" else pair.client.connected)()
    error = _ended(pair.client)
    assert isinstance(error, TransferFailed)
    assert f"after {sent} of 100000 bytes" in str(error)
    # What has begun is completed on the same connection: a server counts its bytes.
    left = pair.client.pending - (20 + 8 if how == "anew" else 0)
    assert left == (0 if how == "over" else rest)


def _ended(client: ClientAgent) -> AiospiceError | None:
    (ended,) = [event for event in client.events() if isinstance(event, TransferEnded)]
    return ended.error


def test_a_client_that_leaves_takes_its_files_along(pair: Pair) -> None:
    number = pair.client.send_file("a", 10, 0.0).number
    pair.run()
    pair.guest.accept_file(number)
    pair.leave()
    assert pair.guest_saw(FileEnded).reason == "the client is gone"
    pair.guest.finish_file(number)
    pair.connect()
    assert pair.client.phase is AgentPhase.READY


# What else there is to say.


def test_monitors_and_how_the_desktop_looks_reach_the_guest_and_are_answered(pair: Pair) -> None:
    pair.client.set_monitors([(1024, 768, 0, 0), (800, 600, 1024, 10)])
    pair.client.set_display_config(DisplayConfigFlags.DISABLE_ANIMATION)
    pair.client.set_volume([65535, 0], mute=True)
    pair.run()
    assert pair.guest_saw(MonitorsConfigured) == MonitorsConfigured(
        monitors=((1024, 768, 0, 0, 32), (800, 600, 1024, 10, 32)), positions=True, sizes=()
    )
    assert pair.guest_saw(DesktopConfigured).flags == DisplayConfigFlags.DISABLE_ANIMATION
    assert pair.guest_saw(VolumeWanted) == VolumeWanted(playback=True, mute=True, volume=(65535, 0))
    assert pair.client_saw(AgentReplied) == AgentReplied(message="monitors-config", success=True)
    assert pair.client_saw(AgentReplied) == AgentReplied(message="display-config", success=True)
    with pytest.raises(LocalError, match="at least one"):
        pair.client.set_monitors([(0, 0, 0, 0)])


def test_the_server_moves_the_pointer_and_tells_the_devices(pair: Pair) -> None:
    pair.from_server(MouseState(x=3, y=4, buttons=MouseButtons.LEFT, display_id=1))
    assert pair.guest_saw(PointerMoved) == PointerMoved(
        x=3, y=4, buttons=MouseButtons.LEFT, display=1
    )
    info = DeviceDisplayInfo(
        channel_id=0, monitor_id=1, device_display_id=2, device_address=b"pci/0000/02.0\0"
    )
    pair.from_server(GraphicsDeviceInfo(display_info=(info,)))
    assert pair.guest_saw(GraphicsDevices).devices == ((0, 1, 2, "pci/0000/02.0"),)


def test_only_the_server_says_that_the_client_is_gone(pair: Pair) -> None:
    pair.to_guest(pack_chunk(1, pack_message(13, b"")))
    assert pair.guest.client


def test_nothing_can_be_sent_without_an_agent_that_is_ready() -> None:
    client = ClientAgent()
    for call in (
        lambda: client.send_file("a", 1, 0.0),
        lambda: client.set_monitors([(1, 1, 0, 0)]),
        lambda: client.set_volume([1]),
        lambda: client.request(),
    ):
        with pytest.raises(StateError, match="no agent runs"):
            call()
    client.connected()
    with pytest.raises(StateError, match="not told yet"):
        client.send_file("a", 1, 0.0)
    client.set_monitors([(1, 1, 0, 0)])  # a server may take it without the agent
