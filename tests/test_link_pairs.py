"""Both ends of the link against each other: whole, byte by byte, pickled at every step."""

from __future__ import annotations

import pickle
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from aiospice.aio.crypto import Crypto
from aiospice.errors import (
    AiospiceError,
    BadConnectionId,
    ChannelNotAvailable,
    InvalidData,
    LinkError,
    LocalError,
    PermissionDenied,
    SaslError,
    StateError,
    VersionMismatch,
    link_error,
)
from aiospice.link.client import LinkClient, LinkPhase
from aiospice.link.sasl import make_scram_keys
from aiospice.link.server import LinkRequested, LinkServer, ServerLinkPhase
from aiospice.wire import caps
from aiospice.wire.caps import CommonCap, MainCap

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "Wei\u00dfe Rose 7"
USERS = {"ann": SECRET, "ben": "other"}
TICKETS_ONLY = (CommonCap.AUTH_SPICE, CommonCap.MINI_HEADER)


@cache
def ticket_key() -> bytes:
    return Crypto().make_ticket_key()


class OneKey(Crypto):
    """The real thing, but with one key for all links: making one takes long."""

    __slots__ = ()

    def make_ticket_key(self) -> bytes:
        return ticket_key()


def make_client(**options: Any) -> LinkClient:
    arguments: dict[str, Any] = {"connection_id": 0, "channel_type": 1, "channel_id": 0}
    return LinkClient(**{**arguments, "crypto": OneKey(), **options})


def make_server(**options: Any) -> LinkServer:
    return LinkServer(**{"crypto": OneKey(), **options})


def plain_only(users: Any) -> LinkServer:
    return make_server(users=users, secure=True, mechanisms=("PLAIN",))


def whole(data: bytes) -> list[bytes]:
    return [data]


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def accept(server: LinkServer) -> None:
    server.accept()


class Pair:
    """A client and a server with a wire between them that cuts the bytes as told."""

    def __init__(
        self,
        client: LinkClient,
        server: LinkServer,
        *,
        cut: Callable[[bytes], list[bytes]] = whole,
        frozen: bool = False,
        answer: Callable[[LinkServer], None] = accept,
    ) -> None:
        self.client = client
        self.server = server
        self.cut = cut
        self.frozen = frozen
        self.answer = answer

    def thaw(self) -> None:
        if self.frozen:
            self.client = pickle.loads(pickle.dumps(self.client))
            self.server = pickle.loads(pickle.dumps(self.server))

    def run(self) -> Pair:
        """Until neither has anything to say; a failed server closes the connection."""
        for _ in range(20):
            self.thaw()
            out = self.client.take()
            for part in self.cut(out):
                self.server.receive(part)
                self.thaw()
            if self.server.phase is ServerLinkPhase.REQUESTED:
                self.answer(self.server)
            back = self.server.take()
            for part in self.cut(back):
                self.client.receive(part)
                self.thaw()
            if not out and not back:
                break
        if self.server.phase is ServerLinkPhase.FAILED:
            self.client.receive_eof()
        return self


def link(client: LinkClient, server: LinkServer, **options: Any) -> Pair:
    client.start()
    return Pair(client, server, **options).run()


def both_done(pair: Pair) -> bool:
    assert pair.client.error is None
    assert pair.server.error is None
    return pair.client.phase is LinkPhase.DONE and pair.server.phase is ServerLinkPhase.DONE


def client_error(pair: Pair) -> AiospiceError:
    assert pair.client.phase is LinkPhase.FAILED
    error = pair.client.error
    assert error is not None
    assert SECRET not in str(error)
    return error


CUTS = pytest.mark.parametrize("cut", [whole, bytewise])
FROZEN = pytest.mark.parametrize("frozen", [False, True], ids=["live", "frozen"])


