"""What is done while a guest stands still, done once before with a machine that nobody needs.

Python is slower with code that it runs for the first time, and the guest of the first move of a
process would wait for that: 2.7 ms instead of 2.3 (medians of 12 pairs of moves, taken in turn). A
round takes about a millisecond; the loop has its turn in between.
"""

from __future__ import annotations

import asyncio

from aiospice.aio.crypto import Crypto

__all__ = ["ROUNDS", "rehearse"]

#: After so many the interpreter has adapted its code, and it gets no faster.
ROUNDS = 8
_SIZE = 64  # pixels

_done = False


async def rehearse() -> None:
    """Hand a small machine over within this process, a few times; once in a process."""
    global _done
    if _done:
        return
    _done = True
    for _ in range(ROUNDS):
        _round(Crypto())
        await asyncio.sleep(0)


def _round(crypto: Crypto) -> None:
    from aiospice.migration.plainform import decode_plain, encode_plain
    from aiospice.server.config import ServerConfig
    from aiospice.server.core import ServerCore
    from aiospice.server.early import Collected, EarlyPixels, pack_piece, rest_pieces
    from aiospice.server.guest import Host

    here, there = (ServerCore(ServerConfig(), crypto) for _ in range(2))
    for core in (here, there):
        host = Host(core, lambda: None)
        host.display(0).resize(_SIZE, _SIZE)
        host.port("org.aiospice.rehearsal").opened = core is here
    early, collected = EarlyPixels(here.machine), Collected()
    state = here.freeze_machine(0.0)
    rest, last = rest_pieces(encode_plain({"turn": 1}, "a rehearsal"), state)
    for piece in (*early.pieces(), *rest):
        collected.keep(pack_piece(piece))
    guest, machine = collected.rest(last)
    decode_plain(guest)
    there.expect_guest(0.0)
    there.thaw_machine(machine, 0.0)
    _records(crypto)


def _records(crypto: Crypto) -> None:
    from aiospice.server.sealed import Place, open_record, seal_record
    from aiospice.wire.handover import InputsRecord, MainRecord, VmcRecord, parse_record

    key, found = (
        bytes(32),
        (MainRecord.empty(), InputsRecord(motion_count=0), VmcRecord.queued(b"1")),
    )
    for kind, record in zip((1, 3, 10), found, strict=True):
        place = Place("rehearsal", 1, (kind, 0))
        sealed = seal_record(record.encode(), key, place, crypto)
        parse_record(kind, open_record(sealed, key, place, crypto))
