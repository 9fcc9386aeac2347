"""The core's end of the link between the two servers of a hand-over.

The link itself (`aiospice.migration.peer`) is somebody else's: who has it tells the core by
`peer_link` that it is up, hands in what comes by `peer_in`, and sends what is in ``peer_out``. Of
its messages only those concern the core that are about a session on its way: `Record`, `Late`,
`LateEnd` from the source (and back, if the guest stays), `Arrived` and `Missed` from the target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiospice.migration.peer import Arrived, Late, LateEnd, Missed, PeerMessage, Record
from aiospice.server.sealed import Place, open_record, seal_record

if TYPE_CHECKING:
    from aiospice.link.server import ServerCrypto

__all__ = ["PeerLink", "Peering"]


@dataclass(slots=True)
class PeerLink:
    """What is known of the link. Plain data."""

    up: bool = False
    #: Seals this migration's records, 32 bytes; stays when the link is lost.
    key: bytes | None = None
    role: str = ""
    #: The migration's name, the same on both sides.
    migration: str = ""


class Peering:
    """See the module's text. Mixed into the core."""

    _now: float
    _crypto: ServerCrypto

    def __init__(self) -> None:
        self.peer = PeerLink()
        #: For the other server, in order; who joins the two takes it out.
        self.peer_out: list[PeerMessage] = []

    def peer_link(
        self,
        up: bool,
        key: bytes | None,
        role: str,
        now: float,
        migration: str = "",
    ) -> None:
        """The link to the other server is up, or is lost.

        key: 32 bytes that only the two know, made for this migration (records are sealed with it);
        None keeps the one that is known. role: what this server is, "source" or "target".
        migration: its name.
        """
        self._now = now
        new = bool(migration) and migration != self.peer.migration
        if new:
            self.peer_out.clear()
        self.peer = PeerLink(
            up,
            key if key is not None or new else self.peer.key,
            role,
            migration or self.peer.migration,
        )
        self._peer_changed(up)

    def peer_unlink(self, now: float) -> None:
        """The migration is over, or off: what its key has sealed counts no more."""
        self._now = now
        self.peer = PeerLink()
        self.peer_out.clear()
        self._peer_changed(False)

    def peer_in(self, message: PeerMessage, now: float) -> None:
        """A message of the other server; those that don't concern sessions are ignored."""
        self._now = now
        target = self.peer.role == "target"
        if isinstance(message, Record) and target:
            self._record_came(message)
        elif isinstance(message, Late) and target:
            self._late_came(message)
        elif isinstance(message, LateEnd) and target:
            self._late_end_came(message)
        elif isinstance(message, (Late, LateEnd)) and self.peer.role == "source":
            self._returned(message)
        elif isinstance(message, (Arrived, Missed)) and self.peer.role == "source":
            self._arrival_came(message)

    def _tell_peer(self, message: PeerMessage) -> bool:
        """Have it sent; False if there is no link."""
        if self.peer.up:
            self.peer_out.append(message)
        return self.peer.up

    # -- sealing -----------------------------------------------------------------------------------

    def _seal(self, client: int, channel: tuple[int, int], data: bytes) -> bytes:
        """A record as the client is to carry it."""
        if self.peer.key is None or self.peer.role != "source":
            return data
        return seal_record(data, self.peer.key, self._place(client, channel), self._crypto)

    def _unsealed(self, client: int, channel: tuple[int, int], data: bytes) -> bytes:
        """The record that a client has brought; `DecodeError` if it is another than is due."""
        if self.peer.key is None or self.peer.role != "target":
            return data  # whose letters say what it is: a sealed one can't be read
        return open_record(data, self.peer.key, self._place(client, channel), self._crypto)

    def _place(self, client: int, channel: tuple[int, int]) -> Place:
        return Place(self.peer.migration, client, channel)

    # -- what the core does with it ----------------------------------------------------------------

    def _peer_changed(self, up: bool) -> None:
        """The link has come or gone."""

    def _record_came(self, message: Record) -> None:
        """The state of a channel comes from the source itself."""

    def _late_came(self, message: Late) -> None:
        """A message that the client had sent to the source."""

    def _late_end_came(self, message: LateEnd) -> None:
        """The last of them."""

    def _returned(self, message: Late | LateEnd) -> None:
        """What a client had said at the target, and the guest stays here."""

    def _arrival_came(self, message: Arrived | Missed) -> None:
        """What has become of a session at the target."""
