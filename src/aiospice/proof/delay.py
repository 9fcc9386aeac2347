"""A network with a fixed delay, loss, a limited rate and cuts, for kernels without ``netem``.

Two TUN devices are joined by a program of its own (``python -m aiospice.proof.delay``), which
holds each packet for the delay. One device stays with the servers, the other goes into a network
namespace, where the clients are. So a whole TCP connection sees the delay, its handshake too::

    async with DelayedNetwork(delay_ms=25, pcap=path) as net:
        async with Qemu(QemuOptions(address=net.server_address)) as qemu:
            sock = await net.connect(net.server_address, qemu.port)

Needs root and ``/dev/net/tun``. The capture has the client's time stamps: what the client sends
is stamped when it leaves the client, what it gets when it arrives there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import secrets
import select
import shutil
import socket
import struct
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from aiospice.errors import LocalError, MissingProgram

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DelayedNetwork", "ip"]

MTU = 1500
#: Packets that the kernel holds for us; fewer would be loss that nobody asked for.
QUEUE_LENGTH = 10000
#: Packets that wait for a limited rate before the next one is lost, as in a router.
ROUTER_QUEUE = 1000
#: What the names of namespaces begin with; the number of the network follows.
_PREFIX = "aiospice-"
#: Seconds for which packets under way are still delivered when the network is closed.
LINGER = 1.0
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 1, 0x1000
_CLONE_NEWNET = 0x40000000
_PR_SET_TIMERSLACK = 29
_TCP, _FIN, _SYN, _RST = 6, 1, 2, 4
_PCAP_NANOSECONDS, _LINKTYPE_RAW = 0xA1B23C4D, 101


# -- the program between the devices -----------------------------------------------------------


class _Capture:
    """A pcap file with nanoseconds."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "wb", buffering=1 << 20)  # noqa: SIM115 - lives with the process
        header = struct.pack("<IHHiIII", _PCAP_NANOSECONDS, 2, 4, 0, 0, 65535, _LINKTYPE_RAW)
        self._file.write(header)
        self.flush()

    def record(self, packet: bytes) -> None:
        seconds, rest = divmod(time.time_ns(), 1_000_000_000)
        size = len(packet)
        self._file.write(struct.pack("<IIII", seconds, rest, size, size) + packet)

    def flush(self) -> None:
        self._file.flush()


class _Line:
    """One direction: packets read from ``source`` that wait to be written to ``sink``."""

    def __init__(self, source: int, sink: int, seed: str) -> None:
        self.source = source
        self.sink = sink
        self.chance = random.Random(seed)
        self.waiting: deque[tuple[int, bytes]] = deque()
        self.free_at = 0  # when the rate lets the next packet leave
        self.last_due = 0
        #: Of each TCP connection: what its receiver expects next, as far as it has been given.
        self.expected: dict[bytes, int] = {}


