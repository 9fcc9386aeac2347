"""Who gets in and by which way, with spice-gtk as the client."""

from __future__ import annotations

from typing import Any

import pytest
from tests.serve_rig import KeysGuest, eventually, rules, seen, serving

from aiospice.proof.certificates import Certificates, make_certificates
from aiospice.proof.gtkclient import GtkClient
from aiospice.server.events import ClientConnected, ClientDisconnected, ServerChannelOpened

pytestmark = pytest.mark.peers

NAME, PASSWORD = "anna", "s3cret"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def port(server: Any, scheme: str) -> int:
    """The port of the first listener of that kind."""
    address = next(one for one in server.addresses if one.startswith(f"{scheme}://"))
    return int(address.rpartition(":")[2])


def files(certificates: Certificates) -> dict[str, Any]:
    return {"certificate": certificates.certificate_file, "key": certificates.key_file}


async def types_a_key(gtk: GtkClient, guest: KeysGuest) -> None:
    """Wait for the inputs channel, and see that a key arrives."""
    await gtk.opened("inputs:0")
    before = len(guest.keys)
    await gtk.do("key", code=0x1E, pressed=True)
    await eventually(lambda: guest.keys[before:] == [0x1E])


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"])
async def test_users_come_by_sasl(mechanism: str, certificates: Certificates) -> None:
    guest = KeysGuest()
    options = {"users": {NAME: PASSWORD}, "mechanisms": (mechanism,), **files(certificates)}
    async with serving(guest, tls_port=0, **options) as server:
        way: dict[str, Any] = {
            "tls_port": port(server, "spice+tls"),
            "ca_file": certificates.ca_file,
            "username": NAME,
        }
        async with GtkClient("localhost", password=PASSWORD, **way) as gtk:
            await types_a_key(gtk, guest)
        assert [event.user for event in seen(server, ClientConnected)] == [NAME]
        assert rules(server) == []
        async with GtkClient("localhost", password="wrong", **way) as gtk:
            said = await gtk.wait("channel-event", channel="main:0", what="error-auth")
            assert said["error"]
        await eventually(lambda: rules(server))
        assert set(rules(server)) <= {"sasl", "left", "connection"}


async def test_channels_for_tls_only_are_opened_by_the_tls_port(
    certificates: Certificates,
) -> None:
    guest = KeysGuest()
    async with serving(
        guest,
        listen=["127.0.0.1:0", "spice+tls://127.0.0.1:0"],
        secure_channels="inputs",
        **files(certificates),
    ) as server:
        async with GtkClient(
            "127.0.0.1",
            port=port(server, "spice"),
            tls_port=port(server, "spice+tls"),
            ca_file=certificates.ca_file,
        ) as gtk:
            await types_a_key(gtk, guest)
        assert rules(server) == ["tls-only"]
        opened = {event.channel for event in seen(server, ServerChannelOpened)}
        assert {"main:0", "inputs:0"} <= opened


async def test_a_password_for_one_session_lets_its_channels_in() -> None:
    guest = KeysGuest()
    async with serving(guest, password="x", password_once=True) as server:
        async with GtkClient("127.0.0.1", port=port(server, "spice"), password="x") as gtk:
            await types_a_key(gtk, guest)
        async with GtkClient("127.0.0.1", port=port(server, "spice"), password="x") as gtk:
            await gtk.wait("channel-event", channel="main:0", what="error-auth")
        await eventually(lambda: rules(server) == ["ticket-used"])


async def test_another_client_takes_over() -> None:
    guest = KeysGuest()
    async with serving(guest) as server:
        way: dict[str, Any] = {"port": port(server, "spice")}
        async with GtkClient("127.0.0.1", **way) as first:
            await types_a_key(first, guest)
            async with GtkClient("127.0.0.1", **way) as second:
                await first.wait("channel-event", channel="main:0", what="closed")
                await types_a_key(second, guest)
        reasons = [event.reason for event in seen(server, ClientDisconnected)]
        assert reasons[0] == "another client took over"


async def test_clients_share_a_guest() -> None:
    guest = KeysGuest()
    async with serving(guest, on_second_client="share") as server:
        way: dict[str, Any] = {"port": port(server, "spice")}
        async with GtkClient("127.0.0.1", **way) as first, GtkClient("127.0.0.1", **way) as second:
            await types_a_key(first, guest)
            await types_a_key(second, guest)
            await types_a_key(first, guest)
