"""Every way to a real QEMU, and what is said when there is none."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import ssl
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

import aiospice
from aiospice.aio.address import parse_address
from aiospice.client.session import ChannelSkipped
from aiospice.errors import (
    AddressError,
    AiospiceError,
    CertificateError,
    ConnectError,
    InvalidMagic,
    LinkFailed,
    LocalError,
    NeedSecured,
    PermissionDenied,
    SaslError,
    SpiceTimeout,
)
from aiospice.proof.certificates import make_certificates, make_sasl
from aiospice.proof.qemu import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.conftest import QemuFactory

    from aiospice.proof.qemu import Qemu

pytestmark = pytest.mark.peers
HOST = "127.0.0.1"
CHANNELS = ("main:0", "display:0", "inputs:0", "cursor:0", "port:0")
#: No failure may take longer than this, its own limit aside.
LIMIT = 20


async def echoes(session: Any) -> bool:
    """Whether the session's guest gives back what its port is sent."""
    port = await session.port()
    await port.write(b"ping")
    return bool(await port.readexactly(4) == b"ping")


async def usable(address: Any, **options: Any) -> str:
    """Connect, see the screen and the echo; returns where the session was."""
    async with asyncio.timeout(LIMIT), aiospice.connect(address, **options) as session:
        assert session.channels == CHANNELS
        picture = await session.screen()
        assert (picture.width, picture.height) == (720, 400)
        assert await echoes(session)
        assert session.messages_unknown() == {}
        return str(session.address)


async def refusal(address: Any, **options: Any) -> AiospiceError:
    """Connect in vain; returns the error."""
    with pytest.raises(AiospiceError) as caught:
        async with asyncio.timeout(LIMIT):
            await aiospice.connect(address, **options)
    return caught.value


async def fails(
    kind: type[AiospiceError], words: tuple[str, ...], address: str, **options: Any
) -> None:
    """Connect in vain, with exactly this error, whose text has the address and the words."""
    error = await refusal(address, **options)
    assert type(error) is kind, f"{error!r}"
    text = str(error)
    for word in (address.partition("?")[0], *words):
        assert word in text
    assert str(options.get("password", "no password")) not in text


async def cli(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run the program; its status and what it says to people."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aiospice", *arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
    )
    async with asyncio.timeout(LIMIT):
        out, err = await process.communicate()
    assert out == b""
    return process.returncode or 0, err.decode()


