"""Where the files that clients send are put: a folder that they can't leave, or memory.

The name that a client gives is a wish: only its last part counts, without what a file system or a
terminal could misunderstand, and a file that is there already is never touched. Files are written
under a name of their own that begins with ``.`` and get theirs when they are whole.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from typing import IO, NamedTuple

from aiospice.errors import LocalError

__all__ = ["IN_MEMORY", "DropLimits", "Dropped", "FileDrop", "Incoming", "safe_name"]

#: The longest name, in bytes.
NAME_BYTES = 200
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


class DropLimits(NamedTuple):
    """What clients may put here."""

    file_bytes: int = 256 << 20
    total_bytes: int = 1 << 30
    files: int = 1000
    at_once: int = 16


#: Where there is no folder.
IN_MEMORY = DropLimits(file_bytes=32 << 20, total_bytes=64 << 20)


class Dropped(NamedTuple):
    """A file that has come."""

    name: str
    size: int


def safe_name(wish: str) -> str:
    """Return a name of one file that is safe in any folder; "file" if nothing is left of it."""
    last = re.split(r"[/\\]", wish)[-1]
    clean = "".join(c if c.isprintable() and c not in '<>:"|?*' else "_" for c in last)
    clean = clean.strip(" ").lstrip(".").rstrip(". ")
    stem, dot, ending = clean.rpartition(".")
    ending = ending.encode(errors="replace")[:20].decode(errors="ignore") if stem else ""
    room = NAME_BYTES - len(ending.encode()) - 1
    whole = (stem if dot and stem else clean).encode(errors="replace")
    short = whole[:room].decode(errors="ignore")
    name = f"{short}.{ending}" if ending else short
    return "file" if not name else f"_{name}" if _DEVICES.match(name) else name


class Incoming:
    """A file on its way. Write to it, then `finish` or `cancel` it."""

    def __init__(self, drop: FileDrop, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self.received = 0
        self._drop = drop
        self._part = f".{secrets.token_hex(8)}.part"
        self._file: IO[bytes] | None = None
        self._memory = bytearray()
        if drop.folder is not None:
            self._file = drop.create(self._part)

    def write(self, data: bytes) -> None:
        """Add bytes. Raises `LocalError` for more than were announced or can be written."""
        if self.received + len(data) > self.size:
            raise LocalError(f"{self.name}: more than the {self.size} bytes that were announced")
        self.received += len(data)
        if self._file is None:
            self._memory += data
            return
        try:
            self._file.write(data)
        except OSError as error:
            raise LocalError(f"{self.name}: {error.strerror}") from error

    def read(self, start: int, size: int) -> bytes:
        """Bytes that have come so far, from ``start`` on. Raises `LocalError`."""
        if self._file is None:
            return bytes(self._memory[start : start + size])
        try:
            self._file.flush()
            return os.pread(self._file.fileno(), size, start)
        except OSError as error:
            raise LocalError(f"{self.name}: {error.strerror}") from error

    def finish(self) -> Dropped:
        """Give the file its name. Raises `LocalError` if it isn't whole or can't be written."""
        if self.received != self.size:
            raise LocalError(f"{self.name}: {self.received} of {self.size} bytes came")
        try:
            if self._file is not None:
                self._file.close()
            return self._drop.keep(self, self._part, bytes(self._memory))
        except OSError as error:
            raise LocalError(f"{self.name}: {error.strerror}") from error
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Forget it; nothing of it stays."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._drop.discard(self._part)
        self._file, self._memory = None, bytearray()
        self._drop.gone(self)


class FileDrop:
    """Takes files, into a folder if it has one, else into memory (`contents`)."""

    def __init__(self, folder: str | None = None, limits: DropLimits | None = None) -> None:
        self.folder = folder
        standard = DropLimits() if folder is not None else IN_MEMORY
        self.limits = standard if limits is None else limits
        #: What has come, in that order.
        self.files: list[Dropped] = []
        #: Without a folder: what is in the files, by name.
        self.contents: dict[str, bytes] = {}
        self._coming: list[Incoming] = []
        self._handle: int | None = None

    @property
    def total(self) -> int:
        """Bytes that are here or were announced."""
        return sum(f.size for f in self.files) + sum(f.size for f in self._coming)

    @property
    def free(self) -> int:
        """Bytes that may still be announced, by the limits that are set here."""
        return max(0, min(self.limits.total_bytes - self.total, self.limits.file_bytes))

    def begin(self, wish: str, size: int) -> Incoming:
        """Take a file that a client offers. Raises `LocalError` naming the limit in the way."""
        limits = self.limits
        if size > limits.file_bytes or size < 0:
            raise LocalError(f"a file may have {limits.file_bytes} bytes, not {size}")
        if self.total + size > limits.total_bytes:
            raise LocalError(f"all files together may have {limits.total_bytes} bytes")
        if len(self.files) + len(self._coming) >= limits.files:
            raise LocalError(f"there are {limits.files} files, no more are taken")
        if len(self._coming) >= limits.at_once:
            raise LocalError(f"{limits.at_once} files are on their way, try again later")
        incoming = Incoming(self, safe_name(wish), size)
        self._coming.append(incoming)
        return incoming

    def close(self) -> None:
        """Cancel what is on its way."""
        for incoming in list(self._coming):
            incoming.cancel()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def adopt(self, files: list[tuple[str, int]], contents: dict[str, bytes]) -> None:
        """Know of files that came elsewhere, and have those in memory. Raises `LocalError`."""
        self.close()
        self._coming.clear()
        self.files = [Dropped(name, size) for name, size in files]
        self.contents = dict(contents)
        if len(files) > self.limits.files or self.total > self.limits.total_bytes:
            raise LocalError(f"{len(files)} files of {self.total} bytes are more than are taken")

    # -- for Incoming --------------------------------------------------------------------------

    def create(self, name: str) -> IO[bytes]:
        """Open a new file in the folder, readable by its owner alone."""
        try:
            return os.fdopen(os.open(name, _NEW_FILE, 0o600, dir_fd=self._directory()), "w+b")
        except OSError as error:
            raise LocalError(f"{self.folder}: no file can be made: {error.strerror}") from error

    def keep(self, incoming: Incoming, part: str, memory: bytes) -> Dropped:
        """Give a whole file a name that is free: ``a.txt``, then ``a (2).txt``."""
        stem, ending = os.path.splitext(incoming.name)
        for number in range(1, self.limits.files + 10000):
            name = incoming.name if number == 1 else f"{stem} ({number}){ending}"
            if self._take_name(name, part, memory):
                self.files.append(Dropped(name, incoming.size))
                return self.files[-1]
        raise LocalError(f"{incoming.name}: no name is free")

    def _take_name(self, name: str, part: str, memory: bytes) -> bool:
        if self.folder is None:
            if name in self.contents:
                return False
            self.contents[name] = memory
            return True
        place = self._directory()
        try:  # a rename replaces what is there, so the name is made ours first
            os.close(os.open(name, _NEW_FILE, 0o600, dir_fd=place))
        except FileExistsError:
            return False
        os.rename(part, name, src_dir_fd=place, dst_dir_fd=place)
        return True

    def discard(self, name: str) -> None:
        """Remove a file's own name, if it is there."""
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=self._directory())

    def gone(self, incoming: Incoming) -> None:
        """No longer on its way."""
        if incoming in self._coming:
            self._coming.remove(incoming)

    def _directory(self) -> int:
        """The folder, held open: whatever its path becomes later, files go there."""
        if self._handle is None:
            assert self.folder is not None
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            self._handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._handle
