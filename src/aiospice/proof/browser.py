"""spice-html5 in a headless Chromium: the client that runs in a browser.

    async with Browser() as browser:
        page = await browser.spice("127.0.0.1", ws_port)
        await page.shows(lambda: truth)     # its canvas, pixel for pixel
        await page.click(40, 30)
        await page.key("a")

Its files are Debian's package of it, and a small web server of this module gives them out. The
browser is driven by the DevTools protocol (https://chromedevtools.github.io/devtools-protocol).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.server
import json
import os
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

from aiospice.client.picture import Picture
from aiospice.errors import ConnectError, LocalError, MissingProgram, SessionLost, SpiceTimeout
from aiospice.proof.truth import difference
from aiospice.proof.xserver import find_program

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from websockets.asyncio.client import ClientConnection

__all__ = ["Browser", "Page"]

_CLIENT = Path("/usr/share/spice-html5")
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # which root can't have
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
    "--no-first-run",
    "--no-proxy-server",
    "--autoplay-policy=no-user-gesture-required",
    "--remote-debugging-port=0",
    "--window-size=1280,1024",
)
#: The canvas of the primary surface, as RGBA in base64 behind its size.
_PIXELS = """(() => {
    const canvas = document.querySelector("#spice-screen canvas");
    if (!canvas || !canvas.width || !canvas.height) return null;
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let text = "";
    for (let i = 0; i < data.length; i += 32768)
        text += String.fromCharCode.apply(null, data.subarray(i, i + 32768));
    return [canvas.width, canvas.height, btoa(text)];
})()"""
_PLACE = """(() => {
    const canvas = document.querySelector("#spice-screen canvas");
    const box = canvas.getBoundingClientRect();
    return [box.left + canvas.clientLeft, box.top + canvas.clientTop];
})()"""


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Browser:
    """A Chromium without a window and the web server that it loads pages from."""

    def __init__(self, folder: Path = _CLIENT) -> None:
        self.folder = folder
        self.web_port = 0  #: of the web server on 127.0.0.1
        self._profile = tempfile.TemporaryDirectory(
            prefix="aiospice-browser-", ignore_cleanup_errors=True
        )
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - lives with the process
        self._web: http.server.ThreadingHTTPServer | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._orders = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._pages: dict[str, Page] = {}

    async def __aenter__(self) -> Self:
        program = find_program("chromium")
        if not self.folder.is_dir():
            raise MissingProgram("spice-html5 isn't installed: install spice-html5 (Debian)")
        try:
            self._serve()
            await self._start(program)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the browser and the web server."""
        if self._socket is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self.do("Browser.close"), 5)
            await self._socket.close()
        if self._reader is not None:
            await self._reader
        if self._process is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), 5)
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
        if self._web is not None:
            await asyncio.to_thread(self._web.shutdown)
            self._web.server_close()
        self._output.close()
        self._profile.cleanup()

    def _serve(self) -> None:
        handler = partial(_Files, directory=str(self.folder))
        self._web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._web.daemon_threads = True
        self.web_port = self._web.server_address[1]
        threading.Thread(target=self._web.serve_forever, args=(0.05,), daemon=True).start()

    async def _start(self, program: str, limit: float = 120) -> None:
        from websockets.asyncio.client import connect

        home = {"HOME": self._profile.name, "XDG_CACHE_HOME": self._profile.name}
        self._process = await asyncio.create_subprocess_exec(
            *(program, *_ARGUMENTS, f"--user-data-dir={self._profile.name}", "about:blank"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            env={**os.environ, **home},
        )
        said = Path(self._profile.name) / "DevToolsActivePort"
        end = time.monotonic() + limit
        while not (said.exists() and len(lines := said.read_text().split()) == 2):
            if self._process.returncode is not None:
                raise ConnectError(f"chromium ended at its start: {self.output()}")
            if time.monotonic() > end:
                raise SpiceTimeout(f"chromium isn't up after {limit:g} s: {self.output()}")
            await asyncio.sleep(0.02)
        port, path = lines
        self._socket = await connect(
            f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None, compression=None
        )
        self._reader = asyncio.create_task(self._read())

    def output(self) -> str:
        """The end of what the browser printed."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), 2000, max(0, size - 2000)).decode(errors="replace")

    # -- orders ----------------------------------------------------------------------------

    async def do(
        self,
        method: str,
        values: dict[str, object] | None = None,
        *,
        session: str | None = None,
        timeout: float = 60,
    ) -> Any:
        """Call a method of the DevTools protocol. Raises `LocalError` with the browser's words."""
        if self._socket is None or self._reader is None or self._reader.done():
            raise SessionLost("the browser isn't there")
        self._orders += 1
        order: dict[str, object] = {"id": self._orders, "method": method, "params": values or {}}
        if session is not None:
            order["sessionId"] = session
        answer = self._answers[self._orders] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout):
                await self._socket.send(json.dumps(order))
                return await answer
        except TimeoutError:
            raise SpiceTimeout(f"the browser: {method} takes longer than {timeout:g} s") from None

    async def _read(self) -> None:
        from websockets.exceptions import ConnectionClosed

        assert self._socket is not None
        with contextlib.suppress(ConnectionClosed):
            async for line in self._socket:
                said = json.loads(line)
                if "id" in said:
                    self._answer(said)
                elif (page := self._pages.get(said.get("sessionId", ""))) is not None:
                    page.told(said["method"], said["params"])
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(SessionLost("the browser has gone"))

    def _answer(self, said: dict[str, Any]) -> None:
        answer = self._answers.pop(said["id"], None)
        if answer is None or answer.done():
            return
        if "error" in said:
            answer.set_exception(LocalError(f"the browser: {said['error']['message']}"))
        else:
            answer.set_result(said["result"])

    async def open(self, url: str, *answers: str) -> Page:
        """Open a page in a tab of its own; ``answers``: to what it asks."""
        target = (await self.do("Target.createTarget", {"url": "about:blank"}))["targetId"]
        found = await self.do("Target.attachToTarget", {"targetId": target, "flatten": True})
        page = Page(self, found["sessionId"])
        page.answers = list(answers)
        self._pages[page.session] = page
        await page.do("Runtime.enable")
        await page.do("Page.enable")
        await page.do("Page.navigate", url=url)
        return page

    async def spice(
        self, host: str, port: int, *answers: str, password: str = "", path: str = ""
    ) -> Page:
        """Open spice-html5 and let it connect to a WebSocket.

        ``answers``: passwords for when it asks, after the first was wrong.
        """
        query = urlencode({"host": host, "port": port, "password": password, "path": path})
        return await self.open(
            f"http://127.0.0.1:{self.web_port}/spice_auto.html?{query}", *answers
        )