@contextlib.asynccontextmanager
async def listener(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """A TCP server of the test; gives its port."""
    tasks = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (asyncio.CancelledError, ConnectionError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(accept, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            if task is not None:
                task.cancel()


# -- ways that work --------------------------------------------------------------------------------


async def test_plain_unix_and_websocket(qemu_factory: QemuFactory) -> None:
    qemu = await qemu_factory()
    address = f"spice://{HOST}:{qemu.port}"
    assert await usable(address) == address
    assert await usable(f"spice://localhost:{qemu.port}") == f"spice://localhost:{qemu.port}"
    assert await usable(f"spice://{HOST}?port={qemu.port}") == address
    assert await usable(address, mini_header=False) == address
    websocket = f"ws://{HOST}:{qemu.port}/"
    assert await usable(websocket) == websocket
    local = await qemu_factory(unix=True)
    assert await usable(local.address) == f"spice+unix://{local.unix_path}"


async def test_tls_with_ca_subject_and_websocket(qemu_factory: QemuFactory, tmp_path: Path) -> None:
    ours, other = make_certificates(tmp_path / "ours"), make_certificates(tmp_path / "other")
    qemu = await qemu_factory(tls_dir=ours.folder)
    address = f"spice+tls://{HOST}:{qemu.tls_port}"
    ca = ours.ca_file
    assert await usable(address, ca_file=ca) == address
    assert await usable(address, ca=ca.read_bytes(), host_subject=ours.subject) == address
    assert await usable(f"spice://{HOST}?tls-port={qemu.tls_port}", ca_file=ca) == address
    websocket = f"wss://{HOST}:{qemu.tls_port}/"
    assert await usable(websocket, ca_file=ca) == websocket

    subject = ("another subject", "O=x,CN=y", ours.subject, "--host-subject")
    await fails(CertificateError, subject, address, ca_file=ca, host_subject="O=x,CN=y")
    untrusted = ("isn't trusted", "self-signed", "--ca-file")
    await fails(CertificateError, untrusted, address, ca_file=other.ca_file)
    await fails(CertificateError, untrusted, address)
    await fails(CertificateError, untrusted, websocket)

    # The wrong port of the two.
    await fails(ConnectError, ("without TLS", "spice://"), f"spice+tls://{HOST}:{qemu.port}")
    await fails(ConnectError, ("is this its TLS port?",), f"spice://{HOST}:{qemu.tls_port}")
    await fails(ConnectError, ("does it want TLS?",), f"ws://{HOST}:{qemu.tls_port}/")


async def test_a_certificate_for_another_name_or_of_yesterday_is_refused(
    qemu_factory: QemuFactory, tmp_path: Path
) -> None:
    elsewhere = make_certificates(tmp_path / "name", names=("vm.example",), subject="CN=vm.example")
    qemu = await qemu_factory(tls_dir=elsewhere.folder)
    address = f"spice+tls://{HOST}:{qemu.tls_port}"
    await fails(CertificateError, (HOST, "--host-subject"), address, ca_file=elsewhere.ca_file)
    assert await usable(address, ca_file=elsewhere.ca_file, host_subject="CN=vm.example")

    old = make_certificates(tmp_path / "old", days=-1)
    qemu = await qemu_factory(tls_dir=old.folder)
    address = f"spice+tls://{HOST}:{qemu.tls_port}"
    await fails(CertificateError, ("expired",), address, ca_file=old.ca_file)


async def test_tickets(qemu_factory: QemuFactory) -> None:
    qemu = await qemu_factory(password="sesame")
    assert await usable(qemu.address, password="sesame")
    assert await usable(f"spice://:sesame@{HOST}:{qemu.port}")
    assert await usable(f"spice://{HOST}?port={qemu.port}&password=sesame")
    wrong = ("password is wrong or has expired",)
    await fails(PermissionDenied, wrong, qemu.address, password="guess")
    await fails(PermissionDenied, ("none was given",), qemu.address)
    error = await refusal(qemu.address, password="x" * 61)
    assert type(error) is LocalError
    assert "61 bytes" in str(error)

    await qemu.set_password("brief", expires_in=3)
    assert await usable(qemu.address, password="brief")
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        try:
            # It may also run out between one channel and the next: such a session isn't looked at.
            async with asyncio.timeout(LIMIT), aiospice.connect(qemu.address, password="brief"):
                pass
        except PermissionDenied:
            break
        await asyncio.sleep(0.3)
    await fails(PermissionDenied, wrong, qemu.address, password="brief")


async def test_sasl(qemu_factory: QemuFactory, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "tls")
    users = make_sasl(tmp_path / "sasl", "ann", "sesame")
    qemu = await qemu_factory(tls_dir=certificates.folder, sasl=users)
    address = f"spice+tls://{HOST}:{qemu.tls_port}"
    ca = certificates.ca_file
    assert await usable(address, ca_file=ca, username="ann", password="sesame")
    assert await usable(f"spice+tls://ann:sesame@{HOST}:{qemu.tls_port}", ca_file=ca)
    for name, password in (("ann", "guess"), ("eve", "sesame")):
        words = ("user name or password",)
        await fails(SaslError, words, address, ca_file=ca, username=name, password=password)
    await fails(SaslError, ("no name was given",), address, ca_file=ca, password="guess")
    plain = f"spice://{HOST}:{qemu.port}"
    await fails(SaslError, ("use its TLS port",), plain, username="ann", password="sesame")


async def test_channels_that_must_go_over_tls_do(qemu_factory: QemuFactory, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    ca = certificates.ca_file
    qemu = await qemu_factory(tls_dir=certificates.folder, spice=("tls-channel=display",))
    both = f"spice://{HOST}?port={qemu.port}&tls-port={qemu.tls_port}"
    assert await usable(both, ca_file=ca) == f"spice://{HOST}:{qemu.port}"
    assert await peers(qemu, both, ca) == {"display"}
    named = parse_address(both)._replace(secure_channels=("inputs", "port"))
    assert await peers(qemu, named, ca) == {"display", "inputs", "port"}
    every = parse_address(both)._replace(secure_channels=("all",))
    assert await peers(qemu, every, ca) == {"main", "display", "inputs", "cursor", "port"}
    nowhere = parse_address(f"spice://{HOST}:{qemu.port}")._replace(secure_channels=("main",))
    assert type(await refusal(nowhere)) is AddressError

    # Without the TLS port the rest works, and who wants the screen is told.
    async with aiospice.connect(f"spice://{HOST}:{qemu.port}") as session:
        assert session.channels == ("main:0", "inputs:0", "cursor:0", "port:0")
        assert await echoes(session)
        with pytest.raises(NeedSecured, match=f"{HOST}:{qemu.port}.*spice\\+tls://"):
            await session.screen()
        async for event in session.events():
            if isinstance(event, ChannelSkipped):
                assert (event.channel, "TLS only" in event.reason) == ("display:0", True)
                break

    # The main channel itself, too.
    qemu = await qemu_factory(tls_dir=certificates.folder, spice=("tls-channel=main",))
    both = f"spice://{HOST}?port={qemu.port}&tls-port={qemu.tls_port}"
    assert await usable(both, ca_file=ca) == f"spice+tls://{HOST}:{qemu.tls_port}"
    await fails(NeedSecured, ("spice+tls://",), f"spice://{HOST}:{qemu.port}")


async def peers(qemu: Qemu, address: Any, ca: Path) -> set[str]:
    """Names of the channels that QEMU has over TLS in such a session."""
    numbers = {1: "main", 2: "display", 3: "inputs", 4: "cursor", 10: "port"}
    async with aiospice.connect(address, ca_file=ca):
        channels = (await qemu.query_spice())["channels"]
        return {numbers[item["channel-type"]] for item in channels if item["tls"]}


async def test_only_the_channels_asked_for_are_opened(qemu_factory: QemuFactory) -> None:
    qemu = await qemu_factory()
    async with aiospice.connect(qemu.address, channels=("inputs",)) as session:
        assert session.channels == ("main:0", "inputs:0")
        assert await qemu.channels() == [(1, 0), (3, 0)]
        with pytest.raises(aiospice.errors.StateError, match="no display 0"):
            await session.screen()


# -- connection files ------------------------------------------------------------------------------


async def test_a_connection_file_and_only_it_is_deleted(
    qemu_factory: QemuFactory, tmp_path: Path
) -> None:
    certificates = make_certificates(tmp_path / "tls", names=(), subject="O=vm,CN=one")
    qemu = await qemu_factory(tls_dir=certificates.folder, password="sesame")
    ca = certificates.ca_file.read_text().replace("\n", "\\n")
    lines = ["[virt-viewer]", "type=spice", f"host={HOST}", f"tls-port={qemu.tls_port}"]
    lines += [f"ca={ca}", "host-subject=O=vm,CN=one", "password=sesame", "title=One"]
    folder = tmp_path / "files"
    folder.mkdir()
    kept, gone, linked = folder / "kept.vv", folder / "gone.vv", folder / "linked.vv"
    kept.write_text("\n".join(lines))
    gone.write_text("\n".join([*lines, "delete-this-file=1"]))
    linked.symlink_to(kept)
    tls = f"spice+tls://{HOST}:{qemu.tls_port}"
    assert await usable(str(kept)) == tls
    assert await usable(kept) == tls  # a path as well
    with pytest.raises(AddressError, match="symbolic link"):
        await usable(str(linked))
    assert await usable(str(gone)) == tls
    assert sorted(path.name for path in folder.iterdir()) == ["kept.vv", "linked.vv"]
    with pytest.raises(AddressError, match=r"gone\.vv"):
        await usable(str(gone))
    # Options override the file.
    error = await refusal(str(kept), password="guess")
    assert type(error) is PermissionDenied
    assert type(await refusal(str(kept), host_subject="CN=two")) is CertificateError


# -- proxies ---------------------------------------------------------------------------------------


class Proxy:
    """An HTTP proxy that takes CONNECT from whoever has the password."""

    def __init__(self, login: str = "", refuse: str = "") -> None:
        self.login = login
        self.refuse = refuse
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split("\r\n")[0].split(" ")
        self.asked.append(f"{method} {target}")
        wanted = "Basic " + base64.b64encode(self.login.encode()).decode()
        if self.login and f"proxy-authorization: {wanted}".lower() not in head.lower():
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        elif self.refuse:
            writer.write(f"HTTP/1.1 {self.refuse}\r\nContent-Length: 0\r\n\r\n".encode())
        else:
            host, _, port = target.rpartition(":")
            upstream = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(pump(reader, upstream[1]), pump(upstream[0], writer))


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bytes from one side to the other until it ends."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def test_through_a_proxy(qemu_factory: QemuFactory, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    ca = certificates.ca_file
    qemu = await qemu_factory(tls_dir=certificates.folder)
    plain, tls = f"spice://{HOST}:{qemu.port}", f"spice+tls://{HOST}:{qemu.tls_port}"
    proxy = Proxy()
    async with listener(proxy.serve) as port:
        by = f"http://{HOST}:{port}"
        assert await usable(plain, proxy=by) == plain
        assert proxy.asked == [f"CONNECT {HOST}:{qemu.port}"] * len(CHANNELS)
        assert await usable(tls, ca_file=ca, proxy=by) == tls
        assert await usable(f"wss://{HOST}:{qemu.tls_port}/", ca_file=ca, proxy=by)
        file = tmp_path / "proxied.vv"
        file.write_text(f"[virt-viewer]\ntype=spice\nhost={HOST}\nport={qemu.port}\nproxy={by}\n")
        proxy.asked = []
        assert await usable(str(file)) == plain
        assert len(proxy.asked) == len(CHANNELS)
    async with listener(Proxy(login="ann:se:same").serve) as port:
        assert await usable(plain, proxy=f"http://ann:se%3Asame@{HOST}:{port}") == plain
        wants = ("407", f"{HOST}:{port}")
        await fails(ConnectError, wants, plain, proxy=f"http://{HOST}:{port}")
        error = await refusal(plain, proxy=f"http://ann:guess@{HOST}:{port}")
        assert "407" in str(error)
        assert "guess" not in str(error)
    async with listener(Proxy(refuse="403 Forbidden").serve) as port:
        await fails(ConnectError, ("403", "doesn't allow"), plain, proxy=f"http://{HOST}:{port}")
    nobody = f"http://{HOST}:{free_port()}"
    await fails(ConnectError, ("by proxy", "nothing listens"), plain, proxy=nobody)


# -- no server there -------------------------------------------------------------------------------


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(4096):
        pass


async def test_a_listener_that_never_answers_is_given_up() -> None:
    """The text names the step and its limit."""
    async with listener(silence) as port:
        limit = "1 s"
        for address, step in (
            (f"spice://{HOST}:{port}", "link of main:0"),
            (f"spice+tls://{HOST}:{port}", "TLS handshake"),
            (f"ws://{HOST}:{port}/", "WebSocket handshake"),
            (f"wss://{HOST}:{port}/", "TLS handshake"),
        ):
            await fails(SpiceTimeout, (step, limit), address, timeout=1.0)
        words = (f"by proxy http://{HOST}:{port}", "HTTP proxy handshake", limit)
        proxy = f"http://{HOST}:{port}"
        await fails(SpiceTimeout, words, f"spice://{HOST}:1", proxy=proxy, timeout=1.0)


async def test_other_servers_are_told_apart() -> None:
    greetings = {"VNC": b"RFB 003.008\n", "SSH": b"SSH-2.0-OpenSSH_9.2\r\n"}
    for name, greeting in greetings.items():

        async def greet(_: Any, writer: asyncio.StreamWriter, text: bytes = greeting) -> None:
            writer.write(text)
            await silence(_, writer)

        async with listener(greet) as port:
            await fails(InvalidMagic, (name, "no SPICE server"), f"spice://{HOST}:{port}")
            await fails(ConnectError, ("isn't TLS",), f"spice+tls://{HOST}:{port}")
            await fails(ConnectError, ("isn't HTTP",), f"ws://{HOST}:{port}/")

    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    async with listener(web) as port:
        await fails(InvalidMagic, ("a web server",), f"spice://{HOST}:{port}")
        await fails(ConnectError, ("HTTP 404",), f"ws://{HOST}:{port}/")

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)

    async with listener(hang_up) as port:
        words = ("closed the connection", "TLS port?")
        await fails(LinkFailed, words, f"spice://{HOST}:{port}")


async def test_a_tls_server_that_speaks_no_spice(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate_file, certificates.key_file)

    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(web, HOST, 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        ca = certificates.ca_file
        address = f"spice+tls://{HOST}:{port}"
        await fails(InvalidMagic, ("a web server",), address, ca_file=ca)
        # Plain bytes to a TLS port that answers with an alert, as spice-server doesn't.
        error = await refusal(f"spice://{HOST}:{port}")
        assert "TLS" in str(error)
    finally:
        server.close()


async def test_nobody_there(tmp_path: Path) -> None:
    listens = ("Connection refused: nothing listens there",)
    await fails(ConnectError, listens, f"spice://{HOST}:{free_port()}")
    await fails(ConnectError, listens, f"spice+tls://{HOST}:{free_port()}")
    await fails(ConnectError, ("is the server running?",), f"spice+unix://{tmp_path}/none")
    await fails(ConnectError, ("isn't known", "spelled"), "spice://no.such.invalid:5900")


# -- the program -----------------------------------------------------------------------------------


async def test_the_program_says_what_is_wrong_and_ends_with_the_status_for_it(
    qemu_factory: QemuFactory, tmp_path: Path
) -> None:
    certificates = make_certificates(tmp_path / "tls")
    qemu = await qemu_factory(
        tls_dir=certificates.folder, password="sesame", spice=("tls-channel=display",)
    )
    output = tmp_path / "screen.png"
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text("sesame\n")
    plain, tls = f"spice://{HOST}:{qemu.port}", f"spice+tls://{HOST}:{qemu.tls_port}"
    password, ca = ("--password-file", str(secret)), ("--ca-file", str(certificates.ca_file))

    async def screenshot(*arguments: str, **environment: str) -> tuple[int, str]:
        return await cli("screenshot", "-o", str(output), *arguments, **environment)

    both = f"spice://{HOST}?port={qemu.port}&tls-port={qemu.tls_port}"
    assert await screenshot(both, *password, *ca) == (0, "")
    assert output.read_bytes().startswith(b"\x89PNG")
    output.unlink()

    async with listener(silence) as silent:
        for status, words, arguments in (
            (2, ("did you mean spice://",), ("localhost:5900",)),
            (2, ("--timeout",), (plain, "--timeout", "0")),
            (3, ("nothing listens",), (f"spice://{HOST}:{free_port()}",)),
            (3, ("TLS port",), (f"spice://{HOST}:{qemu.tls_port}",)),
            (4, ("none was given", "--password-file"), (tls, *ca)),
            (4, ("--ca-file",), (tls, *password)),
            (4, ("spice+tls://", "display:0"), (plain, *password)),
            (124, ("0.5 s",), (f"spice://{HOST}:{silent}", "--timeout", "0.5")),
        ):
            code, text = await screenshot(*arguments)
            assert code == status, text
            for word in words:
                assert word in text
            assert "sesame" not in text
            assert "Traceback" not in text
            assert not output.exists()
    code, text = await screenshot(tls, *ca, AIOSPICE_PASSWORD="sesame")
    assert (code, text) == (0, "")

    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b"HTTP/1.1 404 Not Found\r\n\r\n\x1b[31m")

    async with listener(web) as port:
        code, text = await screenshot(f"spice://{HOST}:{port}")
        assert code == 5
        assert "web server" in text
        assert "\x1b" not in text