class _Bridge:
    """The loop: read, hold, write. All times in nanoseconds of the monotonic clock."""

    def __init__(self, server: int, client: int, settings: dict[str, Any]) -> None:
        seed = settings["seed"]
        self.up = _Line(client, server, f"{seed} up")
        self.down = _Line(server, client, f"{seed} down")
        self.lines = (self.up, self.down)
        self.capture = _Capture(settings["pcap"]) if settings["pcap"] else None
        self.delay = 0
        self.loss = 0.0
        self.rate = 0.0
        self.partition = False
        self.passed = self.lost = 0
        self.open = True
        self.apply(settings)

    def apply(self, order: dict[str, Any]) -> None:
        self.delay = round(order.get("delay_ms", self.delay / 1e6) * 1e6)
        self.loss = order.get("loss", self.loss)
        self.rate = order.get("rate", self.rate)
        self.partition = order.get("partition", self.partition)
        if order.get("drop"):
            for line in self.lines:
                line.waiting.clear()
        if order.get("reset"):
            self.reset()
        if self.capture:
            self.capture.flush()

    def reset(self) -> None:
        """Have both ends of each TCP connection told that it is gone; drop what is under way."""
        for line in self.lines:
            line.waiting.clear()
            for flow, number in line.expected.items():
                with contextlib.suppress(OSError):
                    os.write(line.sink, reset_packet(flow, number))
            line.expected.clear()

    def take(self, line: _Line) -> None:
        """Read what ``line.source`` has, a bounded number so that the other side isn't starved."""
        capture = self.capture if line is self.up else None
        for _ in range(64):
            try:
                packet = os.read(line.source, 65536)
            except OSError:  # nothing more, or the device has gone
                return
            if capture:
                capture.record(packet)
            if self.partition or (self.loss and line.chance.random() < self.loss):
                self.lost += 1
                continue
            self.hold(line, packet)

    def hold(self, line: _Line, packet: bytes) -> None:
        leave = time.monotonic_ns()
        if self.rate:
            if len(line.waiting) > ROUTER_QUEUE and line.free_at > leave:
                self.lost += 1
                return
            leave = max(leave, line.free_at) + int(len(packet) * 1e9 / self.rate)
            line.free_at = leave
        # A shorter delay doesn't let a packet overtake earlier ones.
        line.last_due = due = max(leave + self.delay, line.last_due)
        line.waiting.append((due, packet))

    def give(self, line: _Line) -> int | None:
        """Write what is due; returns when the next packet is, None for never."""
        waiting = line.waiting
        capture = self.capture if line is self.down else None
        now = time.monotonic_ns()
        while waiting and waiting[0][0] <= now:
            packet = waiting.popleft()[1]
            if capture:
                capture.record(packet)
            try:
                os.write(line.sink, packet)
                self.passed += 1
                note_tcp(line.expected, packet)
            except OSError:  # the device is going away, or its queue is full
                self.lost += 1
        return waiting[0][0] if waiting else None

    def obey(self) -> None:
        """Read orders, one JSON object a line, and answer each."""
        text = sys.stdin.readline()
        if not text:
            self.open = False
            return
        self.apply(json.loads(text))
        print(json.dumps({"passed": self.passed, "lost": self.lost}), flush=True)

    def turn(self, *others: int) -> list[int]:
        """Deliver, wait for what comes next, take it; returns which of ``others`` are ready."""
        dues = [due for line in self.lines if (due := self.give(line)) is not None]
        wait = 0.2
        if dues:
            wait = min(wait, max(0.0, (min(dues) - time.monotonic_ns()) / 1e9))
        sources = [line.source for line in self.lines]
        ready = select.select([*sources, *others], [], [], wait)[0]
        for line in self.lines:
            if line.source in ready:
                self.take(line)
        if not ready and not dues and self.capture:
            self.capture.flush()
        return [other for other in others if other in ready]

    def run(self) -> None:
        """Work until the orders end, then deliver what is under way."""
        orders = sys.stdin.fileno()
        while self.open:
            if self.turn(orders):
                self.obey()
        end = time.monotonic() + LINGER
        while any(line.waiting for line in self.lines) and time.monotonic() < end:
            self.turn()
        if self.capture:
            self.capture.flush()


def note_tcp(expected: dict[bytes, int], packet: bytes) -> None:
    """Remember what the receiver of a TCP segment expects next, by addresses and ports."""
    if len(packet) < 40 or packet[0] >> 4 != 4 or packet[9] != _TCP:
        return
    at = (packet[0] & 15) * 4
    flow = packet[12:20] + packet[at : at + 4]
    flags = packet[at + 13]
    if flags & _RST:
        expected.pop(flow, None)
        return
    size = len(packet) - at - (packet[at + 12] >> 4) * 4 + bool(flags & _SYN) + (flags & _FIN)
    end = (int.from_bytes(packet[at + 4 : at + 8], "big") + size) & 0xFFFFFFFF
    before = expected.get(flow, end)
    if (end - before) & 0xFFFFFFFF < 1 << 31:  # not one that was sent again
        expected[flow] = end


