"""The ledger as a Ray actor: shared, found again, and replaced when it is killed."""

import asyncio
import uuid
from functools import partial

import pytest
import ray

from rayserve_par.serving.admission.lease_book import PoolSpec
from rayserve_par.serving.admission.lease_client import LeaseClient, Use
from rayserve_par.serving.admission.own_share import OwnShare
from rayserve_par.serving.admission.ray_ledger import NAMESPACE, RayLedger, actor_name

pytestmark = pytest.mark.engine

SLOTS = Use(PoolSpec("k/concurrency", 4))


@pytest.mark.usefixtures("cluster")
def test_replicas_share_one_actor_and_outlive_it() -> None:
    async def scenario() -> None:
        app = f"test-{uuid.uuid4().hex[:8]}"
        a, b = (
            LeaseClient(RayLedger(app), name, look=partial(OwnShare.of, name, "ab"))
            for name in ("a", "b")
        )
        await a.start()
        await b.start()
        assert not a.alone
        assert not b.alone
        for _ in range(3):
            assert await a.obtain([SLOTS]) is None
        assert await b.obtain([SLOTS]) is None
        assert await b.obtain([SLOTS]) is not None
        assert await a.obtain([SLOTS]) is not None

        ledger = ray.get_actor(actor_name(app), namespace=NAMESPACE)
        ray.kill(ledger, no_restart=True)
        async with asyncio.timeout(10):
            while not (a.alone and b.alone):
                await asyncio.sleep(0.05)
        assert await b.obtain([SLOTS]) is None  # its half of 4, one in use
        assert await b.obtain([SLOTS]) is not None
        async with asyncio.timeout(20):
            while a.alone or b.alone:
                await asyncio.sleep(0.05)
        assert await a.obtain([SLOTS]) is not None  # 3 and 2 of 4 are in use
        for _ in range(3):
            a.release(SLOTS.spec)
        await asyncio.sleep(0.2)
        assert await b.obtain([SLOTS]) is None
        await a.stop()
        await b.stop()

    asyncio.run(asyncio.wait_for(scenario(), 90))
