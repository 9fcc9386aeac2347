"""One run: servers, clients, lines, an operator, faults, and what holds all the time.

::

    outcome = run(draw(seed, "carry"))
    assert not outcome.wrong, outcome.story()

The cores are the real ones. Whatever happens is decided by the scenario and its seed: the same
scenario gives the same trace, line by line.
"""

from __future__ import annotations

import pickle
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiospice.sim.chance import Chance
from aiospice.sim.checks import Checks
from aiospice.sim.clock import EPOCH, Clock, Trace
from aiospice.sim.hypervisor import Hypervisor
from aiospice.sim.lines import LineShape, Network
from aiospice.sim.linkoperator import LinkOperator
from aiospice.sim.process import ClientProcess, ServerProcess
from aiospice.sim.scenario import FAULTS
from aiospice.sim.strangers import LinkStranger, Stranger

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiospice.channels.events import Event
    from aiospice.effects import Open
    from aiospice.sim.lines import End
    from aiospice.sim.peerline import PeerLine
    from aiospice.sim.process import Process
    from aiospice.sim.scenario import Fault, Scenario

__all__ = ["Outcome", "World", "outcome_of", "run"]

#: Steps of one run at most, and steps without any time passing.
STEPS = 400_000
STEPS_AT_ONCE = 20_000
#: Seconds that all moves may take.
MOST_OF_MOVES = 300.0
#: How often a run looks whether it is through, in seconds.
LOOK = 0.02
#: Seconds that a run may take in all until everything that waits has given up: a target lets a
#: client wait for its machine for 600 s (`aiospice.migration.target`).
LONGEST = 1_000.0
#: In a lull a turn takes so many times longer to come.
LULL = 6.0
#: How often it may look at rest and not be: what a line has held back comes then.
RESTS = 10


class Broken(Exception):
    """Something doesn't hold: the run ends."""


@dataclass
class Outcome:
    """What came of a run."""

    scenario: Scenario
    #: What doesn't hold, "" if everything does.
    wrong: str
    digest: str
    events: int
    seconds: float
    trace: list[str] = field(default_factory=list)
    #: How each client's moves went, and figures of the run.
    modes: list[list[str]] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    #: Kinds of faults that struck somebody, and how the moves went for the operator.
    struck: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)

    def story(self, last: int = 400) -> str:
        """The scenario, the end of the trace, and what is wrong."""
        return "\n".join([str(self.scenario), *self.trace[-last:], f"!! {self.wrong}"])