class Page:
    """A tab with the client in it; ``console`` has what its scripts said and asked.

    A question, such as for the password, is answered with the next one of ``answers``.
    """

    def __init__(self, browser: Browser, session: str) -> None:
        self.browser = browser
        self.session = session
        self.console: list[str] = []
        self.answers: list[str] = []
        self._answering: asyncio.Future[Any] | None = None

    def told(self, method: str, values: dict[str, Any]) -> None:
        """Take an event of the browser."""
        if method == "Runtime.consoleAPICalled":
            said = (str(item.get("value", item.get("description"))) for item in values["args"])
            self.console.append(" ".join(said))
        elif method == "Runtime.exceptionThrown":
            self.console.append(f"exception: {values['exceptionDetails']}")
        elif method == "Page.javascriptDialogOpening":
            self.console.append(f"asked: {values['message']}")
            answer = self.answers.pop(0) if self.answers else None
            self._answering = asyncio.ensure_future(
                self.do(
                    "Page.handleJavaScriptDialog",
                    accept=answer is not None,
                    promptText=answer or "",
                )
            )

    async def do(self, method: str, **values: object) -> Any:
        """Call a method of the DevTools protocol for this tab."""
        return await self.browser.do(method, values, session=self.session)

    async def evaluate(self, script: str) -> Any:
        """The value of a piece of JavaScript; a promise is waited for. Raises `LocalError`."""
        found = await self.do(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise LocalError(f"the page: {found['exceptionDetails']}")
        return found["result"].get("value")

    async def until(self, script: str, limit: float = 90) -> Any:
        """Wait until a piece of JavaScript gives something true, and return that."""
        end = time.monotonic() + limit
        while not (value := await self.evaluate(script)):
            if time.monotonic() > end:
                raise SpiceTimeout(f"the page: not {script} in {limit:g} s: {self.console[-5:]}")
            await asyncio.sleep(0.05)
        return value

    async def pixels(self) -> Picture | None:
        """What the canvas of the screen shows; None while there is none."""
        found = await self.evaluate(_PIXELS)
        if found is None:
            return None
        width, height, text = found
        rgba = base64.b64decode(text)
        bgrx = bytearray(rgba)
        bgrx[0::4], bgrx[2::4] = rgba[2::4], rgba[0::4]
        return Picture(width, height, bytes(bgrx))

    async def shows(
        self,
        truth: Callable[[], Picture | Awaitable[Picture]],
        *,
        tolerance: int = 0,
        limit: float = 90,
    ) -> Picture:
        """Wait until the canvas is what ``truth`` gives, and return that.

        Raises `SpiceTimeout` that tells how the two differ and what the page said last.
        """
        end = time.monotonic() + limit
        wrong, pause = "no canvas yet", 0.05
        while True:
            true = truth()
            wanted = true if isinstance(true, Picture) else await true
            shown = await self.pixels()
            if shown is not None and not (wrong := difference(shown, wanted, tolerance)):
                return shown
            if time.monotonic() > end:
                raise SpiceTimeout(
                    f"spice-html5 doesn't show the guest after {limit:g} s: {wrong}; "
                    f"it says {self.console[-5:]}"
                )
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.5)

    # -- keyboard and mouse ------------------------------------------------------------------

    async def move(self, x: int, y: int, buttons: int = 0) -> None:
        """Put the pointer on a pixel of the guest's screen."""
        await self._mouse("mouseMoved", x, y, buttons=buttons)

    async def click(self, x: int, y: int, button: str = "left") -> None:
        """Press and release a button of the mouse on a pixel of the guest's screen."""
        await self.move(x, y)
        mask = {"left": 1, "right": 2, "middle": 4}[button]
        await self._mouse("mousePressed", x, y, button=button, buttons=mask, clickCount=1)
        await self._mouse("mouseReleased", x, y, button=button, clickCount=1)

    async def _mouse(self, kind: str, x: int, y: int, **more: object) -> None:
        left, top = await self.evaluate(_PLACE)
        await self.do("Input.dispatchMouseEvent", type=kind, x=left + x, y=top + y, **more)

    async def key(self, letter: str) -> None:
        """Press and release the key of a letter or digit."""
        code = f"Digit{letter}" if letter.isdigit() else f"Key{letter.upper()}"
        for kind in ("rawKeyDown", "keyUp"):
            await self.do(
                "Input.dispatchKeyEvent",
                type=kind,
                key=letter,
                code=code,
                windowsVirtualKeyCode=ord(letter.upper()),
            )
