"""How the commands read the registry of the configured environment, and have its policy changed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

import typer
import uvloop

from router.core.errors import RegistryUnavailableError
from router.core.policy import Policy
from router.settings import load

if TYPE_CHECKING:
    from router.adapters.redis.registry import RedisRegistry
    from router.core.registry import Snapshot

T = TypeVar("T")

FOLLOW_S: Final = 0.25  # between two looks at the registry


def ask(question: Callable[[RedisRegistry], Awaitable[T]]) -> T:
    """Open the registry, put a question to it, close it again, and return the answer."""

    async def asked() -> T:
        from router.bootstrap.registry import open_registry  # noqa: PLC0415 - --help stays quick

        async with open_registry(load(os.environ)) as registry:
            return await question(registry)

    return uvloop.run(asked())


def look() -> Snapshot:
    """Read the whole registry as it is now."""
    return ask(lambda registry: registry.snapshot())


def change_policy(action: str, why: str, make: Callable[[Policy, int], Policy], cell_id: str = "") -> Policy:
    """Have the leader change the policy; return the new one, which still has the version that it was made from.

    `make` gets the policy in force and the time in milliseconds. The audit names `cell_id`, if there is one.
    """
    from router.bootstrap.registry import entry_by_hand  # noqa: PLC0415 - --help stays quick
    from router.services.policy import change  # noqa: PLC0415 - --help stays quick

    audit = entry_by_hand(action, why, cell_id)
    return ask(lambda registry: change(registry, lambda policy: make(policy, audit.at_ms), audit))


async def follow(seen: Callable[[Snapshot], tuple[str, int]]) -> int:
    """Print what is going on, each time that it changes, until it has a result, and return that.

    `seen` makes of a snapshot what to print ("" for nothing new) and the result (0 for none yet). The registry may be
    unreachable for a while.
    """
    from router.bootstrap.registry import open_registry  # noqa: PLC0415 - --help stays quick

    said, result = "", 0
    async with open_registry(load(os.environ)) as registry:
        while not result:
            await asyncio.sleep(FOLLOW_S)  # noqa: TID251 - a person watches
            try:
                now, result = seen(await registry.snapshot())
            except RegistryUnavailableError:
                continue
            if now and now != said:
                said = now
                typer.echo(now)
    return result
