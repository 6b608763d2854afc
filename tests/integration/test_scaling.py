"""Scaling on real processes: what it needs to know is reported, the bounds are held, and what it waits for is told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.support.aio import until
from tests.support.system import System

pytestmark = pytest.mark.one_kind  # about the processes, which are the same on all servers


def test_all_that_scaling_needs_is_known(redis_url: str, aws_endpoint: str, tmp_path: Path) -> None:
    """Routers say what is in work and what is held, workers what CPU they use: the window begins."""
    asyncio.run(_begins(System(redis_url, aws_endpoint, tmp_path, cells=2, fifo=False)))


async def _begins(system: System) -> None:
    async with system.running():
        await system.router()
        refused = await asyncio.to_thread(system.cli, "apply", "scaling", "--min", "3", "--max", "4", check=False)
        assert refused.returncode == 1
        assert "scaling keeps 3 to 4 cells, not 2" in " ".join((refused.stdout + refused.stderr).split())
        applied = await asyncio.to_thread(system.cli, "apply", "scaling", "--min", "1", "--max", "4")
        assert "1 to 4 cells" in applied.stdout

        async def is_watched() -> bool:
            found = await asyncio.to_thread(system.cli, "explain", "cell-0000", "--json")
            said = json.loads(found.stdout)["scaling"]
            return said is not None and "the load is watched for 180 s first" in said["why"]

        await until(is_watched, f"the load is watched\n{system.logs()}", 60)
        assert system.leader.metric("cellrouter_scaling_cells") == 2
        assert system.leader.metric("cellrouter_scaling_short") == 0
        undone = await asyncio.to_thread(system.cli, "apply", "no-scaling")
        assert undone.returncode == 0
