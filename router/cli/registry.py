"""How the commands read the registry of the configured environment, and have its policy changed."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import typer

from router.core.config_text import SERVER_VARIABLE
from router.core.edits.decided import record_in
from router.core.errors import (
    BadEditError,
    ConfigError,
    NoSuchCellError,
    NothingToChangeError,
    RegistryUnavailableError,
)

if TYPE_CHECKING:
    from router.core.models import CellRecord
    from router.core.registry import Snapshot
    from router.ports import Operator, OperatorReader, OperatorRegistry
    from router.settings import Settings

T = TypeVar("T")

FOLLOW_S: Final = 0.25  # between two looks at the registry


def configured() -> Settings:
    """Return the settings of this process. Raises ConfigError, which names every fault, or that --server is set.

    What needs settings works on Redis, AWS or cells themselves.
    """
    if os.environ.get(SERVER_VARIABLE):
        raise ConfigError(
            f"{SERVER_VARIABLE}: this command does not work through the Admin API: run it without --server, where the "
            "system's own configuration is"
        )
    with _without_extras():
        from router.settings import load  # noqa: PLC0415 - --help stays quick

    return load(os.environ)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work to its end. What is logged meanwhile goes to standard error: the answer stays alone."""
    with _without_extras():
        import structlog  # noqa: PLC0415 - --help stays quick
    import uvloop  # noqa: PLC0415 - as above

    from cell_worker.contract.process import configure_logs  # noqa: PLC0415 - as above

    if not structlog.is_configured():
        configure_logs("console", "warning")
    if not gc.isenabled():
        gc.freeze()  # what is imported is there to stay: no collection looks at it, nor the one at the end
        gc.enable()
    return uvloop.run(work)


@dataclass(frozen=True, slots=True)
class Opened:
    """What a command works on: what it reads, and who makes its changes."""

    registry: OperatorReader
    operator: Callable[[], Operator]


@asynccontextmanager
async def opened() -> AsyncIterator[Opened]:
    """Open what commands work on, the registry or the Admin API of --server, and close it afterwards."""
    if server := os.environ.get(SERVER_VARIABLE):
        from router.bootstrap.admin_client import open_admin_client  # noqa: PLC0415 - --help stays quick

        async with open_admin_client(server, os.environ, lambda text: typer.echo(text, err=True)) as client:
            yield Opened(client, lambda: client)
        return
    with _without_extras():
        from router.bootstrap.registry import open_registry  # noqa: PLC0415 - --help stays quick

    async with open_registry(configured()) as registry:
        yield Opened(registry, lambda: _operations(registry))


def _operations(registry: OperatorRegistry) -> Operator:
    from router.adapters.clock import SystemClock  # noqa: PLC0415 - who only looks needs none of it
    from router.bootstrap.registry import by_hand  # noqa: PLC0415 - as above
    from router.services.operations import Operations  # noqa: PLC0415 - as above

    return Operations(registry, SystemClock(), by_hand())


_EXTRAS: Final = ("opentelemetry.sdk.metrics", "rich.pretty", "rich.traceback")
"""What redis-py and structlog import at once where it is there, for figures and tracebacks that nobody asks of them."""


@contextmanager
def _without_extras() -> Iterator[None]:
    """Have what is imported meanwhile find these missing, and no collection look at it: a third of a start."""
    before, collects = len(sys.modules), gc.isenabled()
    missing = [name for name in _EXTRAS if name not in sys.modules]
    sys.modules.update(dict.fromkeys(missing))  # type: ignore[arg-type] # None, as Python documents it
    gc.disable()
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]
        if len(sys.modules) > before:
            gc.freeze()
        if collects:
            gc.enable()


def ask(question: Callable[[OperatorReader], Awaitable[T]]) -> T:
    """Open the registry, put a question to it, close it again, and return the answer."""

    async def asked() -> T:
        async with opened() as found:
            return await question(found.registry)

    return run(asked())


def operate(work: Callable[[Operator], Awaitable[T]], hint: str | None = None) -> T:
    """Have something changed, and return what came of it.

    Raises typer.BadParameter, with a hint at the option, for what nobody can want; typer.Exit with code 1, after saying
    why, where there is nothing to change.
    """

    async def worked() -> T:
        async with opened() as found:
            return await work(found.operator())

    with mistakes(hint):
        return run(worked())


@contextmanager
def mistakes(hint: str | None = None) -> Iterator[None]:
    """Tell a mistake in the command from a refusal: by the words of typer and its exit code."""
    try:
        yield
    except NoSuchCellError as error:
        raise typer.BadParameter(str(error), param_hint="CELL") from error
    except BadEditError as error:
        raise typer.BadParameter(str(error), param_hint=hint) from error
    except NothingToChangeError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


def look() -> Snapshot:
    """Read the whole registry as it is now."""
    return ask(lambda registry: registry.snapshot())


def record_of(cell_id: str, snapshot: Snapshot) -> CellRecord:
    """Return the cell's record. Raises typer.BadParameter, which lists the cells, when there is no such cell."""
    with mistakes():
        return record_in(snapshot.cells, cell_id)


def followed(seen: Callable[[Snapshot], tuple[str, int]]) -> int:
    """Run `follow` to its result. Ctrl-C raises KeyboardInterrupt."""
    return run(follow(seen))


async def follow(seen: Callable[[Snapshot], tuple[str, int]]) -> int:
    """Print what is going on, each time that it changes, until it has a result, and return that.

    `seen` makes of a snapshot what to print ("" for nothing new) and the result (0 for none yet). The registry may be
    unreachable for a while.
    """
    import asyncio  # noqa: PLC0415 - --help stays quick

    said, result = "", 0
    async with opened() as found:
        while not result:
            await asyncio.sleep(FOLLOW_S)  # noqa: TID251 - a person watches
            try:
                now, result = seen(await found.registry.snapshot())
            except RegistryUnavailableError:
                continue
            if now and now != said:
                said = now
                typer.echo(now)
    return result
