"""The client's link against bytes: a real QEMU's, other protocols' and arbitrary ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.test_link_pairs import OneKey, Pair, bytewise, link, make_client, make_server

from aiospice.errors import (
    AiospiceError,
    DecodeError,
    InvalidMagic,
    LinkFailed,
    LocalError,
    NeedSecured,
    PermissionDenied,
    RemoteProtocolError,
    SaslError,
    VersionMismatch,
)
from aiospice.link.client import LinkClient, LinkPhase
from aiospice.link.sasl import SaslServer
from aiospice.link.server import LinkServer, ServerLinkPhase
from aiospice.wire import caps
from aiospice.wire.link import (
    LINK_LIMIT,
    MAGIC_BYTES,
    U32,
    LinkHeader,
    LinkMessage,
    LinkReply,
    frame,
)

# QEMU 7.2 with spice-server 0.15.1 on loopback. A wrong ticket, then a plain link to a machine
# that wants TLS for the main channel.
QEMU_WRONG_TICKET = bytes.fromhex(
    "524544510200000002000000ba0000000000000030819f300d06092a864886f70d010101050003818d003081890281"
    "8100c193e67c74f209030c69d0557d0e8e1c4687dd59303b232a1e3a900740c29cd2cb7e4047ec84d321390b62f201"
    "c3d9ade0a6219ce0c4bfe1530cdd1e1db2947a568ac1813ed9a9bf20a8a29bcff77b95be495815b8184edd603c55e3"
    "186fd8a1429313ef700dd5a861575e7845a5bd9d3f50e749674d307183b8a25a3942e39702030100010100000001"
    "000000b20000000b0000000f00000007000000"
)
QEMU_NEED_SECURED = bytes.fromhex("524544510200000002000000b200000005000000") + bytes(174)
# With SASL and without TLS it makes no key and offers no mechanism.
QEMU_SASL_PLAIN = (
    bytes.fromhex("524544510200000002000000ba00000000000000")
    + bytes(162)
    + bytes.fromhex("0100000001000000b20000000d0000000f00000002000000")
    + b",,"
)


def started(**options: object) -> LinkClient:
    client = make_client(**options)
    client.start()
    assert client.take()
    return client


def failed(client: LinkClient) -> AiospiceError:
    assert client.phase is LinkPhase.FAILED
    assert client.error is not None
    assert client.name in str(client.error)
    return client.error


class TestRealBytes:
    @pytest.mark.parametrize(
        ("data", "kind", "word"),
        [
            (QEMU_WRONG_TICKET, PermissionDenied, "wrong or has expired"),
            (QEMU_NEED_SECURED, NeedSecured, "tls-port"),
            (QEMU_SASL_PLAIN, SaslError, "TLS port"),
        ],
    )
    @pytest.mark.parametrize("step", [1, 5, 1000])
    def test_qemus_refusals_are_told(
        self, data: bytes, kind: type[AiospiceError], word: str, step: int
    ) -> None:
        client = started(password="secret")
        for at in range(0, len(data), step):
            client.receive(data[at : at + step])
        error = failed(client)
        assert type(error) is kind
        assert word in str(error)

    def test_qemus_capabilities(self) -> None:
        client = started(hold=True)
        client.receive(QEMU_WRONG_TICKET[:-4])
        assert client.phase is LinkPhase.HELD
        assert caps.cap_names(client.server_common_caps) == (
            "PROTOCOL_AUTH_SELECTION",
            "AUTH_SPICE",
            "MINI_HEADER",
        )
        assert caps.bits(client.server_channel_caps) == {0, 1, 2, 3}


class TestForeignServers:
    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"HTTP/1.1 400 Bad Request\r\nServer: x\x1b[31m", ("web", '"HTTP/1.1 400')),
            (b"RFB 003.008\n", ("VNC", '"RFB 003.008\\n"')),
            (b"SSH-2.0-OpenSSH_9.2\r\n", ("SSH", "OpenSSH")),
            (b"\x15\x03\x03\x00\x02\x02\x16", ("TLS", "tls-port", "\\x15\\x03")),
            (b"220 mail\r\n", ("220 mail\\r\\n",)),
            (b"RFB 003.008\nREDQ" * 40_000, ("VNC",)),
        ],
    )
    def test_other_protocols_are_named(self, data: bytes, words: tuple[str, ...]) -> None:
        client = started()
        client.receive(data)
        error = failed(client)
        assert isinstance(error, InvalidMagic)
        text = str(error)
        assert all(word in text for word in words)
        assert text.isprintable()
        assert len(text) < 400

    def test_a_few_bytes_and_the_end_are_shown_too(self) -> None:
        client = started()
        client.receive(b"no")
        client.receive_eof()
        assert '"no"' in str(failed(client))

    def test_silence_and_the_end_hint_at_tls(self) -> None:
        client = started()
        client.receive_eof()
        error = failed(client)
        assert isinstance(error, LinkFailed)
        assert "TLS" in str(error)


class TestBadReplies:
    def test_another_version(self) -> None:
        client = started()
        client.receive(LinkHeader(major_version=3, size=178).body())
        assert isinstance(failed(client), VersionMismatch)

    @pytest.mark.parametrize("size", [LINK_LIMIT + 1, 0xFFFFFFFF])
    def test_a_reply_that_is_too_long_is_not_waited_for(self, size: int) -> None:
        client = started()
        client.receive(LinkHeader(size=size).body())
        error = failed(client)
        assert isinstance(error, DecodeError)
        assert (error.message, error.field, error.offset) == ("LinkHeader", "size", 12)

    def test_a_reply_that_is_too_short(self) -> None:
        client = started()
        client.receive(LinkHeader(size=100).body() + bytes(100))
        error = failed(client)
        assert isinstance(error, DecodeError)
        assert error.message == "LinkReply"

    @pytest.mark.parametrize(
        ("common", "channel", "offset", "field"),
        [
            (1025, 0, 178, "num_common_caps"),
            (0, 0xFFFFFFFF, 178, "num_channel_caps"),
            (1, 1, 177, "common_caps"),
            (1, 1, 187, "common_caps"),
            (1, 1, 0xFFFFFFFF, "common_caps"),
            (1, 1, 182, "channel_caps"),
            (3, 0, 178, "common_caps"),
        ],
    )
    def test_capabilities_outside_the_reply(
        self, common: int, channel: int, offset: int, field: str
    ) -> None:
        numbers = b"".join(U32.pack(number) for number in (common, channel, offset))
        client = started()
        client.receive(LinkHeader(size=186).body() + bytes(166) + numbers + bytes(8))
        error = failed(client)
        assert isinstance(error, DecodeError)
        assert error.field == field

    def test_capabilities_may_stand_anywhere_behind(self) -> None:
        body = bytes(166) + b"".join(U32.pack(number) for number in (1, 1, 180)) + b"\0\0"
        reply = LinkReply.parse(body + U32.pack(5) + U32.pack(6) + b"!!")
        assert (reply.common_caps, reply.channel_caps) == ((5,), (6,))

    def test_a_key_that_is_none(self) -> None:
        client = started()
        client.receive(frame(LinkReply(pub_key=b"\xff" * 162, common_caps=(11,))))
        assert isinstance(failed(client), RemoteProtocolError)

    def test_too_many_capabilities_are_the_callers_fault(self) -> None:
        with pytest.raises(LocalError):
            make_client(channel_caps=(33_000,)).start()

    def test_a_second_reply_without_error(self) -> None:
        reply = frame(LinkReply(pub_key=bytes(162), common_caps=(13,)))
        client = started()
        client.receive(reply + reply)
        assert "second link reply" in str(failed(client))


def in_sasl(*parts: bytes, secure: bool = False) -> LinkClient:
    """A client in the middle of an exchange; ``parts`` are what the server sends."""
    client = started(username="ann", password="secret", secure=secure)
    client.receive(frame(LinkReply(pub_key=bytes(162), common_caps=(13,))))
    assert client.phase is LinkPhase.AUTHENTICATING
    for part in parts:
        client.receive(part)
    return client


def block(data: bytes) -> bytes:
    return U32.pack(len(data)) + data


SCRAM = block(b",SCRAM-SHA-256,")


def server_first(rounds: int, salt: str = "MDEyMzQ1Njc4OWFiY2RlZg==") -> bytes:
    nonce = OneKeyNonce.hex()
    return block(f"r={nonce}more,s={salt},i={rounds}\0".encode()) + b"\0"


OneKeyNonce = b"n" * 18


class Predictable(OneKey):
    __slots__ = ()

    def random_bytes(self, count: int) -> bytes:
        return b"n" * count


class TestBadSasl:
    @pytest.mark.parametrize(
        ("parts", "kind", "word"),
        [
            ((U32.pack(5000),), RemoteProtocolError, "limit"),
            ((block(b",GSSAPI,\x1b[1m"),), SaslError, "GSSAPI"),
            ((block(b",ANONYMOUS,"),), SaslError, "anonymous"),
            ((SCRAM, U32.pack(70_000)), RemoteProtocolError, "limit"),
            ((SCRAM, block(b"\xff\xff\0") + b"\0"), RemoteProtocolError, "UTF-8"),
            ((SCRAM, block(b"nonsense\0") + b"\0"), SaslError, "failed"),
            ((SCRAM, block(b"e=other-error\0") + b"\0"), SaslError, "failed"),
            ((SCRAM, block(b"r=other,s=QUJD,i=4096\0") + b"\0"), SaslError, "failed"),
            ((SCRAM, block(b"") + b"\1" + bytes(4)), SaslError, "not proven"),
            ((SCRAM, block(b"v=AAAA\0") + b"\1" + bytes(4)), SaslError, "not proven"),
            ((SCRAM, (block(b"") + b"\0") * 10), SaslError, "steps"),
            ((SCRAM, block(b"") + b"\1" + U32.pack(1) + block(b"go\x1b\0")), SaslError, "go?"),
            ((SCRAM, block(b"") + b"\1" + U32.pack(1) + U32.pack(1 << 30)), SaslError, ""),
            ((SCRAM, frame(LinkReply(error=3, pub_key=bytes(162)))), AiospiceError, "invalid data"),
        ],
    )
    def test_nonsense_ends_the_exchange(
        self, parts: tuple[bytes, ...], kind: type[AiospiceError], word: str
    ) -> None:
        client = in_sasl(*parts)
        if kind is SaslError and not word:
            kind = RemoteProtocolError
        error = failed(client)
        assert isinstance(error, kind)
        assert word in str(error)
        assert "\x1b" not in str(error)

    @pytest.mark.parametrize(
        ("rounds", "word"), [(4096, ""), (4095, "failed"), (1_000_001, "rounds")]
    )
    def test_the_server_chooses_rounds_within_limits(self, rounds: int, word: str) -> None:
        client = make_client(username="ann", password="secret", crypto=Predictable())
        client.start()
        client.receive(frame(LinkReply(pub_key=bytes(162), common_caps=(13,))))
        client.receive(SCRAM + server_first(rounds))
        if word:
            assert word in str(failed(client))
            return
        assert client.phase is LinkPhase.AUTHENTICATING
        client.receive(block(b"v=AAAA\0") + b"\1" + bytes(8))
        assert "doesn't know the password" in str(failed(client))

    def test_a_server_may_complete_in_a_step_of_its_own(self) -> None:
        client = make_client(username="ann", password="pencil")
        server = SaslServer({"ann": "pencil"}, False, OneKey())
        client.start()
        client.receive(frame(LinkReply(pub_key=bytes(162), common_caps=(13,))))
        client.take()
        client.receive(server.greeting())
        for _ in range(2):
            buffer = bytearray(client.take())
            answer = b""
            while buffer:
                answer += server.advance(buffer)
            # All but the last step, with "complete" taken back.
            client.receive(answer if not server.done else answer[:-5] + b"\0")
        assert client.take() == U32.pack(0)
        client.receive(U32.pack(0) + b"\1" + bytes(8))
        assert client.phase is LinkPhase.DONE


class TestCapabilities:
    def test_words_hold_bits(self) -> None:
        assert caps.pack(()) == ()
        assert caps.pack((0, 3)) == (9,)
        assert caps.pack((64,)) == (0, 0, 1)
        assert caps.bits((9, 1)) == {0, 3, 32}
        assert not caps.has((9,), 32)
        assert caps.cap_names((1 << 17,), 99) == ("bit 17",)

    @given(st.frozensets(st.integers(0, 200)))
    def test_packing_keeps_the_bits(self, numbers: frozenset[int]) -> None:
        assert caps.bits(caps.pack(numbers)) == numbers

    @given(st.lists(st.integers(0, 0xFFFFFFFF), max_size=9).map(tuple))
    def test_messages_keep_the_words(self, words: tuple[int, ...]) -> None:
        message = LinkMessage(
            connection_id=7, channel_type=2, channel_id=1, common_caps=words, channel_caps=words
        )
        assert LinkMessage.parse(message.body()) == message


#: Beginnings that lead arbitrary bytes deep into either end.
_TO_CLIENT = (
    b"",
    MAGIC_BYTES,
    QEMU_WRONG_TICKET[:-4],
    QEMU_SASL_PLAIN[:-6],
    QEMU_SASL_PLAIN[:-6] + SCRAM,
    QEMU_SASL_PLAIN[:-6] + SCRAM + U32.pack(40) + b"r=6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e6e",
    QEMU_SASL_PLAIN[:-6] + SCRAM + U32.pack(0) + b"\1" + U32.pack(1),
)
_ASK = frame(LinkMessage(connection_id=0, channel_type=1, channel_id=0, common_caps=(15,)))
_TO_SERVER = (
    b"",
    MAGIC_BYTES,
    _ASK,
    _ASK + U32.pack(1),
    _ASK + U32.pack(2) + block(b"SCRAM-SHA-256"),
    _ASK + U32.pack(2) + block(b"SCRAM-SHA-256") + block(b"n,,n=ann,r=abc\0"),
    _ASK + U32.pack(2) + block(b"PLAIN"),
)
_PARTS = st.lists(st.binary(max_size=60) | st.binary(max_size=8).map(block), max_size=6)


class TestArbitraryBytes:
    @given(st.sampled_from(_TO_CLIENT), _PARTS, st.booleans())
    def test_the_client_never_raises(self, start: bytes, parts: list[bytes], secure: bool) -> None:
        client = started(username="ann", password="secret", secure=secure, crypto=Predictable())
        client.receive(start)
        for part in parts:
            client.receive(part)
            assert len(client._in) < 128 << 10
        assert (client.phase is LinkPhase.FAILED) is (client.error is not None)
        client.receive_eof()
        assert client.finished

    @given(st.sampled_from(_TO_SERVER), _PARTS, st.booleans())
    def test_the_server_never_raises(self, start: bytes, parts: list[bytes], sasl: bool) -> None:
        users = {"ann": "pencil"} if sasl else None
        server = make_server(password="secret", users=users, secure=True)
        for part in [start, *parts]:
            server.receive(part)
            if server.phase is ServerLinkPhase.REQUESTED:
                server.accept()
            assert len(server._in) < 128 << 10
        assert (server.phase is ServerLinkPhase.FAILED) is (server.error is not None)
        assert server.phase is not ServerLinkPhase.DONE
        server.receive_eof()
        assert server.finished

    @given(st.integers(0, 400), st.integers(1, 255))
    def test_one_wrong_byte_of_a_reply_is_no_crash(self, at: int, change: int) -> None:
        data = bytearray(QEMU_WRONG_TICKET)
        data[at % len(data)] ^= change
        client = started(password="secret")
        for part in bytewise(bytes(data)):
            client.receive(part)
        client.receive_eof()
        assert client.finished


class TestServerAnswers:
    """What a client that isn't one of ours is told."""

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (b"GET / HTTP/1.1\r\n", 2),
            (LinkHeader(major_version=1, size=18).body(), 4),
            (LinkHeader(size=LINK_LIMIT + 1).body(), 3),
            (LinkHeader(size=17).body() + bytes(17), 3),
            (_ASK[:-8] + U32.pack(19) + _ASK[-4:], 3),
            (_ASK[:-12] + U32.pack(2) + _ASK[-8:], 3),
        ],
    )
    def test_bad_messages_are_answered_by_a_code(self, data: bytes, code: int) -> None:
        server = make_server()
        for part in bytewise(data):
            server.receive(part)
        assert server.phase is ServerLinkPhase.FAILED
        answer = server.take()
        assert LinkHeader.parse(answer[:16]) == LinkHeader(size=178)
        assert LinkReply.parse(answer[16:]).error == code

    def test_version_zero_is_told_nothing(self) -> None:
        server = make_server()
        server.receive(LinkHeader(major_version=0, size=18).body())
        assert isinstance(server.error, VersionMismatch)
        assert server.take() == b""

    def test_a_mechanism_that_was_not_offered_is_invalid_data(self) -> None:
        server = self.in_sasl(block(b"GSSAPI"))
        assert "wasn't offered" in str(server.error)
        assert LinkReply.parse(server.take()[-178:]).error == 3

    @pytest.mark.parametrize("data", [U32.pack(101), block(b"PLAIN") + U32.pack(1 << 20)])
    def test_lengths_of_sasl_are_bounded(self, data: bytes) -> None:
        assert "limit" in str(self.in_sasl(data).error)

    @pytest.mark.parametrize("data", [b"", b"\0ann", b"ben\0ann\0x", b"\0\xff\0x", b"\0ann\0"])
    def test_plain_that_is_none_is_denied(self, data: bytes) -> None:
        server = self.in_sasl(block(b"PLAIN") + block(data + b"\0"))
        assert isinstance(server.error, PermissionDenied)

    @pytest.mark.parametrize(
        "first",
        [b"", b"n,,", b"n,,n=ann", b"p=tls-unique,,n=ann,r=abc", b"n,a=ben,n=ann,r=abc"]
        + [b"n,,m=x,n=ann,r=abc", b"n,,n=eve,r=abc", b"n,,r=abc,n=ann"],
    )
    def test_scram_that_cannot_be_is_denied(self, first: bytes) -> None:
        server = self.in_sasl(block(b"SCRAM-SHA-256") + block(first + b"\0"))
        assert isinstance(server.error, PermissionDenied)
        assert server.username == ""

    @pytest.mark.parametrize(
        "final", [b"", b"c=biws,r=abc,p=AAAA", b"c=biws,r=abc,p=\xc3\xa4", b"c=,p=" + b"A" * 43]
    )
    def test_a_final_message_without_proof_is_denied(self, final: bytes) -> None:
        server = self.in_sasl(block(b"SCRAM-SHA-256") + block(b"n,a=ann,n=ann,r=abc\0"))
        assert server.error is None
        server.receive(block(final + b"\0"))
        assert isinstance(server.error, PermissionDenied)

    @staticmethod
    def in_sasl(data: bytes) -> LinkServer:
        server = make_server(users={"ann": "pencil"}, secure=True)
        server.receive(_ASK)
        server.accept()
        server.receive(U32.pack(2) + data)
        return server


def test_a_client_that_sends_rubbish_for_a_ticket_is_denied() -> None:
    client, server = make_client(), make_server(password="secret")
    pair: Pair = link(client, server, answer=lambda s: s.receive(b""))
    pair.server.accept()
    pair.server.receive(U32.pack(1) + bytes(128))
    assert isinstance(pair.server.error, PermissionDenied)
    assert pair.server.take()[-4:] == U32.pack(7)