class TestTicket:
    @CUTS
    @FROZEN
    def test_the_right_password_opens_the_channel(
        self, cut: Callable[[bytes], list[bytes]], frozen: bool
    ) -> None:
        client = make_client(password=SECRET, channel_caps=(MainCap.SEAMLESS_MIGRATE,))
        server = make_server(password=SECRET)

        def answer(server: LinkServer) -> None:
            server.accept(channel_caps=(MainCap.NAME_AND_UUID, 37))

        pair = link(client, server, cut=cut, frozen=frozen, answer=answer)
        assert both_done(pair)
        assert pair.server.request == LinkRequested(0, 1, 0, (15,), (8,))
        assert pair.client.server_common_caps == (11,)
        assert pair.client.server_channel_caps == (2, 32)
        assert pair.client.mini_header
        assert pair.server.mini_header

    def test_without_ticketing_any_password_opens(self) -> None:
        assert both_done(link(make_client(password="anything"), make_server(password=None)))

    @pytest.mark.parametrize("given", ["wrong", "", SECRET + "x", SECRET[:-1]])
    @pytest.mark.parametrize("expected", [SECRET, ""])
    def test_a_wrong_password_is_denied(self, given: str, expected: str) -> None:
        pair = link(make_client(password=given), make_server(password=expected))
        error = client_error(pair)
        assert isinstance(error, PermissionDenied)
        assert isinstance(pair.server.error, PermissionDenied)
        assert ("none was given" in str(error)) is (given == "")

    def test_the_expected_password_may_depend_on_the_request(self) -> None:
        def answer(server: LinkServer) -> None:
            server.expect(f"ticket of {server.request.connection_id}")  # type: ignore[union-attr]
            server.accept(ticket_key=ticket_key())

        client = make_client(password="ticket of 7", connection_id=7)
        assert both_done(link(client, make_server(password=""), answer=answer))

    @pytest.mark.parametrize("who", ["client", "server"])
    def test_without_selection_on_one_side_the_ticket_comes_at_once(self, who: str) -> None:
        client_caps = TICKETS_ONLY if who == "client" else caps.ALL_COMMON
        client = make_client(password=SECRET, common_caps=client_caps)

        def answer(server: LinkServer) -> None:
            server.accept(TICKETS_ONLY if who == "server" else None)

        assert both_done(link(client, make_server(password=SECRET), answer=answer))

    def test_the_short_header_needs_both(self) -> None:
        withheld = link(make_client(mini_header=False), make_server())
        assert both_done(withheld)
        assert not withheld.client.mini_header
        assert not withheld.server.mini_header
        long = link(make_client(), make_server(), answer=lambda s: s.accept((0, 1)))
        assert both_done(long)
        assert not long.client.mini_header

    def test_a_password_that_spice_cannot_carry_is_the_callers_fault(self) -> None:
        pair = link(make_client(password="x" * 61), make_server())
        assert isinstance(client_error(pair), LocalError)
        assert "main:0" in str(pair.client.error)


class TestHold:
    @FROZEN
    def test_the_link_message_goes_out_and_the_ticket_waits(self, frozen: bool) -> None:
        pair = link(make_client(hold=True, password=SECRET), make_server(password=SECRET))
        assert pair.client.phase is LinkPhase.HELD
        assert pair.server.phase is ServerLinkPhase.MECHANISM_AWAITED
        assert pair.client.server_common_caps
        pair.frozen = frozen
        pair.thaw()
        pair.client.proceed()
        assert both_done(pair.run())

    def test_proceeding_early_is_as_good_as_no_hold(self) -> None:
        client = make_client(hold=True)
        client.start()
        client.proceed()
        assert both_done(Pair(client, make_server()).run())

    def test_proceeding_twice_or_after_the_end_does_nothing(self) -> None:
        pair = link(make_client(), make_server())
        pair.client.proceed()
        assert both_done(pair)
        assert pair.client.take() == b""

    def test_a_server_that_talks_on_while_held_is_cut_off(self) -> None:
        pair = link(make_client(hold=True), make_server())
        for _ in range(200):
            pair.client.receive(bytes(1000))
        assert "where none belong" in str(client_error(pair))


