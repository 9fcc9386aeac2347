# cython: language_level=3, annotation_typing=False
"""How fast a client's line is, and how much is on it, as pings tell.

Whenever `PROBE_BYTES` have left since the last ping a new one is put behind them. Its answer says
that all of that has arrived, and how long it took.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiospice.channels.server.display import DisplayServer

__all__ = ["PROBE_BYTES", "THIN", "Line"]

#: Bytes that a ping is sent behind, and on a line within this machine, which is never thin.
PROBE_BYTES, LOCAL_PROBE_BYTES = 64 << 10, 4 << 20
#: Bytes a second below which a line is thin: 10 Mbit/s, as spice-server has it (``server/dcc.cpp``
#: and ``main-channel-client.cpp``).
THIN = 1_250_000
#: Answers in a row that must say so.
_SURE = 3
#: Bytes on the way to a client of which nothing is known yet, and the least that is allowed.
_FIRST = 1 << 20
_LEAST = 64 << 10
#: Seconds' worth of bytes that may be on the way, beside the way there and back.
_AHEAD = 0.25
#: Seconds in which a ping must have kept the line busy to say anything about its width.
_BUSY = 0.02


class Line:
    """The line of one channel. Plain data."""

    def __init__(self, *, local: bool = False) -> None:
        self._probe_bytes = LOCAL_PROBE_BYTES if local else PROBE_BYTES
        #: Bytes a second, None before anything is known.
        self.rate: float | None = None
        #: The shortest way there and back so far, in seconds.
        self.round_trip: float | None = None
        #: Bytes that have left, and those known to have arrived.
        self.left = 0
        self.arrived = 0
        #: Bytes that may be on the way, so that what is new doesn't wait behind what is old.
        self.budget = _FIRST
        self._probe: tuple[int, int, float] | None = None
        self._probe_begun = 0.0
        self._slow = 0
        self._thin = False

    @property
    def thin(self) -> bool:
        """The line is so narrow that losses are better than waiting."""
        return self._thin

    @property
    def on_the_way(self) -> int:
        """Bytes that have left and may not have arrived."""
        return self.left - self.arrived

    @property
    def full(self) -> bool:
        """As many bytes are on the way as may be."""
        return self.left - self.arrived > self.budget

    def began(self, channel: DisplayServer, now: float) -> None:
        """Measure the way there and back while nothing else is on it."""
        self._ping(channel, now)

    def go_on(self, *, thin: bool) -> None:
        """The client comes from another server, which has found its line to be thin, or not."""
        self._thin = thin

    def sent(self, channel: DisplayServer, now: float) -> None:
        """Look what has left, and send a ping behind it if one is due."""
        self.left = channel.handed_out + channel.queued_bytes
        if self._probe is None:
            # Never later than at the budget, or nothing would ever tell that there is room again.
            if self.left - self.arrived >= min(self._probe_bytes, self.budget):
                self._ping(channel, now)
        elif not channel.pinged(self._probe[0]):  # forgotten: it is not answered
            self._probe = None

    def ask(self, channel: DisplayServer, now: float) -> None:
        """Somebody waits for what is on the way to arrive: have it confirmed."""
        if self._probe is None and self.left > self.arrived:
            self._ping(channel, now)

    def _ping(self, channel: DisplayServer, now: float) -> None:
        number = channel.ping(now)
        self._probe = (number, channel.handed_out + channel.queued_bytes, now)

    def answered(self, number: int, now: float) -> None:
        """A ping has come back."""
        if self._probe is None or self._probe[0] != number:
            return
        _, left, since = self._probe
        self._probe = None
        seconds = max(0.0, now - max(since, self._probe_begun))
        bytes_ = left - self.arrived
        self.arrived = left
        self._probe_begun = now
        if self.round_trip is None:
            self.round_trip = seconds
            return
        self.round_trip = min(self.round_trip, seconds)
        if bytes_ >= PROBE_BYTES // 2:
            self._judge(bytes_, max(seconds - self.round_trip, 1e-4))
        if self.rate is not None:
            self.budget = max(_LEAST, int(self.rate * (_AHEAD + self.round_trip)))

    def _judge(self, bytes_: int, seconds: float) -> None:
        rate = bytes_ / seconds
        self.rate = rate if self.rate is None else 0.7 * self.rate + 0.3 * rate
        if seconds < _BUSY or rate >= 2 * THIN:
            self._slow = 0
            self._thin = self._thin and self.rate < 2 * THIN
        elif rate < THIN:
            self._slow += 1
            self._thin = self._thin or self._slow >= _SURE
