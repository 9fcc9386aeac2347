"""The demo, and what it is made of: the stream of numbers, its judge, the relay."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiospice.errors import MissingProgram
from aiospice.proof import demo
from aiospice.proof import qemu as rig
from aiospice.proof.relay import DelayRelay
from aiospice.proof.stream import EchoCheck, numbers

TOTAL = 4000


def judged(data: bytes, cuts: list[int], sent: int = TOTAL) -> tuple[int, int, int]:
    """Lost, repeated, out of order, when ``data`` comes back cut at ``cuts``."""
    check = EchoCheck()
    edges = [0, *sorted(cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        check.feed(data[start:end], sent)
    return check.finish(sent), check.repeated, check.out_of_order


cuts = st.lists(st.integers(0, TOTAL), max_size=8)


@given(st.integers(0, TOTAL), st.integers(0, TOTAL))
def test_the_stream_is_the_same_from_anywhere(start: int, count: int) -> None:
    assert numbers(start, count) == numbers(0, start + count)[start:]


@given(cuts)
def test_a_whole_stream_is_exact_however_it_is_cut(where: list[int]) -> None:
    assert judged(numbers(0, TOTAL), where) == (0, 0, 0)


@given(st.integers(0, TOTAL - 1), st.integers(1, 600), cuts)
def test_each_lost_byte_is_counted(start: int, count: int, where: list[int]) -> None:
    whole = numbers(0, TOTAL)
    count = min(count, TOTAL - start)
    assert judged(whole[:start] + whole[start + count :], where) == (count, 0, 0)


@given(st.lists(st.integers(0, TOTAL // 40 - 1), unique=True, max_size=9), cuts)
def test_single_bytes_lost_in_many_places_are_counted(lost: list[int], where: list[int]) -> None:
    gone = {40 * place + 7 for place in lost}
    data = bytes(byte for at, byte in enumerate(numbers(0, TOTAL)) if at not in gone)
    assert judged(data, where) == (len(lost), 0, 0)


@given(st.integers(16, TOTAL), st.integers(16, 600), cuts)
def test_each_repeated_byte_is_counted(end: int, count: int, where: list[int]) -> None:
    whole = numbers(0, TOTAL)
    count = min(count, end)
    again = whole[:end] + whole[end - count :]
    assert judged(again, where) == (0, count, 0)


def test_what_comes_late_is_out_of_order_and_not_lost() -> None:
    whole = numbers(0, TOTAL)
    assert judged(whole[:800] + whole[1200:] + whole[800:1200], []) == (0, 0, 400)
    swapped = whole[:800] + whole[1200:2000] + whole[800:1200] + whole[2000:]
    assert judged(swapped, [900, 1700]) == (0, 0, 400)


def test_foreign_bytes_are_too_many_and_change_nothing_else() -> None:
    whole = numbers(0, TOTAL)
    assert judged(whole[:801] + b"\xff" * 5 + whole[801:], []) == (0, 5, 0)
    assert judged(whole + b"\xff" * 5, []) == (0, 5, 0)


def test_a_lost_end_is_lost() -> None:
    assert judged(numbers(0, TOTAL - 100), []) == (100, 0, 0)


async def test_the_relay_delays_both_ways_and_passes_the_end_on() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with DelayRelay(0.05) as relay:
        port = await relay.to("127.0.0.1", server.sockets[0].getsockname()[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        begin = time.monotonic()
        writer.write(b"there and back")
        assert await reader.readexactly(14) == b"there and back"
        assert time.monotonic() - begin >= 0.1
        bulk = numbers(0, 3 << 20)  # more than it holds
        writer.write(bulk)
        writer.write_eof()
        assert await reader.read(-1) == bulk
        writer.close()
    server.close()


async def test_a_relay_to_nowhere_closes() -> None:
    async with DelayRelay() as relay:
        port = await relay.to("127.0.0.1", rig.free_port())
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b""
        writer.close()


async def test_without_qemu_the_demo_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig, "PROGRAM", "no-such-qemu")
    with pytest.raises(MissingProgram, match="qemu-system-x86"):
        await demo.run(guest="qemu", out=io.StringIO(), err=io.StringIO())
    with pytest.raises(MissingProgram, match="no guest 'x'"):
        await demo.run(guest="x")


@pytest.mark.peers
async def test_the_demo_loses_nothing_and_says_so() -> None:
    out, err = io.StringIO(), io.StringIO()
    assert await demo.run(guest="qemu", migrations=2, out=out, err=err) == 0
    assert "2 of 2: seamless, paused for" in err.getvalue()
    assert "Not a byte was lost." in out.getvalue()
    assert "relay" in out.getvalue()


@pytest.mark.peers
async def test_the_demo_tells_scripts_one_object_a_line() -> None:
    out, err = io.StringIO(), io.StringIO()
    assert await demo.run(guest="qemu", migrations=2, json=True, out=out, err=err) == 0
    connected, one, two, report = (json.loads(line) for line in out.getvalue().splitlines())
    assert connected["event"] == "connected"
    assert "main:0" in connected["channels"]
    assert [one["number"], two["number"]] == [1, 2]
    assert one["mode"] == two["mode"] == "seamless"
    assert report["sent"] == report["received"] > 8192
    assert report["lost"] == report["repeated"] == report["out_of_order"] == 0
    assert report["modes"] == ["seamless", "seamless"]
    assert report["pauses"] == [one["pause"], two["pause"]]
