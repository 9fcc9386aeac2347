"""The client's link with a real QEMU over a socket, and real clients with ours as server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import shutil
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from aiospice.aio.crypto import Crypto
from aiospice.errors import (
    AiospiceError,
    BadConnectionId,
    LinkFailed,
    MissingProgram,
    NeedSecured,
    NeedUnsecured,
    PermissionDenied,
    SaslError,
)
from aiospice.link.client import LinkClient, LinkPhase
from aiospice.link.server import LinkServer, ServerLinkPhase
from aiospice.proof.certificates import make_certificates, make_sasl
from aiospice.wire import caps

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import QemuFactory

    from aiospice.proof.certificates import Certificates

pytestmark = pytest.mark.peers


async def link(port: int, tls: ssl.SSLContext | None = None, **options: Any) -> LinkClient:
    """Link one channel over a socket, a few bytes at a time, thawed after each."""
    arguments: dict[str, Any] = {"connection_id": 0, "channel_type": 1, "channel_id": 0}
    client = LinkClient(**{**arguments, "crypto": Crypto(), "secure": bool(tls), **options})
    client.start()
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        while not client.finished:
            writer.write(client.take())
            data = b""
            with contextlib.suppress(ConnectionError):
                data = await reader.read(37)
            if data:
                client.receive(data)
            else:
                client.receive_eof()
            client = pickle.loads(pickle.dumps(client))
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return client


def opened(client: LinkClient) -> bool:
    assert client.error is None
    return client.phase is LinkPhase.DONE


def trusting(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificates.ca_file))
    context.check_hostname = False
    return context


async def test_qemu_without_ticketing(qemu_factory: QemuFactory) -> None:
    qemu = await qemu_factory()
    client = await link(qemu.port, channel_caps=(0, 1, 2, 3))
    assert opened(client)
    assert client.mini_header
    assert caps.bits(client.server_common_caps) == {0, 1, 3}
    assert caps.bits(client.server_channel_caps) == {0, 1, 2, 3}
    assert opened(await link(qemu.port, common_caps=()))
    unknown = await link(qemu.port, connection_id=12345, channel_type=4)
    assert isinstance(unknown.error, BadConnectionId)
    nowhere = await link(qemu.port, connection_id=12345, channel_type=2, channel_id=9)
    assert isinstance(nowhere.error, LinkFailed)


async def test_qemu_with_a_ticket(qemu_factory: QemuFactory) -> None:
    qemu = await qemu_factory(password="sesame")
    assert opened(await link(qemu.port, password="sesame"))
    wrong = await link(qemu.port, password="wrong")
    assert isinstance(wrong.error, PermissionDenied)
    missing = await link(qemu.port)
    assert isinstance(missing.error, PermissionDenied)
    assert "none was given" in str(missing.error)


async def test_qemu_that_wants_tls_for_one_channel_and_not_for_another(
    qemu_factory: QemuFactory, tmp_path: Path
) -> None:
    certificates = make_certificates(tmp_path)
    only = ("tls-channel=main", "plaintext-channel=inputs")
    qemu = await qemu_factory(tls_dir=certificates.folder, spice=only)
    tls = trusting(certificates)
    assert opened(await link(qemu.tls_port, tls))
    plain = await link(qemu.port)
    assert isinstance(plain.error, NeedSecured)
    secured = await link(qemu.tls_port, tls, channel_type=3, connection_id=1)
    assert isinstance(secured.error, NeedUnsecured)
    mistaken = await link(qemu.tls_port)
    assert isinstance(mistaken.error, AiospiceError)
    assert "TLS" in str(mistaken.error)


@pytest.mark.parametrize("mechanism", ["scram-sha-256", "scram-sha-1", "plain"])
async def test_qemu_with_sasl(qemu_factory: QemuFactory, tmp_path: Path, mechanism: str) -> None:
    certificates = make_certificates(tmp_path / "tls")
    environment = make_sasl(tmp_path / "sasl", "ann", "sesame", mechanisms=(mechanism,))
    qemu = await qemu_factory(tls_dir=certificates.folder, sasl=environment)
    tls = trusting(certificates)
    assert opened(await link(qemu.tls_port, tls, username="ann", password="sesame"))
    for name, password in (("ann", "x"), ("eve", "sesame")):
        wrong = await link(qemu.tls_port, tls, username=name, password=password)
        assert isinstance(wrong.error, SaslError)
    unsafe = await link(qemu.port, username="ann", password="sesame")
    assert isinstance(unsafe.error, SaslError)
    assert "TLS port" in str(unsafe.error)


async def served(
    program: str,
    *arguments: str,
    tls: ssl.SSLContext | None = None,
    ca: Path | None = None,
    **options: Any,
) -> LinkServer:
    """What the link of a real client's first connection came to."""
    path = shutil.which(program)
    if path is None:
        raise MissingProgram(f"{program} isn't installed: install spice-client-gtk (Debian)")
    first: asyncio.Future[LinkServer] = asyncio.get_running_loop().create_future()

    async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        core = LinkServer(crypto=Crypto(), secure=bool(tls), **options)
        while not core.finished:
            data = b""
            with contextlib.suppress(ConnectionError):
                data = await reader.read(50)
            if data:
                core.receive(data)
            else:
                core.receive_eof()
            if core.phase is ServerLinkPhase.REQUESTED:
                core.accept()
            core = pickle.loads(pickle.dumps(core))
            writer.write(core.take())
        if not first.done():
            first.set_result(core)
        writer.close()

    server = await asyncio.start_server(on_connect, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    filled = [argument.format(port=port) for argument in arguments]
    process = await asyncio.create_subprocess_exec(
        path,
        *filled,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "SSL_CERT_FILE": str(ca or "")},
    )
    try:
        async with asyncio.timeout(15):
            return await first
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        server.close()


async def test_spice_gtk_opens_with_the_right_ticket_only() -> None:
    address = "--uri=spice://127.0.0.1:{port}"
    good = await served("spicy-screenshot", address, "--password=sesame", password="sesame")
    assert good.error is None
    assert good.phase is ServerLinkPhase.DONE
    assert good.mini_header
    assert good.request is not None
    assert good.request[:3] == (0, 1, 0)
    assert caps.has(good.request.channel_caps, caps.MainCap.SEAMLESS_MIGRATE)
    bad = await served("spicy-screenshot", address, "--password=no", password="sesame")
    assert isinstance(bad.error, PermissionDenied)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"])
async def test_spice_gtk_opens_with_sasl(tmp_path: Path, mechanism: str) -> None:
    certificates = make_certificates(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificates.certificate_file, certificates.key_file)
    address = "--uri=spice://ann@127.0.0.1?tls-port={port}"
    users = {"ann": "sesame"}
    for password, phase in (("sesame", ServerLinkPhase.DONE), ("no", ServerLinkPhase.FAILED)):
        core = await served(
            "spicy-screenshot",
            address,
            f"--password={password}",
            tls=tls,
            ca=certificates.ca_file,
            users=users,
            mechanisms=(mechanism,),
        )
        assert core.phase is phase
        assert core.username == ("ann" if password == "sesame" else "")
