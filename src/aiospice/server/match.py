"""Devices of two machines, matched by kind and name: their numbers may differ.

Numbers follow the order in which a guest makes its devices. A target takes the source's, so that
channels keep theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiospice.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiospice.server.core import ServerCore
    from aiospice.server.guest import Host

__all__ = ["match_devices", "renumber"]

Key = tuple[int, int]


def match_devices(core: ServerCore, devices: Iterable[tuple[int, int, str]]) -> dict[Key, Key]:
    """Own channel -> the source's, for all own devices; ``devices``: (type, id, name) of its.

    `LocalError` for one that isn't here.
    """
    found: dict[Key, Key] = {}
    free = {key: device.name for key, device in core.devices.items()}
    wanted = sorted((kind, number, name) for kind, number, name in devices)
    for kind, number, name in sorted(wanted, key=lambda w: free.get(w[:2]) != w[2]):
        fits = [key for key, own in free.items() if key[0] == kind and own == name]
        if not fits:
            here = ", ".join(repr(own) for key, own in free.items() if key[0] == kind) or "none"
            raise LocalError(
                f"the guest comes with a device {name[:80]!r} on channel {(kind, number)}, and "
                f"here is {here} of that kind"
            )
        key = (kind, number) if (kind, number) in fits else fits[0]
        del free[key]
        found[key] = (kind, number)
    taken = set(found.values())
    for key in free:  # what only this machine has
        number = key[1]
        while (key[0], number) in taken:
            number += 1
        found[key] = (key[0], number)
        taken.add(found[key])
    return found


def renumber(core: ServerCore, host: Host, numbers: dict[Key, Key]) -> None:
    """Give devices other channels. `LocalError` while clients are here, whose channels they are."""
    if all(own == other for own, other in numbers.items()):
        return
    if core.sessions:
        raise LocalError("its devices have other numbers here, and clients are on this server")
    core.devices = {numbers[key]: device for key, device in core.devices.items()}
    for key, device in core.devices.items():
        device.key = key
    host._devices = {numbers.get(key, key): device for key, device in host._devices.items()}
    for key, handle in host._devices.items():
        handle.key = key
