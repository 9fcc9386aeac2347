"""Channels that wait for each other: WAIT_FOR_CHANNELS, and GLZ images of another display."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiospice.channels.base import ChannelPhase
from aiospice.errors import RemoteProtocolError
from aiospice.wire.channels import channel_name

if TYPE_CHECKING:
    from aiospice.channels.base import ClientChannel
    from aiospice.client.screen import Screen
    from aiospice.errors import AiospiceError

__all__ = ["WAIT_SECONDS", "Waiting"]

#: No channel waits longer than this for another one (WAIT_FOR_CHANNELS), or for an image of its.
WAIT_SECONDS = 30.0


class Waiting:
    """Mixed into the session: who waits, for whom, until when."""

    channels: dict[tuple[int, int], ClientChannel]
    screens: dict[int, Screen]
    _caches: Any
    _wait_deadlines: dict[tuple[int, int], float]

    def _tell_shown(self, channel: ClientChannel) -> None:
        screen = self.screens[channel.key[1]]
        if not screen.backlog.messages and screen.needs_glz is None:
            from aiospice.client.shown import shown

            channel.tell_shown(shown(screen, channel.serial))  # type: ignore[attr-defined]

    def _give_up_waits(
        self, deadlines: dict[tuple[int, int], float], what: str, now: float
    ) -> None:
        for key, deadline in list(deadlines.items()):
            if deadline <= now:
                del deadlines[key]
                error = RemoteProtocolError(
                    f"waited {WAIT_SECONDS:g} s for {what}", where=channel_name(*key)
                )
                if key in self.channels:
                    self._connection_lost(self.channels[key], error, now)

    def _somebody_waits(self) -> bool:
        """Whether a channel waits for another one, or a display for an image of another one."""
        for screen in self.screens.values():
            if screen.needs_glz is not None:
                return True
        for channel in self.channels.values():
            if channel.waits:
                break
        else:
            return False
        return True

    def _next_released(self, now: float) -> ClientChannel | None:
        """A channel that need not wait any longer; the others get a limit."""
        if not self._wait_deadlines and not any(
            channel.waits for channel in self.channels.values()
        ):
            return None
        waiting = {key: channel for key, channel in self.channels.items() if channel.waits}
        for key in [key for key in self._wait_deadlines if key not in waiting]:
            del self._wait_deadlines[key]
        for key, channel in waiting.items():
            for wait in channel.waits:
                other = self.channels.get((wait.channel_type, wait.channel_id))
                if other is not None and self._serial(other) < wait.message_serial:
                    self._wait_deadlines.setdefault(key, now + WAIT_SECONDS)
                    break
            else:
                self._wait_deadlines.pop(key, None)
                return channel
        return None

    def _serial(self, channel: ClientChannel) -> int:
        """Messages of a channel that have been carried out."""
        screen = self.screens.get(channel.key[1]) if channel.key[0] == 2 else None
        return channel.serial - (0 if screen is None else screen.backlog.messages)

    def _next_supplied(self) -> ClientChannel | None:
        """A display that waited for a GLZ image which has come by now."""
        for screen in self.screens.values():
            if screen.needs_glz is not None and self._caches.has_glz(screen.needs_glz):
                channel = self.channels.get((2, screen.id))
                if channel is not None and channel.phase is not ChannelPhase.CLOSED:
                    return channel
        return None

    if TYPE_CHECKING:

        def _connection_lost(
            self, channel: ClientChannel, error: AiospiceError | None, now: float
        ) -> None: ...
