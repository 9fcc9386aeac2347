"""Servers on real sockets: where they listen, who gets in, who doesn't, and what is told of it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import socket
import stat
import struct
from pathlib import Path
from typing import Any

import pytest
from tests.serve_rig import (
    KeysGuest,
    ask,
    dial,
    eventually,
    link_message,
    odd_message,
    rules,
    seen,
    serving,
)

import aiospice
from aiospice.aio.listen import Listen, parse_listen
from aiospice.errors import (
    AddressError,
    ConnectError,
    LinkError,
    LocalError,
    NeedSecured,
    PermissionDenied,
    SaslError,
    SessionLost,
    StateError,
)
from aiospice.proof.certificates import Certificates, make_certificates
from aiospice.server.config import Limits, ServerConfig
from aiospice.server.events import ClientConnected, ClientDisconnected, ServerChannelClosed
from aiospice.server.guest import Guest, Host
from aiospice.wire.common import LinkCode


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def tls_options(certificates: Certificates) -> dict[str, Any]:
    return {"certificate": certificates.certificate_file, "key": certificates.key_file}


async def types_a_key(address: str, guest: KeysGuest, **options: Any) -> None:
    """Connect, type, and see it arrive."""
    async with aiospice.connect(address, **options) as session:
        await typed(session, guest)


async def typed(session: aiospice.Session, guest: KeysGuest) -> None:
    """Type, and see it arrive."""
    before = len(guest.keys)
    await session.keyboard.type("a")
    await eventually(lambda: len(guest.keys) == before + 1)
    assert guest.keys[-1] == 0x1E


# Where it listens


async def test_every_kind_of_listener_brings_clients_at_the_same_time(
    tmp_path: Path, certificates: Certificates
) -> None:
    guest = KeysGuest()
    listen = ["spice://127.0.0.1:0", "spice+tls://localhost:0", "ws://127.0.0.1:0"]
    listen += ["wss://localhost:0", f"spice+unix://{tmp_path}/spice.sock"]
    async with serving(
        guest, listen=listen, on_second_client="share", **tls_options(certificates)
    ) as server:
        schemes = [address.partition("://")[0] for address in server.addresses]
        assert set(schemes) == {"spice", "spice+tls", "ws", "wss", "spice+unix"}
        for address in server.addresses:
            await types_a_key(
                f"{address}/" if address.startswith("ws") else address,
                guest,
                ca_file=certificates.ca_file,
            )
    assert not (tmp_path / "spice.sock").exists()
    assert len(seen(server, ClientConnected)) == len(server.addresses)


async def test_it_listens_on_loopback_unless_told_otherwise() -> None:
    async with serving() as server:
        (address,) = server.addresses
        assert address.startswith("spice://127.0.0.1:")


@pytest.mark.parametrize(
    ("text", "scheme", "listen"),
    [
        ("127.0.0.1:5900", "spice", Listen("spice", "127.0.0.1", 5900)),
        ("5900", "ws", Listen("ws", "127.0.0.1", 5900)),
        (":5900", "spice", Listen("spice", "*", 5900)),
        ("*:0", "spice", Listen("spice", "*", 0)),
        ("[::1]:5900", "spice+tls", Listen("spice+tls", "::1", 5900)),
        ("wss://server.example:443/", "spice", Listen("wss", "server.example", 443)),
        ("spice+unix:///run/x.sock", "spice", Listen("spice+unix", path="/run/x.sock")),
    ],
)
def test_an_address_to_listen_on_is_read(text: str, scheme: str, listen: Listen) -> None:
    assert parse_listen(text, scheme) == listen
    assert parse_listen(str(listen)) == listen


@pytest.mark.parametrize(
    "text", ["", "localhost", "localhost:", "host:x", "host:70000", "http://host:80", "host:²"]
)
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse_listen(text)


async def test_an_address_that_is_taken_is_told_of_and_nothing_is_left() -> None:
    async with serving() as server:
        with pytest.raises(ConnectError, match="another program listens there"):
            await aiospice.serve(KeysGuest(), listen=["127.0.0.1:0", server.addresses[0]])
    with pytest.raises(AddressError, match="this machine has no such address"):
        await aiospice.serve(KeysGuest(), "192.0.2.1", 5900, password="x")
    with pytest.raises(AddressError, match="isn't known"):
        await aiospice.serve(KeysGuest(), "nowhere.invalid", 5900, password="x")


async def test_a_unix_socket_is_for_this_user_and_stale_ones_go(tmp_path: Path) -> None:
    path = tmp_path / "spice.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serving(unix_path=path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(ConnectError, match="another server listens there"):
            await aiospice.serve(KeysGuest(), unix_path=path)
        assert path.exists()
    assert not path.exists()
    path.write_text("mine")
    with pytest.raises(AddressError, match="is no socket"):
        await aiospice.serve(KeysGuest(), unix_path=path)
    assert path.read_text() == "mine"
    with pytest.raises(AddressError, match="no such folder"):
        await aiospice.serve(KeysGuest(), unix_path=tmp_path / "none" / "x.sock")


async def test_another_servers_unix_socket_is_left_alone_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "spice.sock"
    async with serving(unix_path=path):
        path.unlink()
        other = socket.socket(socket.AF_UNIX)
        other.bind(str(path))
    assert path.exists()
    other.close()


# Safe by default


class ShellGuest(KeysGuest):
    name = "shell"
    needs_password = True


async def test_a_server_that_everybody_could_reach_wants_a_password() -> None:
    with pytest.raises(LocalError, match=r"0\.0\.0\.0:\d+ can be reached from other machines"):
        await aiospice.serve(KeysGuest(), "*", 0)
    with pytest.raises(LocalError, match="always needs a password"):
        await aiospice.serve(ShellGuest(), port=0)
    async with serving(ShellGuest(), password="x") as server:
        with pytest.raises(LocalError, match="always needs a password"):
            server.set_password(None)
    async with aiospice.serve(KeysGuest(), "*", 0, password="x") as server:
        with pytest.raises(LocalError, match="from other machines"):
            server.set_password(None)
        server.set_password("y")
    async with aiospice.serve(KeysGuest(), "*", 0, users={"anna": "x"}) as server:
        assert server.addresses
        with pytest.raises(LocalError, match="asks for users"):
            server.set_password("y")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tls_port": 0}, "needs a certificate"),
        ({"port": 0, "certificate": "x"}, "nothing listens with TLS"),
        ({"password": "x" * 61}, "SPICE allows 60"),
        ({"password": "a\0b"}, "NUL"),
        ({"password": "x", "users": {"a": "b"}}, "not both"),
        ({"compression": "zip"}, "compression can't be 'zip'"),
        ({"on_second_client": "kill"}, "on_second_client can't be"),
        ({"secure_channels": "inputs,mouse"}, "no channel is called 'mouse'"),
        ({"uuid": b"short"}, "16 bytes"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(LocalError, match=text):
        aiospice.serve(KeysGuest(), **options)


def test_an_option_that_does_not_exist_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(TypeError, match="no option compresion"):
        aiospice.serve(KeysGuest(), compresion="off")


# Tickets and users


async def test_a_password_lets_in_who_knows_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    guest = KeysGuest()
    async with serving(guest, password="s3cret-wörd") as server:
        (address,) = server.addresses
        with pytest.raises(PermissionDenied):
            await aiospice.connect(address, password="wrong-one")
        with pytest.raises(PermissionDenied):
            await aiospice.connect(address)
        await types_a_key(address, guest, password="s3cret-wörd")
        assert rules(server) == ["ticket", "ticket"]
        assert "s3cret" not in json.dumps(server.status())
    refusals = [record for record in caplog.records if "refused" in record.message]
    assert len(refusals) == 2
    for record in refusals:
        assert record.name == "aiospice.server"
        assert "127.0.0.1:" in record.message
        assert "(ticket)" in record.message
    assert "s3cret" not in caplog.text
    assert "wrong-one" not in caplog.text


async def test_a_password_that_is_void_lets_nobody_in() -> None:
    async with serving(password="x", password_expires=0.0) as server:
        with pytest.raises(PermissionDenied):
            await aiospice.connect(server.addresses[0], password="x")
        assert rules(server) == ["ticket-expired"]
        server.set_password("y", expires_in=60)
        async with aiospice.connect(server.addresses[0], password="y"):
            pass
        server.set_password("z", expires_in=0)
        with pytest.raises(PermissionDenied):
            await aiospice.connect(server.addresses[0], password="z")


async def test_a_password_for_one_session_opens_all_its_channels() -> None:
    guest = KeysGuest()
    async with serving(guest, password="x", password_once=True) as server:
        await types_a_key(server.addresses[0], guest, password="x")
        with pytest.raises(PermissionDenied):
            await aiospice.connect(server.addresses[0], password="x")
        assert rules(server) == ["ticket-used"]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256"])
async def test_users_come_by_sasl_over_tls(mechanism: str, certificates: Certificates) -> None:
    guest = KeysGuest()
    async with serving(
        guest,
        tls_port=0,
        users={"anna": "secret", "bert": "other"},
        mechanisms=(mechanism,),
        **tls_options(certificates),
    ) as server:
        options: dict[str, Any] = {"ca_file": certificates.ca_file, "username": "anna"}
        address = server.addresses[0].replace("127.0.0.1", "localhost")
        with pytest.raises((SaslError, PermissionDenied)):
            await aiospice.connect(address, password="other", **options)
        await types_a_key(address, guest, password="secret", **options)
        await eventually(lambda: seen(server, ClientConnected))
        assert seen(server, ClientConnected)[0].user == "anna"
        assert rules(server) == ["sasl"]


async def test_without_tls_users_come_by_scram_only() -> None:
    guest = KeysGuest()
    async with serving(guest, users={"anna": "secret"}) as server:
        await types_a_key(server.addresses[0], guest, username="anna", password="secret")
    async with serving(users={"anna": "secret"}, mechanisms=("PLAIN",)) as server:
        with pytest.raises(SaslError):
            await aiospice.connect(server.addresses[0], username="anna", password="secret")


async def test_some_channels_are_for_tls_only(certificates: Certificates, tmp_path: Path) -> None:
    guest = KeysGuest()
    async with serving(
        guest,
        listen=["127.0.0.1:0", "spice+tls://localhost:0", f"spice+unix://{tmp_path}/s"],
        secure_channels="inputs",
        **tls_options(certificates),
    ) as server:
        plain, tls, unix = server.addresses[0], server.addresses[-2], server.addresses[-1]
        async with aiospice.connect(plain) as session:
            assert session.channels == ("main:0",)
        assert rules(server) == ["tls-only"]
        port, tls_port = plain.rpartition(":")[2], tls.rpartition(":")[2]
        both = f"spice://localhost?port={port}&tls-port={tls_port}"
        await types_a_key(tls, guest, ca_file=certificates.ca_file)
        await types_a_key(both, guest, ca_file=certificates.ca_file)
        await types_a_key(unix, guest)
    async with serving(secure_channels={"all"}) as server:
        with pytest.raises(NeedSecured):
            await aiospice.connect(server.addresses[0])


# Links that are none


def header(*words: int) -> bytes:
    """The beginning of a link message: version and size."""
    return b"REDQ" + b"".join(word.to_bytes(4, "little") for word in words)


#: What a link may begin with: bytes, the answer's code, the rule.
BAD_LINKS: dict[str, tuple[bytes, int | None, str]] = {
    "http": (b"GET / HTTP/1.1\r\n\r\n", LinkCode.INVALID_MAGIC, "not-spice"),
    "tls": (b"\x16\x03\x01\x02\x00", LinkCode.INVALID_MAGIC, "not-spice"),
    "version 3": (header(3, 0, 18), LinkCode.VERSION_MISMATCH, "version"),
    "4097 bytes": (header(2, 2, 4097), LinkCode.INVALID_DATA, "link-message"),
    "4 GiB": (header(2, 2, 0xFFFFFFFF), LinkCode.INVALID_DATA, "link-message"),
    "cut": (link_message()[:-4], None, "link-time"),
    "caps outside": (
        link_message().replace(b"\x12\0\0\0", b"\xff\0\0\0"),
        LinkCode.INVALID_DATA,
        "link-message",
    ),
    "channel 77": (
        odd_message(channel_type=77),
        LinkCode.CHANNEL_NOT_AVAILABLE,
        "no-such-channel",
    ),
}


@pytest.mark.parametrize(("data", "code", "rule"), BAD_LINKS.values(), ids=BAD_LINKS)
async def test_a_link_that_is_none_is_answered_as_the_protocol_says(
    data: bytes, code: int | None, rule: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = ServerConfig(limits=Limits(link=0.5))
    async with serving(config=config) as server:
        reply = await ask(server, data)
        assert (reply.error if reply else None) == code
        await eventually(lambda: rules(server) == [rule])
        await eventually(lambda: server.status()["sockets"] == {"open": 0, "closing": 0})
        assert server.status()["links"]["half_links"] == 0
    (line,) = [record.message for record in caplog.records if "refused" in record.message]
    assert line.startswith("127.0.0.1:")
    assert f"refused ({rule})" in line


async def test_each_link_gets_a_key_of_its_own() -> None:
    async with serving() as server:
        replies = await asyncio.gather(*(ask(server, link_message()) for _ in range(25)))
        keys = {reply.pub_key for reply in replies if reply is not None}
        assert len(keys) == 25
        await eventually(lambda: server.status()["keys_ready"] == 16)


async def test_a_byte_a_moment_is_cut_off_after_the_links_time() -> None:
    config = ServerConfig(limits=Limits(link=0.5))
    async with serving(config=config) as server:
        reader, writer = await dial(server)
        dropped = asyncio.create_task(reader.read())
        for byte in link_message() * 20:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.05)
            if dropped.done():
                break
        assert rules(server) == ["link-time"]
        writer.close()


@pytest.mark.parametrize("kind", ["tls", "ws"])
async def test_the_links_time_also_counts_below_spice(
    kind: str, certificates: Certificates
) -> None:
    config = ServerConfig(limits=Limits(link=0.3))
    options: dict[str, Any] = {"ws_port": 0}
    if kind == "tls":
        options = {"tls_port": 0, **tls_options(certificates)}
    async with serving(config=config, **options) as server:
        reader, writer = await dial(server)
        writer.write(b"\x16" if kind == "tls" else b"GET ")
        assert await reader.read() == b""
        await eventually(lambda: rules(server) == ["link-time"])
        assert server.status()["sockets"] == {"open": 0, "closing": 0}
        writer.close()


async def test_ten_thousand_half_links_cost_a_bounded_number_of_sockets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    guest = KeysGuest()
    async with serving(guest) as server, aiospice.connect(server.addresses[0]) as session:
        before = len(os.listdir("/proc/self/fd"))
        most = 0
        for batch in range(100):
            socks = [socket.socket() for _ in range(100)]
            for sock in socks:
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", int(server.addresses[0].rpartition(":")[2])))
            for _ in range(30):  # a few are taken at a time
                await asyncio.sleep(0)
            status = server.status()
            most = max(most, status["sockets"]["open"])
            if batch % 25 == 0:  # who is in doesn't notice
                await typed(session, guest)
            for sock in socks:
                sock.close()
        assert most <= 32 + 2
        await eventually(lambda: server.status()["links"]["half_links"] == 0)
        assert len(os.listdir("/proc/self/fd")) <= before + 4
        links = server.status()["links"]
        assert links["refused"]["half-links-per-address"] + links["refused"]["failures"] > 1000
    refused = [record for record in caplog.records if "refused" in record.message]
    assert 0 < len(refused) < 1000


async def test_wrong_passwords_make_an_address_wait() -> None:
    async with serving(password="right") as server:
        for _ in range(10):
            with pytest.raises(PermissionDenied):
                await aiospice.connect(server.addresses[0], password="wrong")
        with pytest.raises((ConnectError, LinkError)):
            await aiospice.connect(server.addresses[0], password="right")
        assert rules(server) == ["ticket"] * 10 + ["failures"]


# More than one client


async def test_a_new_client_takes_over() -> None:
    guest = KeysGuest()
    async with serving(guest) as server:
        async with aiospice.connect(server.addresses[0]) as first:
            await types_a_key(server.addresses[0], guest)
            with pytest.raises(SessionLost):
                await first.wait_closed()
        gone = seen(server, ClientDisconnected)
        assert "took over" in gone[0].reason


async def test_a_second_client_is_refused() -> None:
    guest = KeysGuest()
    async with serving(guest, on_second_client="refuse") as server:
        async with aiospice.connect(server.addresses[0]) as first:
            with pytest.raises(LinkError):
                await aiospice.connect(server.addresses[0])
            await first.keyboard.type("b")
            await eventually(lambda: guest.keys == [0x30])
        assert rules(server) == ["second-client"]
        await types_a_key(server.addresses[0], guest)


async def test_clients_share_the_guest() -> None:
    guest = KeysGuest()
    async with (
        serving(guest, on_second_client="share") as server,
        aiospice.connect(server.addresses[0]) as first,
        aiospice.connect(server.addresses[0]) as second,
    ):
        await first.keyboard.type("a")
        await second.keyboard.type("b")
        await eventually(lambda: sorted(guest.keys) == [0x1E, 0x30])
        assert guest.host is not None
        assert len(guest.host.clients) == 2
        status = json.loads(json.dumps(server.status()))
        assert [len(client["channels"]) for client in status["clients"]] == [2, 2]


# Control


async def test_a_client_can_be_sent_away() -> None:
    async with serving() as server, aiospice.connect(server.addresses[0]) as session:
        (client,) = server.host.clients
        server.disconnect(client.id, "enough")
        with pytest.raises(SessionLost):
            await session.wait_closed()
        await eventually(lambda: seen(server, ClientDisconnected))
        assert seen(server, ClientDisconnected)[0].reason == "enough"
        with pytest.raises(StateError, match="no client"):
            server.disconnect(client.id)


async def test_the_end_of_a_server_reaches_its_clients() -> None:
    async with serving() as server:
        session = await aiospice.connect(server.addresses[0])
        await server.close()
        with pytest.raises(SessionLost):
            await session.wait_closed()
        await session.close()
        await server.wait_closed()
        await server.close()
        assert server.closed
        with pytest.raises(ConnectError):
            await aiospice.connect(
                server.addresses[0] if server.addresses else "spice://localhost:1"
            )


class FailingGuest(KeysGuest):
    async def run(self) -> None:
        while not self.keys:
            await asyncio.sleep(0.01)
        raise RuntimeError("out of paper")

    def mouse_motion(self, dx: int, dy: int, buttons: int) -> None:
        raise ValueError("no mouse here")

    mouse_move = mouse_motion  # type: ignore[assignment]


async def test_a_guest_that_fails_ends_the_server_with_its_error() -> None:
    guest = FailingGuest()
    async with aiospice.serve(guest, port=0) as server:
        async with aiospice.connect(server.addresses[0]) as session:
            await session.keyboard.type("a")
            with pytest.raises(RuntimeError, match="out of paper"):
                await server.wait_closed()
        with pytest.raises(RuntimeError, match="out of paper"):
            async for _ in server.events():
                pass


async def test_a_guest_that_fails_at_an_event_is_logged_and_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    guest = FailingGuest()
    async with serving(guest) as server, aiospice.connect(server.addresses[0]) as session:
        await session.mouse.scroll(1)
        session.mouse._shell.core.channels[3, 0].motion(1, 1)  # type: ignore[attr-defined]
        session.mouse._shell.turn()
        await eventually(lambda: "no mouse here" in caplog.text)
        assert not server.closed


class BlockedGuest(KeysGuest):
    async def run(self) -> None:
        await asyncio.sleep(3600)


async def test_a_guests_life_ends_with_the_server() -> None:
    guest: Guest = BlockedGuest()
    async with serving(guest) as server:
        life = server._life
    assert life is not None
    assert life.cancelled()


# Channels that break the rules


class AgentGuest(KeysGuest):
    def attach(self, host: Host) -> None:
        super().attach(host)
        host.agent().opened = True


#: An agent's message of 1000 bytes, a byte a piece.
AGENT_HEADER = struct.pack("<IIQI", 1, 4, 0, 1000)
AGENT_PIECES = (
    struct.pack("<HII", 106, 4, 1)
    + struct.pack("<HI", 107, len(AGENT_HEADER))
    + AGENT_HEADER
    + struct.pack("<HI", 107, 1).join([b"", *[b"x"] * 40])
)
#: What a client sends: on which channel, and what the log says of it.
BREACHES: dict[str, tuple[tuple[int, int], bytes, str]] = {
    "too long": ((3, 0), b"\x65\0\xff\xff\xff\x7f", r"inputs:0.*2147483647"),
    "cut": ((3, 0), b"\x65\0\1\0\0\0\x1e", r"inputs:0.*KeyDown"),
    "no tokens": ((1, 0), AGENT_PIECES, r"main:0.*without a token"),
    "unasked": ((3, 0), b"\4\0\0\0\0\0", r"inputs:0.*MigrateFlushMark"),
}


@pytest.mark.parametrize(("key", "message", "text"), BREACHES.values(), ids=BREACHES)
async def test_a_channel_that_breaks_the_rules_is_closed_with_a_line_that_says_so(
    key: tuple[int, int],
    message: bytes,
    text: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        serving(AgentGuest(), on_second_client="share") as server,
        aiospice.connect(server.addresses[0]) as other,
        aiospice.connect(server.addresses[0]) as session,
    ):
        shell = session._shell
        transport = shell._wires[shell.core.at[key]].transport
        assert transport is not None
        transport.write(message)
        await eventually(lambda: [e for e in seen(server, ServerChannelClosed) if e.error])
        (line,) = [one.message for one in caplog.records if "was closed" in one.message]
        assert re.match(rf"127\.0\.0\.1:\d+: \w+:0 of client \d+ was closed: .*({text})", line)
        assert not other.closed
        assert len(server.host.clients) == (1 if key == (1, 0) else 2)
