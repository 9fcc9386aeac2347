"""The guest's end of the agent's protocol as plain values, for a guest that moves.

Everything that a `GuestAgent` is between two calls: where it is in the stream of chunks, messages
that have come in part, those that wait to leave, clipboards, and files on their way.
"""

from __future__ import annotations

from typing import Any

from aiospice.agent.arrivals import ARRIVALS_LIMIT, Arrival
from aiospice.agent.guest import GuestAgent
from aiospice.agent.outbox import restored
from aiospice.errors import LocalError

__all__ = ["freeze_agent_end", "thaw_agent_end"]

_Pair = dict[tuple[int, int], int]
#: Attributes that go as they are, by the object that has them, with what they have to be.
_FIELDS: dict[str, dict[str, Any]] = {
    "chunks": {"header": bytes, "port": int, "left": int},
    "stream": {
        "_limits": dict[int, int],
        "_head": bytes,
        "_body": bytes,
        "_number": int,
        "_opaque": int,
        "_size": int,
        "_left": int,
        "_inside": bool,
        "_keep": bool,
    },
    "clipboards": {
        "layout": int,
        "ready": bool,
        "crlf": bool,
        "limit": int,
        "_mine": dict[int, dict[int, bytes | None]],
        "_theirs": dict[int, tuple[int, ...]],
        "_serials": dict[int, int],
        "_asked": _Pair,
        "_again": _Pair,
        "_answers": dict[tuple[int, int], bytes],
        "_refusals": int,
        "_requested": dict[int, list[int]],
    },
    "arrivals": {"detailed": bool, "enabled": bool},
    "agent": {"client": int, "_ready": bytes},
}
_WAITING = list[tuple[tuple[str | int, ...], bytes, bytes]]
_ACTIVE = dict[int, tuple[str, int, int, bool]]


def _take(kind: str, thing: object) -> dict[str, Any]:
    found = {name: getattr(thing, name) for name in _FIELDS[kind]}
    return {
        name: bytes(value) if isinstance(value, bytearray) else value
        for name, value in found.items()
    }


def _put(kind: str, thing: object, state: Any) -> None:
    fields = _FIELDS[kind]
    if not isinstance(state, dict) or set(state) != set(fields):
        raise LocalError(f"the agent's {kind} can't be restored from that")
    for name, type in fields.items():
        value = _as(state[name], type, f"{kind}.{name}")
        mutable = isinstance(getattr(thing, name), bytearray)
        setattr(thing, name, bytearray(value) if mutable else value)


def _as(value: Any, type: Any, what: str) -> Any:
    """The value, if it is of that type: `LocalError` else."""
    import msgspec

    try:
        return msgspec.convert(value, type, strict=True)
    except msgspec.ValidationError as error:
        raise LocalError(f"the agent's {what} can't be restored: {error}") from None


def freeze_agent_end(agent: GuestAgent) -> dict[str, Any]:
    """All of an agent's end, plain. Its events have been taken."""
    outbox = agent._outbox
    return {
        "chunks": _take("chunks", agent._chunks),
        "streams": {port: _take("stream", one) for port, one in agent._streams.items()},
        "clipboards": _take("clipboards", agent.clipboards),
        "arrivals": _take("arrivals", agent.arrivals),
        "active": {
            number: (one.name, one.size, one.got, one.accepted)
            for number, one in agent.arrivals.active.items()
        },
        "waiting": [tuple(one) for one in outbox._waiting],
        "sent": outbox._sent,
        "agent": _take("agent", agent),
    }


def thaw_agent_end(state: Any) -> GuestAgent:
    """The agent's end that `freeze_agent_end` told of. `LocalError` for what can't be one."""
    agent = GuestAgent()
    if not isinstance(state, dict):
        raise LocalError("the agent's state can't be restored from that")
    _put("agent", agent, state.get("agent"))
    _put("chunks", agent._chunks, state.get("chunks"))
    streams = state.get("streams")
    if not isinstance(streams, dict) or set(streams) != set(agent._streams):
        raise LocalError("the agent's streams can't be restored from that")
    for port, one in agent._streams.items():
        _put("stream", one, streams[port])
    _put("clipboards", agent.clipboards, state.get("clipboards"))
    _put("arrivals", agent.arrivals, state.get("arrivals"))
    active = _as(state.get("active"), _ACTIVE, "files")
    if len(active) > ARRIVALS_LIMIT:
        raise LocalError(f"{len(active)} files are on their way")
    for number, (name, size, got, accepted) in active.items():
        arrival = agent.arrivals.active[number] = Arrival(name, size)
        arrival.got, arrival.accepted = got, accepted
    waiting = _as(state.get("waiting"), _WAITING, "messages")
    restored(agent._outbox, waiting, _as(state.get("sent"), int, "messages"))
    return agent
