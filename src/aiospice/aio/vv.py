"""Connection files (``.vv``), as oVirt, Proxmox and virt-manager hand them out.

The format is that of remote-viewer(1), section CONNECTION FILE: a GLib key file with a group
``[virt-viewer]``. Used here: ``type`` (must be ``spice``), ``host``, ``port``, ``tls-port``,
``unix-path``, ``username``, ``password``, ``ca`` (PEM with ``\\n`` written out), ``host-subject``,
``tls-ciphers``, ``proxy``, ``secure-channels`` and ``title``. What concerns windows and keys, and
other groups such as ``[ovirt]``, is skipped.

``delete-this-file=1`` removes the file once it was read and understood: that very file, and
nothing that took its place.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from aiospice.client.config import ClientConfig
from aiospice.errors import AddressError

__all__ = ["MAX_FILE_BYTES", "load_vv", "parse_vv"]

#: A file longer than this isn't read; those with a CA have some kilobytes.
MAX_FILE_BYTES = 1 << 20

_GROUP = "virt-viewer"
_ESCAPES = {"s": " ", "n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


class _Entry(NamedTuple):
    line: int
    value: str


class _File(NamedTuple):
    name: str
    entries: dict[str, _Entry]

    def text(self, key: str) -> str:
        entry = self.entries.get(key)
        return _unescape(entry.value) if entry else ""

    def number(self, key: str) -> int:
        """The value as an integer; 0 if the key isn't there."""
        text = self.text(key).strip()
        try:
            return int(text) if text else 0
        except ValueError:
            raise self.bad(key, "must be a whole number, for example 5900") from None

    def flag(self, key: str) -> bool:
        text = self.text(key).strip().lower()
        if text in ("true", "false"):
            return text == "true"
        return self.number(key) != 0

    def port(self, key: str) -> int:
        """A port, 0 if there is none; some writers say -1 for that."""
        port = self.number(key)
        if port > 65535:
            raise self.bad(key, "must be a port from 1 to 65535")
        return max(port, 0)

    def bad(self, key: str, problem: str) -> AddressError:
        entry = self.entries.get(key)
        place = f"{self.name}, line {entry.line}" if entry else self.name
        return AddressError(f"{place}: {key} {problem}")


def parse_vv(text: str, name: str) -> tuple[ClientConfig, bool]:
    """Read the text of a connection file; ``name`` is how errors call it.

    Returns what it says and whether it asks to be deleted. Raises `AddressError` with file, line
    and key, and never with a value that may be secret.
    """
    file = _File(name, _entries(text, name))
    _check_type(file)
    host, unix_path = file.text("host").strip(), file.text("unix-path")
    port, tls_port = file.port("port"), file.port("tls-port")
    if not host and not unix_path:
        raise AddressError(f"{name}: it names no server; a line such as host=127.0.0.1 is missing")
    if host and not port and not tls_port and not unix_path:
        raise AddressError(f"{name}: a line such as port=5900 or tls-port=5901 is missing")
    for key in ("host", "unix-path", "password", "username"):
        if any(c in file.text(key) for c in "\0\r\n"):
            raise file.bad(key, "must be a single line")
    config = ClientConfig(
        host=host.removeprefix("[").removesuffix("]"),
        port=port,
        tls_port=tls_port,
        unix_path=unix_path,
        username=file.text("username"),
        password=file.text("password"),
        ca=_authorities(file),
        host_subject=_subject(file),
        proxy=_proxy(file),
        secure_channels=_names(file.text("secure-channels")),
        tls_ciphers=file.text("tls-ciphers"),
        title=file.text("title"),
    )
    return config, file.flag("delete-this-file")


def _entries(text: str, name: str) -> dict[str, _Entry]:
    """The keys of ``[virt-viewer]``; the last of several equal ones counts, as in GLib."""
    entries: dict[str, _Entry] = {}
    group = None
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = line.removesuffix("\r")
        bare = line.strip()
        if not bare or bare[0] in "#;":
            continue
        if bare[0] == "[":
            if bare[-1] != "]":
                raise AddressError(f"{name}, line {number}: the ] of a group is missing")
            group = bare[1:-1]
            continue
        key, equals, value = line.partition("=")
        if not equals or not key.strip() or group is None:
            raise AddressError(
                f"{name}, line {number}: expected [{_GROUP}] first, then lines such as "
                "host=127.0.0.1; is this a connection file?"
            )
        if group == _GROUP:
            entries[key.strip()] = _Entry(number, value.lstrip())
    if not entries:
        raise AddressError(f"{name}: it has no group [{_GROUP}]; is this a connection file?")
    return entries