class TestConfirm:
    @pytest.mark.parametrize("kind", [BadConnectionId, ChannelNotAvailable])
    def test_the_verdict_comes_after_the_ticket(self, kind: type[LinkError]) -> None:
        pair = link(make_client(connection_id=99, channel_type=3), make_server(confirm=True))
        assert pair.server.phase is ServerLinkPhase.AUTHENTICATED
        assert pair.client.phase is LinkPhase.RESULT_AWAITED
        pair.server.finish(kind.code)
        pair.run()
        assert type(client_error(pair)) is kind
        assert type(pair.server.error) is kind

    def test_a_good_verdict_opens_and_keeps_what_came_early(self) -> None:
        pair = link(make_client(), make_server(confirm=True))
        pair.server.receive(b"early")
        pair.server.finish()
        pair.server.receive(b" bird")
        assert both_done(pair.run())
        assert pair.server.trailing == b"early bird"

    def test_calls_at_the_wrong_moment_are_state_errors(self) -> None:
        server = make_server()
        with pytest.raises(StateError):
            server.accept()
        with pytest.raises(StateError):
            server.refuse(1)
        with pytest.raises(StateError):
            server.finish()
        client = make_client()
        client.start()
        with pytest.raises(StateError):
            client.start()


class TestRefusals:
    @pytest.mark.parametrize("code", [*range(1, 10), 10, 0xFFFFFFFF])
    @CUTS
    def test_each_code_is_its_own_error(
        self, code: int, cut: Callable[[bytes], list[bytes]]
    ) -> None:
        pair = link(make_client(), make_server(), cut=cut, answer=lambda s: s.refuse(code))
        error = client_error(pair)
        assert type(error) is type(link_error(code, ""))
        assert "main:0" in str(error)
        assert pair.server.phase is ServerLinkPhase.FAILED

    def test_need_secured_tells_about_the_tls_port(self) -> None:
        pair = link(make_client(), make_server(), answer=lambda s: s.refuse(5))
        assert "tls-port" in str(client_error(pair))

    def test_tickets_where_sasl_is_wanted_are_a_version_mismatch(self) -> None:
        client = make_client(common_caps=TICKETS_ONLY, password=SECRET)
        pair = link(client, make_server(users=USERS))
        assert isinstance(client_error(pair), VersionMismatch)

    def test_a_mechanism_that_the_server_does_not_take_is_invalid_data(self) -> None:
        # It offers tickets, but wants SASL.
        pair = link(
            make_client(password=SECRET, common_caps=(0, 1, 3)),
            make_server(users=USERS),
            answer=lambda s: s.accept((0, 1)),
        )
        assert isinstance(client_error(pair), InvalidData)

    def test_no_mechanism_at_all(self) -> None:
        pair = link(make_client(), make_server(), answer=lambda s: s.accept((0,)))
        assert isinstance(client_error(pair), SaslError)


class TestSasl:
    @pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-1"])
    @CUTS
    @FROZEN
    def test_scram_opens_the_channel(
        self, mechanism: str, cut: Callable[[bytes], list[bytes]], frozen: bool
    ) -> None:
        keys = make_scram_keys(SECRET, b"0123456789abcdef", mechanism=mechanism)
        server = make_server(users={"ann": keys}, mechanisms=(mechanism,))
        pair = link(make_client(username="ann", password=SECRET), server, cut=cut, frozen=frozen)
        assert both_done(pair)
        assert pair.server.username == "ann"

    @CUTS
    @FROZEN
    def test_plain_opens_the_channel_over_tls(
        self, cut: Callable[[bytes], list[bytes]], frozen: bool
    ) -> None:
        client = make_client(username="ann", password=SECRET, secure=True)
        server = plain_only(USERS)
        pair = link(client, server, cut=cut, frozen=frozen)
        assert both_done(pair)
        assert pair.server.username == "ann"

    def test_plain_against_kept_keys(self) -> None:
        users = {"ann": make_scram_keys(SECRET, b"0123456789abcdef")}
        for password, opens in ((SECRET, True), ("wrong", False)):
            client = make_client(username="ann", password=password, secure=True)
            pair = link(client, plain_only(users))
            assert (pair.client.phase is LinkPhase.DONE) is opens

    def test_plain_is_never_sent_in_the_clear(self) -> None:
        client = make_client(username="ann", password=SECRET)
        pair = link(client, plain_only(USERS))
        assert "TLS only" in str(client_error(pair))

    @pytest.mark.parametrize("mechanisms", [None, ("PLAIN",)])
    @pytest.mark.parametrize(
        ("name", "password"), [("ann", "wrong"), ("eve", SECRET), ("ann", ""), ("ben", SECRET)]
    )
    def test_wrong_names_and_passwords_are_refused(
        self, mechanisms: tuple[str, ...] | None, name: str, password: str
    ) -> None:
        client = make_client(username=name, password=password, secure=True)
        pair = link(client, make_server(users=USERS, secure=True, mechanisms=mechanisms))
        error = client_error(pair)
        assert isinstance(error, SaslError)
        assert error.exit_status == 4
        assert "Authentication failed" in str(error)
        assert isinstance(pair.server.error, PermissionDenied)
        assert not pair.server.username

    def test_anonymous_where_both_want_it(self) -> None:
        server = make_server(users={}, anonymous=True)
        assert both_done(link(make_client(), server))
        assert server.username == ""

    def test_a_name_is_asked_for(self) -> None:
        pair = link(make_client(password=SECRET), make_server(users=USERS))
        assert "user name" in str(client_error(pair))

    def test_a_name_chooses_sasl_where_both_are_offered(self) -> None:
        client = make_client(username="ann", password=SECRET)
        pair = link(client, make_server(users=USERS), answer=lambda s: s.accept((0, 1, 2)))
        assert both_done(pair)
        assert pair.server.username == "ann"

    def test_sasl_can_be_switched_off(self) -> None:
        client = make_client(common_caps=(0, 1, 3), username="ann", password=SECRET)
        pair = link(client, make_server(users=USERS))
        assert "switched off" in str(client_error(pair))

    def test_forbidden_characters_are_the_callers_fault(self) -> None:
        for secure in (False, True):
            client = make_client(username="a\0b", password=SECRET, secure=secure)
            pair = link(client, plain_only(USERS) if secure else make_server(users=USERS))
            assert isinstance(client_error(pair), LocalError)

    def test_weak_keys_are_refused(self) -> None:
        with pytest.raises(LocalError):
            make_scram_keys(SECRET, b"short")
        with pytest.raises(LocalError):
            make_scram_keys(SECRET, b"0123456789abcdef", iterations=100)


