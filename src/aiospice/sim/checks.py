"""What must hold at every step of a run, and at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiospice.channels.server.inputs import InputsServer
from aiospice.client.picture import Picture
from aiospice.client.session import SessionPhase
from aiospice.migration.client import MigrationPhase
from aiospice.migration.source import SourcePhase
from aiospice.sim.guest import HEIGHT, WIDTH

if TYPE_CHECKING:
    from aiospice.sim.process import ClientProcess, Process, ServerProcess
    from aiospice.sim.world import World

__all__ = ["Checks"]

KEY = (10, 0)
#: Bytes that a party may hold for one channel, and for all of a session: far more than windows
#: and frames of the small screen come to, far less than a leak does in a run.
MOST_OF_A_CHANNEL = 1 << 20
MOST_OF_A_SESSION = 2 << 20
#: More where devices have no tokens: nothing holds their clients back once a move has begun, but
#: `aiospice.devices.chardev` at 16 MiB.
MOST_WITHOUT_TOKENS = 20 << 20
#: What hasn't come after so many seconds without any, never comes.
QUIET = 8.0


class Checks:
    """The invariants of one world; what doesn't hold is told to `World.wrong`."""

    def __init__(self, world: World) -> None:
        self.world = world
        #: The most bytes that a client has held because of a move, and at all.
        self.client_peak = 0
        #: How far the streams were when they went on last.
        self._so_far = (0, 0, 0)
        self._since = 0.0

    def process(self, process: Process) -> None:
        """A process has had its turn."""
        if process.serves:
            self._server(process)  # type: ignore[arg-type]
        else:
            self._client(process)  # type: ignore[arg-type]

    # -- servers -----------------------------------------------------------------------------------

    def _server(self, server: ServerProcess) -> None:
        core = server.core
        more = 0 if self.world.scenario.tokens else MOST_WITHOUT_TOKENS
        for device in (core.agent, *core.devices.values()):
            self._device(server, device)
        for session in core.sessions.values():
            held = 0
            for channel in session.channels.values():
                framing = channel.framing
                size = channel.queued_bytes
                if not framing.drained:
                    size += framing.buffered
                held += size
                if size > MOST_OF_A_CHANNEL + more:
                    self.world.wrong(f"{server.name} holds {size} bytes of {channel.name}")
            if held > MOST_OF_A_SESSION + more:
                self.world.wrong(f"{server.name} holds {held} bytes of a session")
        for number in server.strangers:
            connection = core.connections.get(number)
            if connection is not None and connection.channel is not None:
                self.world.wrong(
                    f"{server.name} has let a stranger in on {connection.channel.name}"
                )
        self._owners()

    def _device(self, server: ServerProcess, device: Any) -> None:
        core = device.core
        paid = dict.fromkeys(core.clients, 0)
        unread = -core.taken
        for buffer in core.buffers:
            unread += len(buffer.data)
        for buffer in (*core.buffers, *core.behind):
            if buffer.client in paid and buffer.origin.value == "client":
                paid[buffer.client] += buffer.price
        for client, price in self._lifted(server, device):
            if client in paid:
                paid[client] += price
        if unread != core.unread_bytes:
            self.world.wrong(f"{core.name} counts {core.unread_bytes} bytes, and {unread} wait")
        for number, client in core.clients.items():
            if client.outgoing_bytes > core.rules.outgoing_bytes + (1 << 17):
                self.world.wrong(f"{core.name} holds {client.outgoing_bytes} bytes for a client")
            if not client.flow_control or client.ended or core.waiting:
                continue
            total = client.tokens + client.free + paid[number]
            if total != client.window or client.tokens < 0 or client.free < 0:
                self.world.wrong(
                    f"{server.name}: {client.tokens} + {client.free} + {paid[number]} tokens of "
                    f"{core.name}, the window is {client.window}"
                )

    def _lifted(self, server: ServerProcess, device: Any) -> list[tuple[int, int]]:
        """What has gone with the guest and is still charged to clients that are here."""
        state = server.core.frozen
        if state is None:
            return []
        aside = server.core._aside.get(device.key)
        if aside is not None:
            unread = aside.buffers
            return [(each.client, each.price) for each in unread if each.origin.value == "client"]
        mine = device is server.core.agent
        found = state.agent.device if mine else state.devices.get(device.key)
        waits = [] if found is None else found.to_guest
        return [(client, price) for _, origin, client, price in waits if origin == "client"]

    def _owners(self) -> None:
        world = self.world
        owners = [server.name for server in world.servers.values() if server.owns]
        if len(owners) > 1:
            world.wrong(f"the guest runs at {' and '.join(owners)}")
        active: dict[int, str] = {}
        for server in world.servers.values():
            if server.dead:
                continue
            for number, session in server.core.sessions.items():
                if session.leaving or number in server.core.target.arrivals:
                    continue
                if number in active:
                    world.wrong(f"session {number} is up at {active[number]} and {server.name}")
                active[number] = server.name

    # -- clients -----------------------------------------------------------------------------------

    def _client(self, client: ClientProcess) -> None:
        core = client.core
        held = moving = 0
        for channel in core.channels.values():
            record = channel.migrate_data
            moving += 0 if record is None else len(record)
            held += channel.queued_bytes + len(channel.framing.buffer)
            copies = getattr(channel, "copies", None)
            moving += 0 if copies is None else copies.size
        for links in (core.retired, core.migration.links):
            for link in links.values():
                if link.framing is not None:
                    moving += len(link.framing.buffer)
        self.client_peak = max(self.client_peak, moving)
        if held + moving > MOST_OF_A_SESSION:
            self.world.wrong(f"{client.name} holds {held + moving} bytes")

    # -- the end -----------------------------------------------------------------------------------

    def unsettled(self) -> list[str]:
        """What still waits for something."""
        found = []
        for client in self.world.clients:
            if client.dead:
                continue
            core = client.core
            if core.phase is SessionPhase.CONNECTING:
                found.append(f"{client.name} connects")
            phase = core.migration.phase
            if core.phase is SessionPhase.UP and phase is not MigrationPhase.IDLE:
                found.append(f"{client.name} is {phase.value}")
        for server in self.world.servers.values():
            if server.dead:
                continue
            core_ = server.core
            if core_.source.phase is not SourcePhase.IDLE:
                found.append(f"{server.name}: {core_.source.phase.value}")
            if core_.target.arrivals or core_.target.expected:
                found.append(f"{server.name} expects sessions")
            if core_.sessions and not server.owns:
                found.append(f"{server.name} has sessions and no guest")
            if core_._parting or any(
                channel.late_awaited
                for session in core_.sessions.values()
                for channel in session.channels.values()
            ):
                found.append(f"{server.name} waits for what comes late")
            if any(each.link is not None for each in core_.connections.values()):
                found.append(f"{server.name} has links that aren't through")
            if server.links or server.memory.active:
                found.append(f"{server.name} has a link to the other server")
        return found

    def streams_are_done(self) -> bool:
        """Whether all that was said has been heard, or somebody is gone."""
        world = self.world
        owner, client = world.owner, world.clients[0]
        if owner is None or client.ended or client.dead or client.port_gone:
            return True
        memory = owner.guest.memory
        heard = memory.heard.at >= client.said and client.heard.at >= memory.said
        stuck = memory.down - self._pressed()
        if heard and not stuck:
            return True
        so_far = (memory.heard.at, client.heard.at, len(stuck))
        if so_far != self._so_far:
            self._so_far, self._since = so_far, world.clock.now
        return world.clock.now - self._since > QUIET

    def _pressed(self) -> set[int]:
        found: set[int] = set()
        for client in self.world.clients:
            channel: Any = client.core.channels.get((3, 0))
            if channel is not None and not client.ended:
                found |= set(channel.keys_down)
        return found

    def at_the_end(self) -> None:
        """Everything has come to rest."""
        world = self.world
        for what in self.unsettled():
            world.wrong(f"waits for ever: {what}")
        owner = world.owner
        self._hand_overs()
        for client in world.clients:
            if owner is None or owner.dead:
                if not client.ended and not client.dead:
                    world.wrong(f"{client.name} goes on though the guest is gone")
                continue
            if client.dead or client.ended:
                if world.scenario.gentle and not client.dead:
                    world.wrong(f"{client.name} has ended: {client.core.error}")
                continue
            self._one_client(client, owner)
        if owner is not None and not owner.dead:
            self._guest(owner)

    def _hand_overs(self) -> None:
        """Where servers hand the guest over themselves: somebody has it, and all links are over."""
        world = self.world
        if not world.scenario.roles:
            return
        alive = [server for server in world.servers.values() if not server.dead]
        if world.owner is None and len(alive) == len(world.servers):
            world.wrong("nobody has the guest")
        for server in alive:
            if server.owns is not server.has_guest:
                world.wrong(f"{server.name} {'runs' if server.owns else 'has'} a guest: not both")
            if server.core.peer.up:
                world.wrong(f"{server.name} takes its link to the other server to be up")
        strange = any(fault.kind in ("intruder", "cancel") for fault in world.scenario.faults)
        if world.scenario.gentle and not strange and set(world.operator.ends) != {"moved"}:
            world.wrong(f"moves went so: {world.operator.ends}")

    def _one_client(self, client: ClientProcess, owner: ServerProcess) -> None:
        world = self.world
        if client.core.session_id not in owner.core.sessions:
            if client.was_hostile:
                return  # thrown out, and about to hear of it
            world.wrong(f"{client.name} is up, and {owner.name} doesn't know it")
            return
        whole = all(mode == "seamless" for mode in client.modes)
        if world.scenario.gentle and not whole and world.waited:
            world.wrong(f"{client.name} moved {client.modes}")
        if not client.was_hostile:
            if client.place == 0 and not client.port_gone:
                self._bytes(client, owner)
                self._tokens(client, owner)
            self._screen(client, owner)
            if whole:
                self._typed(client, owner)

    def _bytes(self, client: ClientProcess, owner: ServerProcess) -> None:
        world, memory = self.world, owner.guest.memory
        missed = memory.heard.missed + client.said - memory.heard.at
        if missed > client.at_risk:
            world.wrong(
                f"{missed} of {client.said} bytes never reached the guest, {client.name} was told "
                f"of {client.at_risk}"
            )
        missed = client.heard.missed + memory.said - client.heard.at
        if missed > client.at_risk_from:
            world.wrong(
                f"{missed} of {memory.said} bytes never reached {client.name}, it was told of "
                f"{client.at_risk_from}"
            )

    def _tokens(self, client: ClientProcess, owner: ServerProcess) -> None:
        """Both ends count the same tokens of the port, now that nothing is under way."""
        channel: Any = client.core.channels.get(KEY)
        there = owner.core.devices[KEY].core.clients.get(client.core.session_id)
        if channel is None or channel.flow is None or there is None or not there.flow_control:
            return
        flow = channel.flow
        if (flow.tokens, flow.granted) != (there.tokens, there.send_tokens):
            self.world.wrong(
                f"{client.name} has {flow.tokens} tokens and has given {flow.granted}, "
                f"{owner.name} counts {there.tokens} and {there.send_tokens}"
            )

    def _screen(self, client: ClientProcess, owner: ServerProcess) -> None:
        shown = client.core.screens.get(0)
        if shown is None or (2, 0) not in client.core.channels:
            return
        pixels = owner.host.display(0).pixels.tobytes()
        if shown.primary is None or shown.snapshot() != Picture(WIDTH, HEIGHT, pixels):
            self.world.wrong(f"{client.name} doesn't show what the guest does")

    def _typed(self, client: ClientProcess, owner: ServerProcess) -> None:
        codes = {code for code, _ in client.typed}
        typed = [each for each in owner.guest.memory.typed if each[0] in codes]
        if typed != client.typed and self.world.keys_are_exact:
            self.world.wrong(f"{client.name} typed {client.typed}, the guest saw {typed}")

    def _guest(self, owner: ServerProcess) -> None:
        hostile = any(
            client.was_hostile and not client.ended and not client.dead
            for client in self.world.clients
        )
        stuck = owner.guest.memory.down - self._pressed()
        if stuck and not hostile:
            self.world.wrong(f"keys {sorted(stuck)} are stuck")
        if owner.guest.memory.buttons and not hostile and self.world.scenario.clients == 1:
            self.world.wrong(f"buttons {owner.guest.memory.buttons} are stuck")
        for number, session in owner.core.sessions.items():
            inputs = session.channels.get((3, 0))
            known = {client.core.session_id for client in self.world.clients if not client.dead}
            if isinstance(inputs, InputsServer) and inputs.keys_down and number not in known:
                self.world.wrong(f"keys of session {number}, which is gone, are down")
