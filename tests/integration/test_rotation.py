"""The environment's secret is replaced while events flow, by the steps of docs/how-to/rotate-the-secret.md."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from functools import partial
from pathlib import Path

from tests.support.aio import run, until
from tests.support.keys import OTHER_SECRET, SECRET
from tests.support.system import Role, System

OLD, NEW = SECRET, OTHER_SECRET
CELLS = ("cell-0000", "cell-0001")


async def _load(system: System, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await system.send([{"key": f"k{number}"} for number in range(10)])
        await asyncio.sleep(0.2)  # noqa: TID251 - real processes, open loop


async def _uses(system: System) -> dict[bool, int]:
    """Count the live instances that use the first secret (True), and those that use another."""
    done = await asyncio.to_thread(system.cli, "secrets", "--json")
    return {use["signs"]: use["instances"] for use in json.loads(done.stdout)}


async def _sees_only_new(leader: Role) -> bool:
    return leader.metric("cellrouter_instances_on_older_secret") == 0


def test_the_secret_is_replaced_under_load(redis_url: str, aws_endpoint: str, tmp_path: Path) -> None:
    """No call and no lease is refused, every event is done once, and all instances use the new secret at the end."""
    file = tmp_path / "secret"
    file.write_text(OLD)
    system = System(redis_url, aws_endpoint, tmp_path, cells=len(CELLS), fifo=False)
    del system.environ["CELLROUTER_SECRET"]
    system.environ["CELLROUTER_SECRET_FILE"] = str(file)

    async def know(roles: list[Role], *secrets: str) -> None:
        before = [len(role.said("the secrets have changed")) for role in roles]
        file.write_text("\n".join(secrets))

        async def all_know() -> bool:
            now = [len(role.said("the secrets have changed")) for role in roles]
            return all(a < b for a, b in zip(before, now, strict=True))

        await until(all_know, "every process has read the file")

    async def story() -> None:
        async with system.running():
            roles, stop = [system.leader, await system.router()], asyncio.Event()
            loading = asyncio.create_task(_load(system, stop))
            await know(roles, OLD, NEW)
            await know(roles, NEW, OLD)
            assert await _uses(system) == {True: 0, False: len(CELLS)}
            for cell in CELLS:
                await asyncio.to_thread(system.cli, "replace", cell, "--why", "rotate the secret")

            async def only_new() -> bool:
                return await _uses(system) == {True: len(CELLS), False: 0}

            await until(only_new, "every instance uses the new secret", 60)
            await know(roles, NEW)
            before = len(system.sent)

            async def flows() -> bool:
                return len(system.sent) > before + 20

            await until(flows, "events are sent under the new secret alone")
            stop.set()
            await loading
            await system.done(set(system.sent))
            for role in roles:
                assert role.metric("cellrouter_calls_distrusted_total") == 0, system.logs()
                assert role.metric("cellrouter_leases_refused_total") == 0, system.logs()
            await until(partial(_sees_only_new, system.leader), "the leader has seen that too")
            assert await system.dead_letters() == []
            assert set(Counter(deed["event"] for deed in system.deeds()).values()) == {1}

    run(story(), 180)
