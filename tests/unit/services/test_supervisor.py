"""A process that ends because a background task has ended says which one and why, before anything else ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from cell_worker.contract.process import configure_logs
from router.adapters.logs import LogObserver, Observers
from router.adapters.metrics.router import RouterMetrics
from router.core.telemetry import TaskDied
from router.services.supervisor import TaskDiedError, run_until
from tests.support.router_world import Notes


async def works() -> None:
    """Run until cancelled."""
    await asyncio.Event().wait()


async def dies() -> None:
    """End with an error that has a cause of its own."""
    try:
        int("what was read is no number")
    except ValueError as error:
        raise RuntimeError("can't go on") from error


async def in_a_group() -> None:
    """End as a part does that runs several tasks."""
    async with asyncio.TaskGroup() as group:
        group.create_task(works())
        group.create_task(dies())


def log_lines(text: str) -> list[dict[str, Any]]:
    """The entries of a log in JSON."""
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("part", [dies, in_a_group])
def test_the_cause_is_logged_with_its_traceback(part: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Once, whatever number of tasks runs the one that has died; the error's own text tells the cause too."""
    configure_logs("json")
    observer = Observers(LogObserver(), RouterMetrics())

    async def process() -> None:
        inner = run_until(asyncio.Event(), {"good": works(), "bad": part()}, observer)
        await run_until(asyncio.Event(), {"api": works(), "work": inner}, observer)

    with pytest.raises(TaskDiedError, match=r"the task 'bad' ended: .*can't go on"):
        asyncio.run(process())
    (line,) = log_lines(capsys.readouterr().err)
    assert (line["level"], line["task"]) == ("error", "bad")
    assert 'int("what was read is no number")' in line["exception"]
    assert "RuntimeError: can't go on" in line["exception"]


def test_the_cause_is_told_before_the_other_tasks_end() -> None:
    """They may take long, or never end: a process that is killed meanwhile has said why it ends."""
    notes, told_first = Notes(), []

    async def ends_slowly() -> None:
        try:
            await works()
        finally:
            told_first.append(notes.count(TaskDied))

    with pytest.raises(TaskDiedError):
        asyncio.run(run_until(asyncio.Event(), {"slow": ends_slowly(), "bad": dies()}, notes))
    assert told_first == [1]


def test_a_task_that_returns_is_told_of_too() -> None:
    """No task ends by itself, so its end is an error also where it raised none."""
    notes = Notes()
    with pytest.raises(TaskDiedError, match="the task 'short' ended: None"):
        asyncio.run(run_until(asyncio.Event(), {"short": asyncio.sleep(0)}, notes))  # noqa: TID251 - ends at once
    assert notes.records == [TaskDied("short", None)]


def test_a_stop_and_a_cancellation_are_no_deaths() -> None:
    """Nothing is told when the tasks end because they were told to."""
    notes, stop = Notes(), asyncio.Event()

    async def stopped() -> None:
        asyncio.get_running_loop().call_soon(stop.set)
        await run_until(stop, {"good": works()}, notes)
        running = asyncio.create_task(run_until(asyncio.Event(), {"good": works()}, notes))
        await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop, not a wait
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(stopped())
    assert notes.records == []
