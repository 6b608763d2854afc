"""A worker that ends because a background task has ended says which one and why, before it drains."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from cell_worker.contract.keys import cell_secret
from cell_worker.contract.process import configure_logs
from cell_worker.settings import WorkerSettings
from cell_worker.store.store import FencedError
from cell_worker.worker import TaskDiedError, Worker
from tests.support.keys import SECRET
from tests.support.runtime_world import emit, in_loop, make


async def dies() -> None:
    """End with an error that has a cause of its own."""
    try:
        int("what was read is no number")
    except ValueError as error:
        raise RuntimeError("can't go on") from error


async def is_fenced() -> None:
    """End as a task does when another instance has taken the cell."""
    raise FencedError("taken")


async def is_cancelled() -> None:
    """End as a task does that a handler has cancelled."""
    raise asyncio.CancelledError


async def ended(directory: Path, **works: Coroutine[Any, Any, None]) -> TaskDiedError | None:
    """What a worker makes of the end of tasks of these names."""
    settings = WorkerSettings(
        id="cell-0000",
        secret=SecretStr(cell_secret(SECRET, "live", "cell-0000")),
        handler="tests.support.trivial:handle",
        data_dir=directory,
        sink="none",
    )
    runtime, _ = await make(emit)
    tasks = {asyncio.create_task(work, name=name) for name, work in works.items()}
    await asyncio.wait(tasks)
    return Worker(settings)._dead_task(tasks, runtime)


def log_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The entries of the log so far."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@in_loop
async def test_the_cause_is_logged_with_its_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last words of the process name the cause, and the log has all of it, also beside another task's end."""
    configure_logs("json")
    died = await ended(tmp_path, dies=dies(), fenced=is_fenced())
    assert str(died) == "the task 'dies' ended: RuntimeError(\"can't go on\")"
    (error,) = [line for line in log_lines(capsys) if line["level"] == "error"]
    assert error["task"] == "dies"
    assert 'int("what was read is no number")' in error["exception"]


@in_loop
async def test_a_task_that_was_cancelled_has_died_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A handler that cancels every task of its loop ends its worker, and the log says so."""
    configure_logs("json")
    assert "the task 'sink' ended" in str(await ended(tmp_path, sink=is_cancelled()))
    assert [line["task"] for line in log_lines(capsys)] == ["sink"]


@in_loop
async def test_a_fenced_worker_has_no_dead_task(tmp_path: Path) -> None:
    """It ends in order, since another instance has the cell."""
    assert await ended(tmp_path, lease=is_fenced()) is None