def reset_packet(flow: bytes, number: int) -> bytes:
    """A segment that ends a connection for the receiver that expects ``number`` (RFC 9293)."""
    addresses, ports = flow[:8], flow[8:]
    tcp = ports + struct.pack(">IIBBHHH", number, 0, 5 << 4, _RST, 0, 0, 0)
    check = _checksum(addresses + struct.pack(">HH", _TCP, len(tcp)) + tcp)
    tcp = tcp[:16] + struct.pack(">H", check) + tcp[18:]
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, _TCP, 0) + addresses
    return head[:10] + struct.pack(">H", _checksum(head)) + head[12:] + tcp


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _open_tun(name: str) -> int:
    import fcntl

    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return device


def _be_punctual() -> None:
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))


def _main(settings: dict[str, Any]) -> int:
    try:
        server, client = (_open_tun(name) for name in settings["devices"])
    except OSError as error:
        print(json.dumps({"error": str(error), "errno": error.errno}), flush=True)
        return 1
    _be_punctual()
    bridge = _Bridge(server, client, settings)
    print(json.dumps({"ready": True}), flush=True)
    bridge.run()
    return 0


# -- the side of the tests ---------------------------------------------------------------------


class DelayedNetwork:
    """A server side, ``server_address``, and a namespace for clients, ``client_namespace``.

    ``delay_ms``: one way, milliseconds. ``loss``: chance of each packet to be lost, 0 to 1, drawn
    from ``seed``. ``rate``: bytes a second, each way, 0 for no limit. ``pcap``: where to write
    a capture. Raises `MissingProgram` when namespaces or TUN devices can't be had.
    """

    def __init__(
        self,
        delay_ms: float = 25,
        *,
        loss: float = 0,
        rate: float = 0,
        seed: int = 0,
        pcap: str | Path | None = None,
    ) -> None:
        self._settings: dict[str, Any] = {
            "delay_ms": delay_ms,
            "loss": loss,
            "rate": rate,
            "seed": seed,
            "pcap": str(pcap) if pcap else None,
        }
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self.delay_ms = delay_ms  #: at the start, one way
        self.server_address = ""  #: where servers listen: 10.77.N.1
        self.client_address = ""  #: where clients come from: 10.77.N.2
        self.client_namespace = ""  #: for ``ip netns exec``

    async def __aenter__(self) -> Self:
        _check_possible()
        try:
            number = await self._start()
            self.client_namespace = f"{_PREFIX}{number}-{secrets.token_hex(3)}"
            self.server_address, self.client_address = f"10.77.{number}.1", f"10.77.{number}.2"
            await self._configure(number)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the program, which finishes the capture, and delete the namespace."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                await asyncio.wait_for(self._process.wait(), 5)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
            self._process = None
        if self.client_namespace:
            await ip("netns", "delete", self.client_namespace, check=False)
            self.client_namespace = ""

    async def change(self, **settings: float | bool) -> dict[str, int]:
        """Change ``delay_ms``, ``loss``, ``rate`` or ``partition`` from the next packet on.

        What is under way keeps its time. Also writes the capture out. Returns the numbers of
        packets ``passed`` and ``lost`` so far.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        async with self._turn:
            self._process.stdin.write(json.dumps(settings).encode() + b"\n")
            return await self._answer()

    async def partition(self, on: bool) -> None:
        """Cut the network (each packet sent from now on is lost) or mend it."""
        await self.change(partition=on)

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs ``arguments`` on the client's side."""
        return ["ip", "netns", "exec", self.client_namespace, *arguments]

    def socket_factory(self) -> Callable[..., socket.socket]:
        """A function like `socket.socket` whose sockets live on the client's side."""
        namespace = self.client_namespace

        def create(*arguments: Any, **options: Any) -> socket.socket:
            return _socket_in(namespace, arguments, options)

        return create

    async def connect(self, host: str, port: int, *, timeout: float = 10) -> socket.socket:
        """A non-blocking TCP socket on the client's side, connected to ``host`` (an address)."""
        sock = self.socket_factory()(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            loop = asyncio.get_running_loop()
            await asyncio.wait_for(loop.sock_connect(sock, (host, port)), timeout)
        except BaseException:
            sock.close()
            raise
        return sock

    async def die(self) -> None:
        """Cut the network for good: what is under way is lost, too."""
        await self.change(partition=True, drop=True)

    async def reset(self) -> None:
        """Break each TCP connection: both of its ends are told, what is under way is lost."""
        await self.change(reset=True)

    async def _start(self) -> int:
        """Start the program on the first pair of device names that nobody has."""
        first = os.getpid() % 250
        for offset in range(250):
            number = (first + offset) % 250 + 1
            settings = {**self._settings, "devices": [f"aio{number}s", f"aio{number}c"]}
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "aiospice.proof.delay", json.dumps(settings)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
            answer = await self._answer()
            if answer.get("ready"):
                return number
            await self.close()
            if answer.get("errno") != 16:  # EBUSY: the name is taken
                raise MissingProgram(f"no TUN device: {answer.get('error')} (root is needed)")
        raise LocalError("all 250 delayed networks of this machine are in use")

    async def _answer(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), 20)
        if not line:
            raise LocalError("the delay program ended unexpectedly")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def _configure(self, number: int) -> None:
        server, client, namespace = f"aio{number}s", f"aio{number}c", self.client_namespace
        for stale in _stale_namespaces():
            await ip("netns", "delete", stale, check=False)
        await ip("netns", "add", namespace)
        await ip("link", "set", client, "netns", namespace)
        inside = ("-n", namespace)
        size = ("mtu", str(MTU), "txqueuelen", str(QUEUE_LENGTH), "up")
        await ip("addr", "add", f"{self.server_address}/24", "dev", server)
        await ip(*inside, "addr", "add", f"{self.client_address}/24", "dev", client)
        await ip("link", "set", server, *size)
        await ip(*inside, "link", "set", client, *size)
        await ip(*inside, "link", "set", "lo", "up")


