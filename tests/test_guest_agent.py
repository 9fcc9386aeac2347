"""The agent of our guests: clipboard, dropped files, monitors and pointer, through a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from tests.guest_agent import AgentPeer
from tests.guest_host import RecordingHost

from aiospice.agent.events import ClipboardData, ClipboardGrabbed
from aiospice.agent.transfers import TransferPhase
from aiospice.errors import TransferFailed
from aiospice.guests.agent_end import AgentEnd
from aiospice.guests.demo import DemoGuest
from aiospice.guests.filedrop import DropLimits, FileDrop
from aiospice.server.guest import Guest
from aiospice.wire.agent import ClientDisconnected, MouseState


def demo(**options: Any) -> tuple[DemoGuest, AgentPeer]:
    host = RecordingHost()
    guest = DemoGuest(clock=lambda: 1.7e9, **options)
    guest.attach(cast(Any, host))
    return guest, AgentPeer(host, guest)


def test_a_text_of_the_client_is_shown_and_pasted() -> None:
    guest, peer = demo()
    peer.client.clipboards.grab({"text": "grüße\n2".encode()})
    peer.run()
    assert guest.state.clipboard == "grüße\n2"
    guest.press("paste")
    assert guest.text == "grüße\n2"
    peer.client.clipboards.release()
    peer.run()
    assert guest.state.clipboard == ""


def test_the_copy_button_gives_the_text_to_the_client() -> None:
    guest, peer = demo()
    for char in "from the guest":
        guest.type(char)
    guest.press("copy")
    peer.run()
    assert peer.last(ClipboardGrabbed).forms == ("text",)
    peer.client.request("text")
    peer.run()
    assert peer.last(ClipboardData).data == b"from the guest"


def test_pictures_are_not_asked_for() -> None:
    guest, peer = demo()
    peer.client.clipboards.grab({"png": b"\x89PNG"})
    peer.run()
    assert guest.state.clipboard == ""


def test_files_come_whole(tmp_path: Path) -> None:
    guest, peer = demo(folder=str(tmp_path))
    content = bytes(range(256)) * 1000
    assert peer.send("a.bin", content).error is None
    assert peer.send("empty", b"").phase is TransferPhase.ENDED
    assert (tmp_path / "a.bin").read_bytes() == content
    assert [file.size for file in guest.files.files] == [256000, 0]
    assert peer.send("a.bin", b"other").error is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a (2).bin", "a.bin", "empty"]


def test_without_a_folder_files_stay_in_memory() -> None:
    guest, peer = demo()
    peer.send("a", b"content")
    assert guest.files.contents == {"a": b"content"}


def test_a_file_that_is_too_large_is_refused_with_the_reason() -> None:
    guest, peer = demo()
    guest.files.limits = DropLimits(file_bytes=10)
    transfer = peer.send("a", b"0" * 11)
    assert isinstance(transfer.error, TransferFailed)
    assert "10" in str(transfer.error)
    guest.files.limits = DropLimits(files=0)
    assert isinstance(peer.send("a", b"0").error, TransferFailed)


def test_a_file_that_cannot_be_kept_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    guest, peer = demo(folder=str(tmp_path / "taken"))
    assert isinstance(peer.send("a", b"0").error, TransferFailed)
    assert guest.files.total == 0


def test_a_file_that_fails_halfway_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    guest, peer = demo(folder=str(tmp_path))
    content = b"0" * 200_000
    transfer = peer.client.send_file("a", len(content), 0.0)
    peer.run()
    incoming = guest.agent._coming[transfer.number]
    assert incoming._file is not None
    incoming._file.close()
    incoming._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    while wanted := peer.client.transfers.wanted(transfer):
        peer.client.transfers.feed(transfer, content[transfer.fed :][:wanted], 0.0)
        peer.run()
    assert isinstance(transfer.error, TransferFailed)
    assert list(tmp_path.iterdir()) == []
    assert peer.send("b", b"next").error is None


def test_other_selections_and_forms_change_nothing() -> None:
    guest, peer = demo()
    peer.client.clipboards.grab({"text": b"kept"})
    peer.run()
    peer.client.clipboards.grab({"text": b"marked"}, "primary")
    peer.client.clipboards.release("primary")
    peer.run()
    assert guest.state.clipboard == "kept"
    peer.client.clipboards.grab({"png": b"\x89PNG"})
    peer.run()
    assert guest.state.clipboard == ""


def test_a_client_that_leaves_takes_its_files_with_it(tmp_path: Path) -> None:
    guest, peer = demo(folder=str(tmp_path))
    transfer = peer.client.send_file("a", 100, 0.0)
    peer.run()
    peer.client.transfers.feed(transfer, b"1234", 0.0)
    peer.run()
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
    peer.from_server(ClientDisconnected())
    assert list(tmp_path.iterdir()) == []
    assert guest.files.total == 0


def test_monitors_and_pointer_reach_the_guest() -> None:
    guest, peer = demo()
    peer.client.set_monitors([(800, 600, 0, 0)])
    peer.run()
    assert guest.desktops[0].screen[2:] == (800, 600)
    peer.from_server(MouseState(x=120, y=30, buttons=2, display_id=0))
    peer.from_server(MouseState(x=130, y=40, buttons=2, display_id=0))
    peer.from_server(MouseState(x=130, y=40, buttons=0, display_id=0))
    window = guest.state.windows[0]["notes"]
    assert (window.x, window.y) == (122, 34)
    assert guest.state.drag is None


def test_an_agent_whose_peer_breaks_the_protocol_starts_anew() -> None:
    guest, peer = demo()
    guest.press("copy")
    peer.put(b"\xff" * 8)
    assert guest.agent.core.error is None
    assert peer.device.opened
    peer.client = type(peer.client)()
    peer.reader = type(peer.reader)()
    peer.client.connected()
    peer.run()
    peer.client.clipboards.grab({"text": b"again"})
    peer.run()
    assert guest.state.clipboard == "again"


@pytest.mark.parametrize("room", [1, 100])
def test_a_client_that_reads_little_gets_it_all(room: int) -> None:
    host = RecordingHost()
    told: list[str] = []
    agent = AgentEnd(cast(Any, host.agent()), Guest(), told.append, FileDrop())
    first = bytes(host.agent().outbox)
    host.agent().outbox.clear()
    host.agent().room = room
    again = AgentEnd(cast(Any, host.agent()), Guest(), told.append, FileDrop())
    found = b""
    while host.agent().outbox:
        found += bytes(host.agent().outbox)
        host.agent().outbox.clear()
        again.pump()
    assert found == first
    assert agent.clipboard == ""
    assert told == []
