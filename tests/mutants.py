"""Mistakes put into the cores on purpose: the simulator has to find each of them.

``make mutants``, or ``python tests/mutants.py [NAME...] [--seeds N]``: each is put into the source
of one module as a process imports it, and seeds are played until one fails. What is on the disk
stays.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["MUTANTS", "Mutant", "found_after", "main"]

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "aiospice"


class Mutant(NamedTuple):
    """One mistake: in which module what is replaced by what."""

    module: str
    old: str
    new: str
    #: The policies under which it matters.
    policies: tuple[str, ...] = ("carry",)


MUTANTS = {
    # flow control
    "a-token-given-twice": Mutant(
        "devices.carry",
        "client.tokens = record.num_client_tokens\n",
        "client.tokens = record.num_client_tokens + 1\n",
    ),
    "a-token-lost-on-the-way": Mutant(
        "devices.carry",
        "num_send_tokens=client.send_tokens if flow",
        "num_send_tokens=client.send_tokens - 1 if flow",
    ),
    "a-token-to-send-too-many": Mutant(
        "devices.carry",
        "num_send_tokens=client.send_tokens if flow",
        "num_send_tokens=client.send_tokens + 40 if flow",
    ),
    # what waits goes with the guest, and comes back
    "what-the-guest-has-read-goes-again": Mutant(
        "devices.carry",
        "data = buffer.data if place else buffer.data[core.taken :]\n        state",
        "data = buffer.data\n        state",
    ),
    "the-last-byte-of-a-record-lost": Mutant(
        "devices.carry", "write_data=data,\n", "write_data=data[:-1],\n"
    ),
    "a-record-put-in-twice": Mutant(
        "devices.carry",
        "core._push(WriteBuffer(record.write_data, origin, id, price))\n",
        "core._push(WriteBuffer(record.write_data * 2, origin, id, price))\n",
    ),
    "what-was-lifted-put-back-in-the-wrong-order": Mutant(
        "devices.replay",
        "extendleft(reversed(aside.buffers))",
        "extendleft(aside.buffers)",
    ),
    "what-was-lifted-not-put-back": Mutant(
        "devices.replay",
        "extendleft(reversed(aside.buffers))",
        "extendleft(())",
    ),
    "the-guest-does-not-get-what-came-with-it": Mutant(
        "devices.carry",
        "core.buffers.append(WriteBuffer(data, kept, client, price))\n",
        "core.buffers.append(WriteBuffer(data[1:] + data[:1], kept, client, price))\n",
    ),
    # marks, and what is behind them
    "a-mark-behind-the-queue": Mutant(
        "channels.base",
        "self._send_first(common.MigrateFlushMark())",
        "self.send(common.MigrateFlushMark())",
    ),
    "a-mark-twice": Mutant(
        "channels.base",
        "self._send_first(common.MigrateFlushMark())",
        "[self._send_first(common.MigrateFlushMark()) for _ in range(2)]",
    ),
    "the-queue-leaves-for-a-server-that-is-left": Mutant(
        "channels.base",
        "may = self.phase is ChannelPhase.OPEN and",
        "may = self.phase is not ChannelPhase.CLOSED and",
    ),
    "a-record-for-nobody": Mutant(
        "channels.base", "self._send_first(common.ClientMigrateData(data=data))", "pass"
    ),
    # freeze, thaw, switch
    "what-was-typed-is-not-told": Mutant(
        "server.leaving",
        "LateInputs(tuple(each)) for number, each in self._late.items()",
        "LateInputs(()) for number, each in self._late.items()",
    ),
    "what-was-typed-before-a-cancel-is-lost": Mutant(
        "server.leaving", "channel.replay(late.get(number, ()), now)", "channel.replay((), now)"
    ),
    "what-is-typed-behind-migrate-is-lost": Mutant(
        "server.forwarding",
        "if not event.behind:",
        "if channel.phase.name == 'OPEN':",
    ),
    "what-is-held-down-forgotten": Mutant(
        "channels.server.inputs", "self.keys_down = dict.fromkeys(held.keys)", "pass"
    ),
    "keys-of-who-does-not-come-stay-down": Mutant(
        "server.arriving", "self._to_guest(let_up(held.keys, held.buttons))", "pass"
    ),
    "a-guest-that-is-not-stopped": Mutant(
        "server.leaving", "        self.frozen = state\n", "        self.frozen = None\n"
    ),
    "pixels-forgotten": Mutant("server.carried", "machine.displays[number].thaw(shown)", "shown"),
    # between two servers
    "what-comes-late-is-dropped": Mutant(
        "server.linked",
        "self._replay(session, channel, ((message.number, message.body),))",
        "pass",
        ("direct",),
    ),
    "what-comes-late-comes-twice": Mutant(
        "server.linked",
        "self._replay(session, channel, ((message.number, message.body),))",
        "self._replay(session, channel, ((message.number, message.body),) * 2)",
        ("direct",),
    ),
    "nobody-waits-for-what-comes-late": Mutant(
        "channels.server.base",
        "self.late_awaited = self.awaits_late\n",
        "self.late_awaited = False\n",
        ("direct",),
    ),
    "a-held-client-that-goes-on-writing": Mutant(
        "channels.base",
        "self.held_until = self._now + HELD_SECONDS",
        "pass",
        ("hold",),
    ),
    # who may come, and time
    # what clients have copies of
    "what-was-begun-is-sent-from-its-beginning": Mutant(
        "devices.replay",
        "partial = 0 if first is None else max(0, aside.taken - header)\n",
        "partial = 0\n",
        ("replay", "ack"),
    ),
    "a-message-taken-is-sent-again": Mutant(
        "devices.replay",
        "Report(client.done, partial)",
        "Report(max(0, client.done - 1), partial)",
        ("replay", "ack"),
    ),
    "what-clients-have-copies-of-goes-with-the-guest-too": Mutant(
        "devices.replay", "    state.to_guest = kept\n", "", ("replay", "ack")
    ),
    "a-token-too-many-for-who-resumes": Mutant(
        "devices.replay",
        "client.tokens, client.free = own, 0\n",
        "client.tokens, client.free = own + 1, 0\n",
        ("replay", "ack"),
    ),
    "tokens-of-what-is-sent-again-are-lost": Mutant(
        "devices.replay", "    return own - tokens\n", "    return 0\n", ("replay", "ack")
    ),
    "any-ticket-will-do": Mutant(
        "server.links", "link.expect(self._expected(link.request))", "link.expect(None)"
    ),
    "a-source-that-waits-for-ever": Mutant(
        "migration.source", "self.deadline = now + LEAVE_SECONDS", "self.deadline = None"
    ),
    "an-ended-session-that-wants-to-be-woken": Mutant(
        "client.session",
        "        if self.phase is SessionPhase.CLOSED:\n            return None\n        times",
        "        times",
        ("hold",),
    ),
    # servers that hand guests over themselves
    "a-guest-that-was-let-go-goes-on-when-the-link-is-lost": Mutant(
        "migration.link_source",
        "            self._ask(text, now)\n        elif self.phase in (SourceLinkPhase.ASKING",
        "            self._stay(text)\n        elif self.phase in (SourceLinkPhase.ASKING",
    ),
    "a-target-that-denies-what-it-runs": Mutant(
        "migration.link_target",
        "        return migration in self.ran\n",
        "        return False\n",
    ),
    "a-guest-that-begins-to-run-is-denied": Mutant(
        "migration.link_target",
        "if link is not None and link.phase is TargetLinkPhase.STARTING:",
        "if False:",
    ),
    "nobody-is-told-that-the-guest-is-nowhere": Mutant(
        "migration.link_source",
        "if self.phase is SourceLinkPhase.ASKING and now >= self._ask_until:",
        "if False:",
    ),
    "what-was-drawn-while-it-was-told-is-forgotten": Mutant(
        "server.surface",
        "            self.dirty.update(range(box[1] // rows, -(-box[3] // rows)))",
        "            self.dirty.update(range(0))",
    ),
    "what-was-told-early-can-not-be-told-anew": Mutant(
        "server.early",
        "        if number == 0:\n",
        "        if number == 0 and name not in self._parts:\n",
    ),
    "a-silent-server-that-loses-its-guest": Mutant(
        "server.serving", "if self._stale and self._shows_frames():", "if self._stale:"
    ),
}


class Mutator(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module with a mistake in it."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant
        self.name = f"aiospice.{mutant.module}"

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        """Of the one module."""
        return importlib.util.spec_from_loader(name, self) if name == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        """Run its source, changed."""
        sys.meta_path.remove(self)
        path = PACKAGE.joinpath(*self.mutant.module.split(".")).with_suffix(".py")
        text = path.read_text(encoding="utf-8")
        assert text.count(self.mutant.old) == 1, f"{path} has changed"
        code = compile(text.replace(self.mutant.old, self.mutant.new), str(path), "exec")
        exec(code, module.__dict__)


def hunt(name: str, first: int, count: int) -> int:
    """In a process of its own: play seeds until one fails; tells how many it took, 0 for none."""
    mutant = MUTANTS[name]
    sys.meta_path.insert(0, Mutator(mutant))
    from aiospice.sim.scenario import draw
    from aiospice.sim.world import run

    for seed in range(first, first + count):
        outcome = run(draw(seed, mutant.policies[seed % len(mutant.policies)]))
        if outcome.wrong:
            sys.stdout.write(f"{seed - first + 1} {outcome.wrong}\n")
            return 0
    sys.stdout.write("0 not found\n")
    return 0


def found_after(name: str, count: int = 2000, first: int = 0) -> tuple[int, str]:
    """How many seeds it takes to find a mutant, 0 if ``count`` don't, and what is wrong then."""
    command = [sys.executable, __file__, "--hunt", name, "--seeds", str(count)]
    done = subprocess.run(
        [*command, "--first", str(first)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise AssertionError(f"{name}: {done.stderr[-2000:]}")
    number, _, text = done.stdout.strip().partition(" ")
    return int(number), text


def main(arguments: Sequence[str] | None = None) -> int:
    """Look for all, or for those that are named; 1 if one isn't found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--hunt")
    options = parser.parse_args(arguments)
    if options.hunt:
        return hunt(options.hunt, options.first, options.seeds)
    missed = 0
    for name in options.names or MUTANTS:
        number, text = found_after(name, options.seeds, options.first)
        missed += not number
        sys.stdout.write(f"{name}: {f'seed {number}' if number else 'MISSED'}: {text[:120]}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(options.names or MUTANTS)} mutants, {missed} missed\n")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
