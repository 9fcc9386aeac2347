"""A guest that works: it writes and reads a port, draws, takes keys, and files by its agent."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiospice.agent.guest import GuestAgent
from aiospice.agent.guest_events import FileCame, FileOffered, FilePart
from aiospice.server.guest import Guest
from aiospice.sim.streams import LONGEST, Follower, stream

if TYPE_CHECKING:
    from aiospice.server.guest import Host
    from aiospice.sim.chance import Chance
    from aiospice.sim.scenario import Scenario

__all__ = ["PORT", "Memory", "SimGuest"]

PORT = "org.example.stream"
WIDTH, HEIGHT = 64, 48
#: Bytes of the agent that are handed to its device at once, at most.
_SAID = 600


@dataclass(slots=True)
class Memory:
    """What goes with the guest. Plain data, but for the agent, which pickles."""

    chance: Chance
    agent: GuestAgent
    #: Bytes written to the port, and what has been read of it.
    said: int = 0
    heard: Follower = field(default_factory=Follower)
    #: Bytes that the agent hasn't been able to say, and the file that has come.
    unsaid: bytes = b""
    file: bytes = b""
    #: Keys that are down; everything that was typed; how far the mouse went.
    down: set[int] = field(default_factory=set)
    typed: list[tuple[int, bool]] = field(default_factory=list)
    moved: int = 0
    buttons: int = 0
    #: No reading before that time.
    busy_until: float = 0.0
    wrong: str = ""


class SimGuest(Guest):
    """See the module's text; `live` is its clock's tick."""

    def __init__(self, scenario: Scenario, chance: Chance) -> None:
        self.scenario = scenario
        self.memory = Memory(chance, GuestAgent())
        self.works = True
        self._host: Host | None = None
        #: What was told while it ran (`freeze_early`), and what has come so.
        self._told: dict[str, int] = {}
        self._came: dict[str, int] | None = None

    @property
    def host(self) -> Host:
        """What it is attached to."""
        assert self._host is not None
        return self._host

    def attach(self, host: Host) -> None:
        """Make a display, a port, and perhaps an agent."""
        self._host = host
        host.display(0).resize(WIDTH, HEIGHT)
        host.port(PORT)
        host.agent()

    def begin(self) -> None:
        """Run for the first time."""
        self.host.port(PORT).opened = True
        if self.scenario.file:
            self.host.agent().opened = True

    # -- it moves ----------------------------------------------------------------------------------

    def freeze(self) -> bytes:
        """Its memory, pickled."""
        return pickle.dumps(self.memory)

    def freeze_early(self, *, again: bool) -> dict[str, int]:
        """How far it is, in thousands of bytes: what of that has changed."""
        memory = self.memory
        pages = {"said": memory.said // 1000, "heard": memory.heard.at // 1000}
        before, self._told = self._told if again else {}, pages
        return {name: page for name, page in pages.items() if before.get(name) != page}

    def thaw_early(self, parts: dict[str, int]) -> None:
        """What `freeze_early` gave."""
        self._came = parts

    def thaw(self, state: bytes) -> None:
        """Go on with the memory of another."""
        memory: Memory = pickle.loads(state)
        self.memory = memory
        came, self._came = self._came, None
        if came is not None and came != {
            "said": memory.said // 1000,
            "heard": memory.heard.at // 1000,
        }:
            memory.wrong = f"{came} of what was told early"

    # -- it lives ----------------------------------------------------------------------------------

    def live(self, now: float) -> None:
        """One turn."""
        memory, host = self.memory, self.host
        if self.works:
            self._speak()
            if self.scenario.draws and memory.chance.yes(self.scenario.drawing):
                self._draw()
        if now >= memory.busy_until:
            data = host.port(PORT).read(8192)
            if data and not memory.wrong:
                memory.wrong = memory.heard.take(data)
            if self.scenario.slow_guest and memory.chance.yes(0.2):
                memory.busy_until = now + memory.chance.between(0.0, self.scenario.slow_guest)
        if self.scenario.file:
            self._agent()

    def _speak(self) -> None:
        size = int(self.scenario.to_client * self.scenario.tick)
        size = min(size, LONGEST - self.memory.said)
        if size > 0:
            self.memory.said += self.host.port(PORT).write(stream(self.memory.said, size))

    def _draw(self) -> None:
        chance, display = self.memory.chance, self.host.display(0)
        x, y = chance.below(WIDTH - 12), chance.below(HEIGHT - 8)
        what = chance.below(4)
        if what == 0:
            display.fill(x, y, 12, 8, chance.below(1 << 24))
        elif what == 1:
            display.copy(x, y, 12, 8, chance.below(WIDTH - 12), chance.below(HEIGHT - 8))
        else:
            row = chance.bytes(48)
            for line in range(8):
                pixels = display.pixels[y + line, x : x + 12]
                pixels.reshape(-1)[:] = list(row[line:] + row[:line])
            display.update(x, y, 12, 8)

    def _agent(self) -> None:
        memory, device = self.memory, self.host.agent()
        agent = memory.agent
        room = min(agent.room, 4096)
        agent.receive(device.read(room) if room else b"")
        for event in agent.events():
            if isinstance(event, FileOffered):
                agent.accept_file(event.number)
            elif isinstance(event, FilePart):
                memory.file += event.data
            elif isinstance(event, FileCame):
                agent.finish_file(event.number)
        said = memory.unsaid or agent.take(_SAID)
        done = device.write(said[: 1 + memory.chance.below(_SAID)]) if said else 0
        memory.unsaid = said[done:]

    # -- it is told --------------------------------------------------------------------------------

    def key(self, code: int, pressed: bool) -> None:
        """Remember it, and show it."""
        self.host.display(0).fill(code % (WIDTH - 4), 0, 4, 4, 0x808080 | code)
        self.memory.typed.append((code, pressed))
        (self.memory.down.add if pressed else self.memory.down.discard)(code)

    def mouse_motion(self, dx: int, dy: int, buttons: int) -> None:
        """Remember how far."""
        self.memory.moved += dx

    def mouse_button(self, button: int, pressed: bool, buttons: int) -> None:
        """Remember what is down."""
        self.memory.buttons = buttons