class World:
    """See the module's text."""

    #: What it is made of: who watches runs has others.
    network: type[Network] = Network
    server: type[ServerProcess] = ServerProcess
    client: type[ClientProcess] = ClientProcess

    def __init__(self, scenario: Scenario, *, keep: bool = False) -> None:
        self.scenario = scenario
        self.chance = Chance(scenario.seed)
        self.clock = Clock()
        self.trace = Trace(keep)
        self.net = self.network(self.clock, self.trace)
        self.checks = Checks(self)
        self.servers = {name: self.server(self, name) for name in scenario.names}
        self.clients = [self.client(self, place) for place in range(scenario.clients)]
        self._join()
        self.operator = LinkOperator(self) if scenario.roles else Hypervisor(self)
        self.failure = ""
        #: The operator always waited for the clients.
        self.waited = all(move.patience > 10 for move in scenario.moves)
        self.keys_are_exact = scenario.exact_keys and self.waited
        self.strangers: list[Stranger | LinkStranger] = []
        #: Called when a link between the servers has come to its end.
        self.on_link_over: Callable[[PeerLine], None] = lambda line: None
        #: Kinds of faults that have struck somebody, each time they did.
        self.struck: list[str] = []
        self._arrived: set[int] = set()
        self._stirred = EPOCH
        #: Seconds without anything of note that make a lull: what a move needs of the lines.
        self._short = 1.0 + 8 * scenario.latency + 4 * scenario.jitter
        self._crashed = False

    def _join(self) -> None:
        scenario = self.scenario
        shape = LineShape(scenario.latency, scenario.jitter, scenario.bandwidth, scenario.window)
        for client in scenario.client_names:
            for server in scenario.names:
                self.net.join(client, server, shape, self.chance.fork(f"{client}-{server}"))
        near = LineShape(0.001)
        left, right = scenario.names
        between = LineShape(scenario.moves[0].order if scenario.moves else 0.001)
        if scenario.roles:
            between = LineShape(between.latency, scenario.jitter / 4, scenario.bandwidth)
        self.net.join(left, right, between, self.chance.fork(f"{left}-{right}"))
        for server in scenario.names:
            self.net.join("stranger", server, near, self.chance.fork(f"stranger-{server}"))

    # -- what parts ask ----------------------------------------------------------------------------

    def wrong(self, what: str) -> None:
        """Something doesn't hold: the run is over."""
        self.failure = what
        raise Broken(what)

    @property
    def owner(self) -> ServerProcess | None:
        """Where the guest runs."""
        return next((each for each in self.servers.values() if each.owns), None)

    def busy(self, server: ServerProcess) -> bool:
        """Whether a server's clients are still about to connect."""
        return any(
            client.core.phase.value == "connecting" or not client.core.ready
            for client in self.clients
            if not client.dead and not client.ended
        ) and (self.clock.now - EPOCH < 30)

    def copy(self, what: Any, sizes: list[int] | None) -> Any:
        """What goes from one server to the other is another object there."""
        data = pickle.dumps(what)
        if sizes is not None:
            sizes.append(len(data))
        return pickle.loads(data)

    def dial(self, client: ClientProcess, effect: Open) -> None:
        """A client opens a connection."""
        server = self.servers.get(effect.endpoint.host)
        if server is None:
            self.clock.after(0.0, client.failed, effect.connection, effect.endpoint, "no such host")
            return
        line = self.net.between(client.name, server.name)
        if line.dead:
            seconds = effect.timeout
            text = f"no answer for {seconds:g} s"
            self.clock.after(seconds, client.failed, effect.connection, effect.endpoint, text)
            return
        there = line.arrival(self.clock.now, 0, there=True)
        self.clock.at(there, self._dialled, client, server, effect)

    def _dialled(self, client: ClientProcess, server: ServerProcess, effect: Open) -> None:
        line = self.net.between(client.name, server.name)
        back = line.arrival(self.clock.now, 0, there=False)
        if server.dead:
            args = (effect.connection, effect.endpoint, "connection refused")
            self.clock.at(back, client.failed, *args)
            return
        here, there = self.net.connect(line, client, effect.connection, server)
        there._last = back
        self.clock.at(back, client.connected, here)
        server.accept(there, client.name)

    # -- how fast it goes --------------------------------------------------------------------------

    @property
    def lull(self) -> bool:
        """Whether nothing of note has happened for a while: it is a waste to be busy."""
        return self.scenario.lulls and self.clock.now - self._stirred > self._short

    @property
    def tick(self) -> float:
        """Seconds between two turns of the guest."""
        return self.scenario.tick * (LULL if self.lull else 1.0)

    def stir(self) -> None:
        """Something of note happens."""
        slow, self._stirred = self.lull, self.clock.now
        if slow:
            for process in self.processes.values():
                process.rouse()

    # -- what happens ------------------------------------------------------------------------------

    def client_event(self, client: ClientProcess, event: Event) -> None:
        """A client has told something."""
        self.stir()

    def server_event(self, server: ServerProcess, event: Event) -> None:
        """A server has told something."""
        if type(event).__name__ == "SessionArrived":
            server.note(str(event))
            if self.operator.place not in self._arrived:
                self._arrived.add(self.operator.place)
                self.reached("arrived")

    def reached(self, anchor: str) -> None:
        """The move that is under way is so far: what is due then happens."""
        self.stir()
        place = self.operator.place
        for fault in self.scenario.faults:
            if fault.move == place and fault.anchor == anchor:
                self.clock.after(fault.delay, self.happens, fault)

    def happens(self, fault: Fault) -> None:
        """Something goes wrong."""
        self.trace.add(self.clock.now, "fate", str(fault))
        self.stir()
        who = fault.who
        if "-" in who:
            self.struck.append(fault.kind)
            self._line_fails(fault)
        elif fault.kind == "intruder":
            self._intrude(fault)
        elif who == "operator":
            self.struck += [fault.kind] * (self.operator.step != "idle")
            self.operator.cancelled = True
        else:
            self._process_fails(fault, self.processes[who])

    @property
    def processes(self) -> dict[str, Process]:
        """All of them, by name."""
        found: dict[str, Process] = dict(self.servers)
        found.update((client.name, client) for client in self.clients)
        return found

    def _line_fails(self, fault: Fault) -> None:
        line = self.net.between(*fault.who.split("-"))
        link = self.operator.link
        if link is not None and link.line is line and fault.kind != "stall":
            if fault.kind == "dead":
                self.net.kill(line)
            link.dies()
            return
        if fault.kind == "stall":
            self.net.stall(line, fault.amount)
            self.clock.at(line.until, self.stir)
        elif fault.kind == "dead":
            self.net.kill(line)
        else:
            place = int(fault.amount * 1000) if fault.kind == "reset-one" else None
            self.net.reset(line, place)

    def _process_fails(self, fault: Fault, process: Process) -> None:
        if process.dead:
            return
        if FAULTS[fault.kind] != "client" or fault.kind in ("leave", "deaf"):
            self.struck.append(fault.kind)  # who is hostile tells when it is
        if fault.kind == "stop":
            process.stop(fault.amount)
        elif fault.kind in ("crash", "leave"):
            if isinstance(process, ServerProcess):
                process.owns = False
            process.die(clean=fault.kind == "leave" or fault.amount > 1.0)
            link = self.operator.link
            if link is not None and process in link.ends:
                link.dies()
        elif fault.kind == "deaf":
            process.deaf = True
            self.clock.after(fault.amount, self._hears, process)
        elif isinstance(process, ClientProcess):
            process.hostile = fault.kind

    def _hears(self, process: Process) -> None:
        process.deaf = False
        self.stir()
        process.listen()

    def _intrude(self, fault: Fault) -> None:
        server = self.servers[fault.who]
        if not server.dead:
            self.struck.append(fault.kind)
            chance = self.chance.fork(f"stranger {fault}")
            stranger = Stranger(self, server, chance)
            self.strangers.append(stranger)
            stranger.start()
            if self.scenario.roles:
                astray = LinkStranger(self, server, chance.fork("link"))
                self.strangers.append(astray)
                astray.start()

    def met(self, stranger: Stranger, server: ServerProcess) -> End:
        """A stranger's connection to a server, at once."""
        line = self.net.between("stranger", server.name)
        here, there = self.net.connect(line, stranger, 0, server)
        server.accept(there, "stranger", stranger=True)
        return here

    # -- the run -----------------------------------------------------------------------------------

    def _until(self, done: Any, limit: float) -> bool:
        end = self.clock.now + limit
        before, same, look = -1.0, 0, 0.0
        for _ in range(STEPS):
            if self.clock.now >= look:
                look = self.clock.now + LOOK
                if done():
                    return True
            if not self.clock.step(end):
                return bool(done())
            same = same + 1 if self.clock.now == before else 0
            before = self.clock.now
            if same > STEPS_AT_ONCE:
                self.wrong("no time passes")
        self.wrong(f"more than {STEPS} steps")
        return False

    def _pass(self, seconds: float) -> None:
        self._until(lambda: False, seconds)

    def play(self) -> None:
        """All of it. What doesn't hold ends it: see `failure`."""
        try:
            self._play()
        except Broken:
            pass
        except Exception as error:  # nothing may come out of a core
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.failure = f"{type(error).__name__} came out in {where.name}: {error}"
        if self.failure:
            self.trace.add(self.clock.now, "!!", self.failure)

    def _play(self) -> None:
        first = self.servers[self.scenario.names[0]]
        first.take_guest()
        first.has_guest = True
        first.guest.begin()
        first.turn()
        for client in self.clients:
            client.start()
        self._until(lambda: not self.busy(first), 30.0)
        self.operator.start()
        if not self._until(lambda: self.operator.done, MOST_OF_MOVES):
            self.wrong("the operator waits for ever")
        self._pass(self.scenario.after)
        for client in self.clients:
            client.works = False
            if not client.dead:
                client.let_up()
        for server in self.servers.values():
            server.guest.works = False
        self._until(self._at_rest, 60.0)
        for _ in range(RESTS):
            self._until(self._at_rest, LONGEST)
            self._pass(self._lull)
            if self._at_rest():
                break
        self.checks.at_the_end()

    @property
    def _lull(self) -> float:
        """What was drawn and counted last has come and gone, and been answered, by then."""
        scenario = self.scenario
        trip = scenario.latency + scenario.jitter + scenario.tick
        return 1.0 + 6 * (trip + scenario.slow_client + scenario.slow_guest)

    def _at_rest(self) -> bool:
        stopped = any(process.stopped or process.deaf for process in self.processes.values())
        stopped = stopped or any(line.until > self.clock.now for line in self.net.lines.values())
        return not stopped and not self.checks.unsettled() and self.checks.streams_are_done()


def run(scenario: Scenario, *, keep: bool = False) -> Outcome:
    """Play a scenario; ``keep`` its trace."""
    world = World(scenario, keep=keep)
    world.play()
    return outcome_of(world)


def outcome_of(world: World) -> Outcome:
    """What came of a world that was played."""
    operator = world.operator
    return Outcome(
        scenario=world.scenario,
        wrong=world.failure,
        digest=world.trace.digest(),
        events=world.trace.count,
        seconds=world.clock.now - EPOCH,
        trace=world.trace.lines,
        modes=[client.modes for client in world.clients],
        figures={
            "downtime": max(operator.downtimes, default=0.0),
            "state_bytes": max(operator.sizes, default=0),
            "client_bytes": world.checks.client_peak,
        },
        struck=world.struck,
        ends=operator.ends,
    )
