"""Long runs: ``make soak``. What came out of them is in ``docs/performance.md``."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from tests.moving_rig import moving

from aiospice.proof import demo, demo_own

if TYPE_CHECKING:
    from tests.conftest import NetworkFactory, PairFactory


@pytest.mark.soak
@pytest.mark.peers
@pytest.mark.net
async def test_two_hundred_migrations_without_a_byte_lost(
    qemu_pair: PairFactory, delayed_network: NetworkFactory
) -> None:
    net = await delayed_network(delay_ms=1)
    pair = await qemu_pair(address=net.server_address)
    async with moving(pair, net=net) as rig:
        await rig.seamless(200)
        report = await rig.exact()
    print(f"\n200 migrations: {report}")


@pytest.mark.soak
@pytest.mark.parametrize("policy", demo_own.POLICIES)
async def test_fifty_moves_of_the_demo_desktop(policy: str) -> None:
    out, err = io.StringIO(), io.StringIO()
    assert await demo.run(migrations=50, policy=policy, out=out, err=err) == 0, out.getvalue()
    print(f"\n{out.getvalue()}")
