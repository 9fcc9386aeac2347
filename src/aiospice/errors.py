"""The error tree, split by blame.

::

    AiospiceError
    ├── LocalError                the caller asked for something that can't be done
    │   ├── AddressError          an address or connection file that can't be understood
    │   ├── StateError            right call, wrong moment (no such channel, session closed)
    │   └── MissingProgram        a program, extra or library that is needed isn't there
    ├── ConnectError              no way to the server (name, route, refused, proxy, TLS)
    │   └── CertificateError      TLS is up, but the certificate isn't the expected one
    ├── LinkError                 the server answered the link with an error (one class a code)
    │   ├── LinkFailed  InvalidMagic  InvalidData  VersionMismatch  NeedSecured  NeedUnsecured
    │   ├── PermissionDenied  BadConnectionId  ChannelNotAvailable
    │   └── SaslError             no common mechanism, or the exchange was refused
    ├── RemoteProtocolError       the peer broke the protocol
    │   └── DecodeError           ... with bytes that can't be read (field, offset)
    ├── SessionLost               a session that was up has ended and wasn't asked to
    │   └── MigrationFailed       ... because a hand-over could not be completed
    ├── TransferFailed            the guest did not get a file
    └── SpiceTimeout              a step took longer than its limit

Every error carries ``exit_status``, which the command line returns (see ``docs``).
"""

from __future__ import annotations

__all__ = [
    "AddressError",
    "AiospiceError",
    "BadConnectionId",
    "CertificateError",
    "ChannelNotAvailable",
    "ConnectError",
    "DecodeError",
    "InvalidData",
    "InvalidMagic",
    "LinkError",
    "LinkFailed",
    "LocalError",
    "MigrationFailed",
    "MissingProgram",
    "NeedSecured",
    "NeedUnsecured",
    "PermissionDenied",
    "RemoteProtocolError",
    "SaslError",
    "SessionLost",
    "SpiceTimeout",
    "StateError",
    "TransferFailed",
    "VersionMismatch",
    "link_error",
]


class AiospiceError(Exception):
    """Base of all errors of this package."""

    #: What the command line exits with.
    exit_status = 1


class LocalError(AiospiceError):
    """The caller asked for something that can't be done."""

    exit_status = 2


class AddressError(LocalError, ValueError):
    """An address, option or connection file that can't be understood."""


class StateError(LocalError):
    """The call is right, the moment isn't: no such channel, session closed, nothing to cancel."""

    exit_status = 1


class MissingProgram(LocalError):
    """A program or an extra is needed and not installed; the text names what provides it."""

    exit_status = 6


class ConnectError(AiospiceError):
    """The server can't be reached; the text names the address and what to look at."""

    exit_status = 3


class CertificateError(ConnectError):
    """The server's certificate isn't signed by the given CA, or isn't for the expected subject."""

    exit_status = 4


class RemoteProtocolError(AiospiceError):
    """The peer broke the protocol.

    ``where`` names the connection (``display:0 of 127.0.0.1:5900``), ``message`` the message,
    both empty when not known (yet).
    """

    exit_status = 5

    def __init__(self, text: str, *, message: str = "", where: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.message = message
        self.where = where

    def __str__(self) -> str:
        place = ", ".join(part for part in (self.where, self.message) if part)
        return f"{place}: {self.text}" if place else self.text

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.text,), self.__dict__)


class DecodeError(RemoteProtocolError):
    """Bytes from the peer that can't be read as what they claim to be.

    ``field`` is the declared field, ``offset`` the position in bytes from the start of the body.
    """

    def __init__(
        self, text: str, *, field: str = "", offset: int = -1, message: str = "", where: str = ""
    ) -> None:
        super().__init__(text, message=message, where=where)
        self.field = field
        self.offset = offset

    def __str__(self) -> str:
        parts = [self.where, self.message]
        if self.field:
            parts.append(f"field {self.field}")
        if self.offset >= 0:
            parts.append(f"offset {self.offset}")
        place = ", ".join(part for part in parts if part)
        return f"{place}: {self.text}" if place else self.text


class LinkError(AiospiceError):
    """The server answered the link with an error code (``SPICE_LINK_ERR_*``)."""

    exit_status = 3
    #: Number on the wire, 0 when the class stands for no code of the wire.
    code = 0


class LinkFailed(LinkError):
    """``SPICE_LINK_ERR_ERROR`` (1), or a code that isn't known."""

    code = 1


class InvalidMagic(LinkError):
    """``SPICE_LINK_ERR_INVALID_MAGIC`` (2): one of the two sides doesn't speak SPICE."""

    code = 2
    exit_status = 5


class InvalidData(LinkError):
    """``SPICE_LINK_ERR_INVALID_DATA`` (3): the server could not read the link message."""

    code = 3
    exit_status = 5


class VersionMismatch(LinkError):
    """``SPICE_LINK_ERR_VERSION_MISMATCH`` (4): another major version of the protocol."""

    code = 4
    exit_status = 5


class NeedSecured(LinkError):
    """``SPICE_LINK_ERR_NEED_SECURED`` (5): the server wants TLS for this channel."""

    code = 5
    exit_status = 4


class NeedUnsecured(LinkError):
    """``SPICE_LINK_ERR_NEED_UNSECURED`` (6): the server doesn't take TLS for this channel."""

    code = 6
    exit_status = 4


class PermissionDenied(LinkError):
    """``SPICE_LINK_ERR_PERMISSION_DENIED`` (7): wrong, missing or expired password."""

    code = 7
    exit_status = 4


class BadConnectionId(LinkError):
    """``SPICE_LINK_ERR_BAD_CONNECTION_ID`` (8): the server knows no session of that number."""

    code = 8


class ChannelNotAvailable(LinkError):
    """``SPICE_LINK_ERR_CHANNEL_NOT_AVAILABLE`` (9): the server has no such channel."""

    code = 9


class SaslError(LinkError):
    """No SASL mechanism in common, or the exchange was refused."""

    exit_status = 4


class SessionLost(AiospiceError):
    """A session that was up has ended without being asked to."""

    exit_status = 1


class MigrationFailed(SessionLost):
    """A hand-over could neither be completed nor undone."""


class TransferFailed(AiospiceError):
    """A file did not get into the guest: refused, cancelled, no space, or the agent is gone."""

    exit_status = 1


class SpiceTimeout(AiospiceError, TimeoutError):
    """A step took longer than its limit; the text names the step and the limit."""

    exit_status = 124


_BY_CODE = {
    cls.code: cls
    for cls in (
        LinkFailed,
        InvalidMagic,
        InvalidData,
        VersionMismatch,
        NeedSecured,
        NeedUnsecured,
        PermissionDenied,
        BadConnectionId,
        ChannelNotAvailable,
    )
}


def link_error(code: int, text: str) -> LinkError:
    """Make the error of a link result ``code`` (1 to 9; anything else is a `LinkFailed`)."""
    return _BY_CODE.get(code, LinkFailed)(text)
