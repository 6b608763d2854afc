"""Six stories of sick cells on virtual time, and what `cellrouter explain` prints at the end of each.

docs/explanation/endings.md shows them; script/docs writes it.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from contextlib import redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from io import StringIO
from unittest.mock import patch

from router.core.models import Event
from tests.support.control_world import actions
from tests.support.fake_cells import Sickness
from tests.support.fake_clock import FakeClock, play
from tests.support.memory_registry import MemoryRegistry
from tests.support.path_world import PathWorld
from tests.support.sick_world import BASE_S, VICTIM

RATES = {f"tenant-{i}": 0.5 for i in range(32)}
LEARN_S = 65.0  # until the story begins: then it is known what is usual
LOAD_S = 300.0  # longer than the longest story
WARM_UP_S = 15.0
COLUMNS = 114
LEFT_OUT = ("Evidence", "Thresholds")  # how the titles of tables begin that would fill the page
TITLES = re.compile(r"^(?=\w)", re.MULTILINE)


@dataclass(frozen=True)
class Ending:
    """How the story of a sick cell ends."""

    title: str
    about: str
    tell: Callable[[PathWorld], Awaitable[None]]


async def _replaced(world: PathWorld) -> None:
    world.fall_ill(VICTIM, Sickness(factor=3))
    await world.until(lambda: world.record(VICTIM).generation == 2, "replaced", 40)
    await world.clock.sleep(15)


async def _not_the_instance(world: PathWorld) -> None:
    world.fall_ill(VICTIM, Sickness(extra_s=0.3), generations=9)
    await world.until(lambda: "keep instance" in actions(world.control.contents.audit), "kept", 90)
    await world.clock.sleep(2)


async def _workload(world: PathWorld) -> None:
    heavy = next(key for key in RATES if world.map().cell_of(key) == VICTIM)
    cell = world.cells.cells[VICTIM]

    def takes_s(event: Event) -> float:
        return (10 if event.partition_key == heavy else 4) * BASE_S

    cell.time_of_event = takes_s
    more = asyncio.create_task(world.send_steadily({heavy: 8.0}, 30))
    await world.clock.sleep(25)
    more.cancel()


async def _slow_path(world: PathWorld) -> None:
    world.far.extra_s = 0.15
    await world.clock.sleep(25)


async def _hung(world: PathWorld) -> None:
    world.instances.on_restart = lambda address, _: world.machines.end(VICTIM, int(address.split(":")[1]))
    world.fall_ill(VICTIM, Sickness(hangs=True))
    await world.until(lambda: world.record(VICTIM).generation == 2, "replaced", 40)
    await world.clock.sleep(2)


async def _recovered(world: PathWorld) -> None:
    world.fall_ill(VICTIM, Sickness(factor=3))
    await world.until(lambda: "replace" in actions(world.control.contents.audit), "on its way", 40)
    world.cells.cells[VICTIM].sick.clear()
    await world.until(lambda: not world.record(VICTIM).launching, "over", 90)
    await world.clock.sleep(15)


ENDINGS = (
    Ending(
        "Its twin was faster: replaced",
        "Every event and canary takes three times as long in this instance. It is found, stands trial, and loses it.",
        _replaced,
    ),
    Ending(
        "Its twin was no faster: it is not the instance",
        "A dependency that only this cell has takes 300 ms more, whichever instance asks. Nothing is replaced.",
        _not_the_instance,
    ),
    Ending(
        "It has more to do: workload",
        "One tenant sends seventeen times as much, and all others wait for it. Another instance would be as slow.",
        _workload,
    ),
    Ending(
        "One router has a slow path to it",
        "What this router sends takes 150 ms more. The other router and the leader find nothing.",
        _slow_path,
    ),
    Ending(
        "It hung: ejected, ended, replaced",
        "It answers nothing. Its events wait from then on; there is nothing to try, so it stands no trial.",
        _hung,
    ),
    Ending(
        "It recovered by itself",
        "It was slow, and is not any more while its twin is being launched. Its twin is no faster, and goes.",
        _recovered,
    ),
)


def page() -> str:
    """Tell all stories in Markdown, each with what `cellrouter explain` prints at its end."""
    return "\n".join(f"## {each.title}\n\n{each.about}\n\n{_indented(explained(each))}" for each in ENDINGS)


def explained(ending: Ending) -> str:
    """Play a story, and return what `cellrouter explain` prints of its cell at the end."""
    from router.cli import explain  # noqa: PLC0415 - only here: the command's own imports take time

    registry = _played(ending)
    with (
        patch.object(explain, "ask", lambda question: asyncio.run(question(registry))),
        patch.dict(os.environ, {"COLUMNS": str(COLUMNS)}),
        redirect_stdout(StringIO()) as printed,
    ):
        explain.explain(VICTIM)
    return printed.getvalue()


def _played(ending: Ending) -> MemoryRegistry:
    """Return the registry as it is at the end of the story."""
    world = PathWorld()
    world.warm_up_s = WARM_UP_S

    async def story() -> MemoryRegistry:
        async with world.running(routers=2):
            loading = asyncio.create_task(world.send_steadily(RATES, LOAD_S))
            await world.clock.sleep(LEARN_S)
            await ending.tell(world)
            clock = FakeClock()
            clock.now = world.clock.now
            kept = MemoryRegistry(clock)
            kept.contents = deepcopy(world.control.contents)
            loading.cancel()
            return kept

    return play(world.clock, story())


def _indented(text: str) -> str:
    """Make printed tables a block of code, without those that are LEFT_OUT and without blanks at the ends of lines."""
    kept = "".join(table for table in TITLES.split(text) if not table.startswith(LEFT_OUT))
    return "".join(f"    {line}".rstrip() + "\n" for line in kept.strip().splitlines())