def _check_possible() -> None:
    if shutil.which("ip") is None:
        raise MissingProgram("ip isn't installed: install iproute2 (Debian)")
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        raise MissingProgram("a delayed network needs root and /dev/net/tun")


def _stale_namespaces() -> list[str]:
    """Namespaces of ours whose devices are gone: left by processes that were killed."""
    with contextlib.suppress(OSError):
        names = [name for name in os.listdir("/run/netns") if name.startswith(_PREFIX)]
        devices = os.listdir("/sys/class/net")
        return [name for name in names if f"aio{name.split('-')[1]}s" not in devices]
    return []


async def ip(*arguments: str, check: bool = True) -> None:
    """Run ``ip``; `MissingProgram` with its complaint if it can't."""
    process = await asyncio.create_subprocess_exec(
        "ip",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    complaint = (await process.communicate())[1]
    if check and process.returncode:
        raise MissingProgram(f"ip {' '.join(arguments)}: {complaint.decode().strip()}")


def _socket_in(
    namespace: str, arguments: tuple[Any, ...], options: dict[str, Any]
) -> socket.socket:
    """Make a socket in another namespace, which a thread of its own enters for that."""
    import ctypes

    made: list[socket.socket] = []
    errors: list[OSError] = []
    libc = ctypes.CDLL(None, use_errno=True)

    def work() -> None:
        try:
            with open(f"/run/netns/{namespace}") as place:
                if libc.setns(place.fileno(), _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), f"can't enter namespace {namespace}")
            made.append(socket.socket(*arguments, **options))
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return made[0]


if __name__ == "__main__":
    sys.exit(_main(json.loads(sys.argv[1])))