def _check_type(file: _File) -> None:
    kind = file.text("type").strip()
    if not kind:
        raise AddressError(f"{file.name}: the line type=spice is missing")
    if kind.lower() != "spice":
        shown = kind[:20] if kind.isprintable() else "something"
        raise file.bad("type", f"is {shown!r}, and only spice can be spoken here")


def _authorities(file: _File) -> bytes:
    text = file.text("ca")
    if text and "-----BEGIN CERTIFICATE-----" not in text:
        raise file.bad("ca", "must be a PEM certificate on one line, its line ends written as \\n")
    try:
        return text.encode("ascii")
    except UnicodeEncodeError:
        raise file.bad("ca", "contains characters that no PEM certificate has") from None


def _subject(file: _File) -> str:
    text = file.text("host-subject")
    if text:
        from aiospice.aio.tls import parse_subject

        try:
            parse_subject(text)
        except AddressError as error:
            raise file.bad("host-subject", f"can't be read: {error}") from None
    return text


def _proxy(file: _File) -> str:
    text = file.text("proxy").strip()
    if text:
        from aiospice.aio.proxy import parse_proxy

        try:
            parse_proxy(text)
        except AddressError as error:
            raise file.bad("proxy", f"can't be used: {error}") from None
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip().lower() for name in text.split(";") if name.strip())


def _unescape(value: str) -> str:
    r"""Undo GLib's escapes; others stay, so that the ``\,`` of a subject may be written bare."""
    if "\\" not in value:
        return value
    parts = []
    escaped = False
    for char in value:
        if escaped:
            parts.append(_ESCAPES.get(char, "\\" + char))
            escaped = False
        elif char == "\\":
            escaped = True
        else:
            parts.append(char)
    return "".join(parts) + ("\\" if escaped else "")


def load_vv(path: str | os.PathLike[str]) -> ClientConfig:
    """Read the connection file at ``path``, and remove it if it asks for that.

    Raises `AddressError` if it can't be read, isn't a regular file (symbolic links are not
    followed), is longer than 1 MiB or can't be understood; it is left where it is then.
    """
    name = os.fspath(path)
    shown = repr(name)[1:-1].encode("utf-8", "replace").decode()
    folder_name, base = os.path.split(name)
    try:
        os.fsencode(name)
    except UnicodeError:
        base = ""
    if "\0" in name or not base:
        raise AddressError(f"{shown}: not the name of a file; expected one such as vm.vv")
    try:
        # The folder is held open, so that the file removed is the one in the folder read from.
        folder = os.open(folder_name or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise AddressError(f"{shown}: can't be opened: {error.strerror}") from None
    try:
        text, status = _read(folder, base, shown)
        config, delete = parse_vv(text, shown)
        if delete:
            _remove(folder, base, status, shown)
        return config
    finally:
        os.close(folder)


def _read(folder: int, base: str, shown: str) -> tuple[str, os.stat_result]:
    # O_NONBLOCK: opening a FIFO must not wait for its writer.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with open(os.open(base, flags, dir_fd=folder), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise AddressError(f"{shown}: not a regular file")
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        if _is_link(folder, base):
            raise AddressError(
                f"{shown}: a symbolic link, which isn't followed; give the file itself"
            ) from None
        raise AddressError(f"{shown}: can't be read: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise AddressError(f"{shown}: longer than {MAX_FILE_BYTES} bytes; is this a .vv file?")
    try:
        return data.decode(), status
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise AddressError(f"{shown}, line {line}: not UTF-8; is this a .vv file?") from None


def _is_link(folder: int, base: str) -> bool:
    try:
        return stat.S_ISLNK(os.stat(base, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _remove(folder: int, base: str, read: os.stat_result, shown: str) -> None:
    problem = "something else has taken its place"
    try:
        now = os.stat(base, dir_fd=folder, follow_symlinks=False)
        if (now.st_dev, now.st_ino) == (read.st_dev, read.st_ino) and stat.S_ISREG(now.st_mode):
            os.unlink(base, dir_fd=folder)
            return
    except FileNotFoundError:
        return  # it is gone, which is what was asked for
    except OSError as error:
        problem = error.strerror or "unknown error"
    # The session can still start; but the file may hold a password, so this must be told.
    import logging

    logging.getLogger("aiospice").warning(
        "%s asks to be deleted after use, which failed: %s", shown, problem
    )
