"""What can be copied and pasted between this program and the guest."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiospice.agent.client import AgentPhase
from aiospice.agent.names import form_number, selection_number
from aiospice.aio.png import png
from aiospice.errors import LocalError, SpiceTimeout, StateError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any

    import numpy as np

    from aiospice.agent.client import ClientAgent
    from aiospice.agent.events import ClipboardData, ClipboardRequested
    from aiospice.aio.shell import Shell

    Picture = bytes | np.ndarray[Any, np.dtype[np.uint8]]

__all__ = ["Clipboard", "agent_ready"]

#: Forms of pictures, the best first.
IMAGES = ("png", "bmp", "tiff", "jpg")
#: Answers that are awaited of one selection at once.
_Key = tuple[str, str]


async def agent_ready(
    shell: Shell, until: Callable[[Callable[[], bool]], Awaitable[None]], timeout: float
) -> ClientAgent:
    """The guest's agent, once it has told what it can do.

    `StateError` if there is none, or it has told nothing, for ``timeout`` seconds.
    """
    if not shell.core.config.agent:
        raise StateError("the session was opened without the guest's agent")
    agent = shell.core.agent
    try:
        async with asyncio.timeout(timeout):
            await until(lambda: agent.phase in (AgentPhase.READY, AgentPhase.FAILED))
    except TimeoutError:
        if agent.phase is AgentPhase.ABSENT:
            text = "no agent runs in the guest; is spice-vdagent installed and started there?"
        else:
            text = f"the guest's agent did not tell within {timeout:g} s what it can do"
        raise StateError(text) from None
    if agent.phase is AgentPhase.FAILED:
        raise StateError("the guest's agent broke its protocol and was given up")
    return agent


class Clipboard:
    """The clipboards that a session shares with the guest; ``Session.clipboard``.

    Content has a form: ``text``, ``png``, ``bmp``, ``tiff``, ``jpg`` or ``file-list``. There are
    three selections, of which most guests have the first two: ``clipboard``, ``primary`` (what is
    marked) and ``secondary``.
    """

    def __init__(
        self, shell: Shell, until: Callable[[Callable[[], bool]], Awaitable[None]]
    ) -> None:
        self._shell = shell
        self._until = until
        self._awaited: dict[_Key, asyncio.Future[ClipboardData]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        #: How often the guest has pasted what is here, by selection.
        self._pasted: dict[str, int] = {}

    # -- from the guest ----------------------------------------------------------------------------

    def offered(self, selection: str = "clipboard") -> tuple[str, ...]:
        """Forms of what the guest has copied while the session was up, none if nothing."""
        return self._shell.core.agent.clipboards.offered(selection)

    async def copied(
        self, selection: str = "clipboard", *, timeout: float | None = None
    ) -> tuple[str, ...]:
        """Wait until the guest has copied something, for ``timeout`` seconds; its forms."""
        selection_number(selection)
        try:
            async with asyncio.timeout(timeout):
                await self._until(lambda: bool(self.offered(selection)))
        except TimeoutError:
            raise SpiceTimeout(f"nothing was copied in the guest within {timeout:g} s") from None
        return self.offered(selection)

    async def get(
        self, form: str = "text", selection: str = "clipboard", *, timeout: float = 10.0
    ) -> bytes:
        """What the guest has copied, in one of its forms.

        `StateError` without an agent, or if the guest has nothing of that form; `SpiceTimeout` if
        it doesn't answer.
        """
        form_number(form)
        selection_number(selection)
        agent = await agent_ready(self._shell, self._until, timeout)
        async with self._locks.setdefault(selection, asyncio.Lock()):
            answer = asyncio.get_running_loop().create_future()
            self._awaited[selection, form] = answer
            try:
                agent.request(form, selection)
                self._shell.turn()
                async with asyncio.timeout(timeout):
                    await self._until(answer.done)
            except TimeoutError:
                raise SpiceTimeout(
                    f"the guest did not give its {selection} within {timeout:g} s"
                ) from None
            finally:
                self._awaited.pop((selection, form), None)
        event: ClipboardData = answer.result()
        if event.dropped:
            raise StateError(
                f"the guest's {selection} has {event.dropped} bytes, which is too much"
            )
        if event.data is None:
            raise StateError(f"the guest's {selection} has no {form} now")
        return event.data

    async def get_text(self, selection: str = "clipboard", *, timeout: float = 10.0) -> str:
        """The text that the guest has copied; bytes that aren't UTF-8 become U+FFFD."""
        data = await self.get("text", selection, timeout=timeout)
        return data.removesuffix(b"\0").decode("utf-8", "replace")

    async def get_image(self, selection: str = "clipboard", *, timeout: float = 10.0) -> bytes:
        """The picture that the guest has copied, as a file: a PNG if it can be had so."""
        offered = self.offered(selection)
        form = next((form for form in IMAGES if form in offered), "png")
        return await self.get(form, selection, timeout=timeout)

    # -- to the guest ------------------------------------------------------------------------------

    async def set(
        self,
        contents: Mapping[str, bytes],
        selection: str = "clipboard",
        *,
        timeout: float = 10.0,
    ) -> None:
        """Offer content by form; it is sent when the guest pastes, also after the session moved.

        `StateError` without an agent, `LocalError` for content above 100 MiB.
        """
        agent = await agent_ready(self._shell, self._until, timeout)
        agent.clipboards.grab(contents, selection)
        self._pasted[selection] = 0
        self._shell.turn()

    async def set_text(
        self, text: str, selection: str = "clipboard", *, timeout: float = 10.0
    ) -> None:
        """Offer text to the guest."""
        data = text.encode("utf-8", "surrogateescape")
        await self.set({"text": data}, selection, timeout=timeout)

    async def set_image(
        self, image: Picture, selection: str = "clipboard", *, timeout: float = 10.0
    ) -> None:
        """Offer a picture: a PNG, BMP, TIFF or JPEG file, or an array as of ``screenshot``.

        The array is uint8, height x width x 3, red green blue, and is sent as PNG.
        """
        if not isinstance(image, bytes):
            image = _packed(image)
        await self.set({_form_of(image): image}, selection, timeout=timeout)

    async def clear(self, selection: str = "clipboard") -> None:
        """Offer nothing any more."""
        self._shell.core.agent.clipboards.release(selection)
        self._shell.turn()

    async def pasted(self, selection: str = "clipboard", *, timeout: float | None = None) -> None:
        """Wait until the guest has fetched what was set, and all of it has left.

        `SpiceTimeout` after ``timeout`` seconds; `StateError` if something was copied in the guest.
        """
        agent = self._shell.core.agent
        try:
            async with asyncio.timeout(timeout):
                await self._until(lambda: self._was_pasted(agent, selection))
        except TimeoutError:
            raise SpiceTimeout(f"nothing was pasted in the guest within {timeout:g} s") from None
        if not self._pasted.get(selection):
            raise StateError("something else was copied in the guest")

    def _was_pasted(self, agent: ClientAgent, selection: str) -> bool:
        if not self._pasted.get(selection):
            return not agent.clipboards.owned(selection)
        main = self._shell.core.main_channel()
        return not agent.pending and (main is None or not main.wants_to_send)

    # -- for the session ---------------------------------------------------------------------------

    def answered(self, event: ClipboardData) -> None:
        """The guest has given something, or says that it has nothing."""
        answer = self._awaited.get((event.selection, event.form))
        if answer is not None and not answer.done():
            answer.set_result(event)

    def asked(self, event: ClipboardRequested) -> None:
        """The guest pastes."""
        self._pasted[event.selection] = self._pasted.get(event.selection, 0) + 1


def _packed(image: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    shape = image.shape
    if len(shape) != 3 or shape[2] != 3 or image.dtype != "uint8":
        raise LocalError(f"a picture is uint8, height x width x 3, not {image.dtype} {shape}")
    return png(shape[1], shape[0], image.tobytes())


def _form_of(data: bytes) -> str:
    """The form of a picture, by its first bytes."""
    for start, form in (
        (b"\x89PNG\r\n", "png"),
        (b"BM", "bmp"),
        (b"II*\0", "tiff"),
        (b"MM\0*", "tiff"),
        (b"\xff\xd8\xff", "jpg"),
    ):
        if data.startswith(start):
            return form
    raise LocalError("a picture is a PNG, BMP, TIFF or JPEG file")
