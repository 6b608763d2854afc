"""How the commands read the registry of the configured environment, and have its policy changed."""

from __future__ import annotations

import gc
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

import typer

from router.core.errors import RegistryUnavailableError

if TYPE_CHECKING:
    from router.adapters.redis.registry import RedisRegistry
    from router.core.models import CellRecord
    from router.core.policy import Policy
    from router.core.registry import Snapshot
    from router.settings import Settings

T = TypeVar("T")

FOLLOW_S: Final = 0.25  # between two looks at the registry
MOST_NAMES: Final = 12  # of cells that an error lists


def configured() -> Settings:
    """Return the settings of this process. Raises ConfigError, which names every fault of them."""
    from router.settings import load  # noqa: PLC0415 - --help stays quick

    return load(os.environ)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work to its end. What is logged meanwhile goes to standard error: the answer stays alone."""
    import structlog  # noqa: PLC0415 - --help stays quick
    import uvloop  # noqa: PLC0415 - as above

    from cell_worker.contract.process import configure_logs  # noqa: PLC0415 - as above

    if not structlog.is_configured():
        configure_logs("console", "warning")
    gc.enable()  # all that takes long to import is there
    return uvloop.run(work)


def ask(question: Callable[[RedisRegistry], Awaitable[T]]) -> T:
    """Open the registry, put a question to it, close it again, and return the answer."""
    from router.bootstrap.registry import open_registry  # noqa: PLC0415 - --help stays quick

    async def asked() -> T:
        async with open_registry(configured()) as registry:
            return await question(registry)

    return run(asked())


def look() -> Snapshot:
    """Read the whole registry as it is now."""
    return ask(lambda registry: registry.snapshot())


def record_of(cell_id: str, snapshot: Snapshot) -> CellRecord:
    """Return the cell's record. Raises typer.BadParameter, which lists the cells, when there is no such cell."""
    record = snapshot.cells.get(cell_id)
    if record is not None and not record.retired:
        return record
    names = sorted(name for name, found in snapshot.cells.items() if not found.retired)
    some = names if len(names) <= MOST_NAMES else [*names[: MOST_NAMES - 2], "…", names[-1]]
    raise typer.BadParameter(f"there is no cell {cell_id}; there are: {', '.join(some) or 'none'}", param_hint="CELL")


def change_policy(action: str, why: str, make: Callable[[Policy, int], Policy], cell_id: str = "") -> Policy:
    """Have the leader change the policy; return the new one, which still has the version that it was made from.

    `make` gets the policy in force and the time in milliseconds. The audit names `cell_id`, if there is one.
    """
    from router.bootstrap.registry import entry_by_hand  # noqa: PLC0415 - --help stays quick
    from router.services.policy import change  # noqa: PLC0415 - --help stays quick

    audit = entry_by_hand(action, why, cell_id)
    return ask(lambda registry: change(registry, lambda policy: make(policy, audit.at_ms), audit))


def followed(seen: Callable[[Snapshot], tuple[str, int]]) -> int:
    """Run `follow` to its result. Ctrl-C raises KeyboardInterrupt."""
    return run(follow(seen))


async def follow(seen: Callable[[Snapshot], tuple[str, int]]) -> int:
    """Print what is going on, each time that it changes, until it has a result, and return that.

    `seen` makes of a snapshot what to print ("" for nothing new) and the result (0 for none yet). The registry may be
    unreachable for a while.
    """
    import asyncio  # noqa: PLC0415 - --help stays quick

    from router.bootstrap.registry import open_registry  # noqa: PLC0415 - --help stays quick

    said, result = "", 0
    async with open_registry(configured()) as registry:
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