class TestSecrets:
    def test_no_repr_shows_a_secret(self) -> None:
        client = make_client(password=SECRET, username="ann", hold=True)
        server = make_server(users={"ann": make_scram_keys(SECRET, b"0123456789abcdef")})
        pair = link(client, server)
        shown = f"{client!r} {server!r} {server._users!r} {client._sasl!r}"
        assert SECRET not in shown
        assert "stored_key" not in shown
        assert pair.client.phase is LinkPhase.HELD

    @pytest.mark.parametrize("users", [None, USERS])
    def test_the_password_is_forgotten_once_used(self, users: dict[str, str] | None) -> None:
        client = make_client(password=SECRET, username="ann" if users else "")
        pair = link(client, make_server(password=SECRET, users=users))
        assert both_done(pair)
        assert SECRET.encode() not in pickle.dumps(pair.client)
        assert SECRET.encode() not in pickle.dumps(pair.server)


class TestEnds:
    def test_the_first_bytes_of_the_channel_are_kept(self) -> None:
        client, server = make_client(), make_server()
        client.start()
        server.receive(client.take())
        server.accept()
        client.receive(server.take())
        server.receive(client.take() + b"from the client")
        client.receive(server.take() + b"from the server")
        client.receive(b", and more")
        assert both_done(Pair(client, server))
        assert client.trailing == b"from the server, and more"
        assert server.trailing == b"from the client"

    def test_an_end_after_the_link_is_the_channels_matter(self) -> None:
        pair = link(make_client(), make_server())
        pair.client.receive_eof()
        pair.server.receive_eof()
        assert both_done(pair)

    @pytest.mark.parametrize("rounds", [0, 1, 2, 3])
    @pytest.mark.parametrize("users", [None, USERS])
    def test_an_end_during_the_link_is_an_error(
        self, rounds: int, users: dict[str, str] | None
    ) -> None:
        client = make_client(username="ann" if users else "", password=SECRET)
        server = make_server(users=users, confirm=True)
        client.start()
        for _ in range(rounds):
            server.receive(client.take())
            if server.phase is ServerLinkPhase.REQUESTED:
                server.accept()
            client.receive(server.take())
        client.receive_eof()
        server.receive_eof()
        for core in (client, server):
            assert core.phase.name == "FAILED"
            assert isinstance(core.error, LinkError)
            assert "closed the connection" in str(core.error)
            core.receive(b"more")
            assert core.take() == b""
