"""What of a smartcard reader moves to another server (`aiospice.devices.carry`)."""

from __future__ import annotations

from aiospice.devices.carry import DeviceState, freeze_client, thaw_client
from aiospice.devices.smartcard import SmartcardDevice
from aiospice.wire.handover import SmartcardRecord

__all__ = ["freeze_smartcard", "thaw_smartcard"]


def freeze_smartcard(core: SmartcardDevice, client: int) -> SmartcardRecord:
    """Take the client out of the device: the record of its channel."""
    device = freeze_client(core, client)
    here = bool(device.connected)
    record = SmartcardRecord(
        device=device,
        reader_added=int(core.reader_added and here),
        read_data=bytes(core.part) if here else b"",
    )
    core.reader_added = False
    core.part.clear()
    return record


def thaw_smartcard(
    core: SmartcardDevice,
    client: int,
    record: SmartcardRecord,
    now: float,
    *,
    state: DeviceState | None = None,
) -> int:
    """Restore the client from its record; tells how many new tokens it is to be given.

    ``state``: as of `thaw_client`.
    """
    grant = thaw_client(core, client, record.device, now, state=state)
    core.reader_added = bool(record.reader_added)
    core.part[:] = record.read_data
    return grant
