"""Fixtures for real peers, and the rule for peers that aren't there.

A test marked ``peers`` or ``net`` that meets a missing program is left out, and the last line of
the run says so. With ``PEERS=1`` in the environment (as in CI) it fails instead.
"""

from __future__ import annotations

import os
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from aiospice.errors import MissingProgram

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator

    from aiospice.proof.delay import DelayedNetwork
    from aiospice.proof.qemu import Qemu, QemuPair

    QemuFactory = Callable[..., Awaitable[Qemu]]
    PairFactory = Callable[..., Awaitable[QemuPair]]
    NetworkFactory = Callable[..., Awaitable[DelayedNetwork]]

# A busy machine is no failure: no property test has a deadline (`--timeout` ends what hangs).
settings.register_profile(
    "default",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("default")

# Who runs the tests in the background may have had Ctrl-C ignored, and programs would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

_left_out: dict[str, str] = {}


def _judge(item: pytest.Item, missing: MissingProgram) -> None:
    marked = item.get_closest_marker("peers") or item.get_closest_marker("net")
    if not marked or os.environ.get("PEERS") == "1":
        raise missing
    _left_out[item.nodeid] = str(missing)
    pytest.skip(f"left out: {missing}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    try:
        return (yield)
    except MissingProgram as missing:
        _judge(item, missing)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    try:
        return (yield)
    except MissingProgram as missing:
        _judge(item, missing)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _left_out:
        for reason in sorted(set(_left_out.values())):
            terminalreporter.write_line(f"missing peer: {reason}")
        count = len(_left_out)
        line = f"{count} tests were left out for missing peers; `make peers` installs them"
        terminalreporter.write_line(line, yellow=True, bold=True)


@pytest_asyncio.fixture
async def qemu_factory() -> AsyncIterator[QemuFactory]:
    """``await qemu_factory(incoming=False, **options)`` starts a QEMU that ends with the test.

    The options are those of `aiospice.proof.qemu.QemuOptions`.
    """
    from aiospice.proof.qemu import Qemu, QemuOptions

    async with AsyncExitStack() as stack:

        async def start(*, incoming: bool = False, **options: Any) -> Qemu:
            return await stack.enter_async_context(Qemu(QemuOptions(**options), incoming=incoming))

        yield start


@pytest_asyncio.fixture
async def qemu_pair() -> AsyncIterator[PairFactory]:
    """``await qemu_pair(**options)`` starts a machine that can be migrated."""
    from aiospice.proof.qemu import QemuOptions, QemuPair

    async with AsyncExitStack() as stack:

        async def start(**options: Any) -> QemuPair:
            return await stack.enter_async_context(QemuPair(QemuOptions(**options)))

        yield start


@pytest_asyncio.fixture
async def delayed_network() -> AsyncIterator[NetworkFactory]:
    """``await delayed_network(delay_ms=25, loss=0, pcap=None)`` makes a slow network."""
    from aiospice.proof.delay import DelayedNetwork

    async with AsyncExitStack() as stack:

        async def start(**options: Any) -> DelayedNetwork:
            return await stack.enter_async_context(DelayedNetwork(**options))

        yield start
