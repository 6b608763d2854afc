"""How the demo ends: when it is interrupted, when a cell is never replaced, and when its ledger can't be written."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from router.adapters.clock import SystemClock
from router.demo.cloudtrail import LogFile
from router.demo.ledger import Evidence
from router.demo.run import DemoError, DemoOptions, _Demo, run_demo
from router.demo.source_and_sinks import SourceAndSinks
from router.demo.system_client import SystemClient
from router.demo.view import LiveView
from tests.support.aio import run

FILES = [LogFile(f"account-{i}", f"f{i}", b"", None) for i in range(3)]


class _System:
    """A system whose cells take a fault and never come back."""

    router_url = controller_url = "http://127.0.0.1:1"

    def __init__(self) -> None:
        self.hit = asyncio.Event()

    async def lanes(self) -> Sequence[dict[str, Any]]:
        return [{"cell_id": f"cell-{i}", "generation": 1, "state": "serving", "answered": 0} for i in range(2)]

    async def inject(self, *_: object) -> None:
        self.hit.set()
        await asyncio.Event().wait()


class _Source:
    """A bucket that stops taking files after two."""

    taken = 0

    async def put(self, key: str, _: bytes) -> str:
        self.taken += 1
        if self.taken > 2:
            await asyncio.Event().wait()
        return key


def options(json_file: Path | None = None) -> DemoOptions:
    """Return the options of a demo that generates its files."""
    given: dict[str, Any] = {"files": 3, "accounts": 3, "cells": 2, "seconds": 0.0, "json_file": json_file}
    others: dict[str, Any] = dict.fromkeys(set(DemoOptions.__dataclass_fields__) - set(given))
    return DemoOptions(**{**others, **given})


def demo_of(given: DemoOptions, system: _System, console: Console) -> _Demo:
    """Return a run of the demo on a system and a source that are not real."""
    clock = SystemClock()
    parts = cast("SystemClient", system), None, cast("SourceAndSinks", _Source())
    return _Demo(given, *parts, LiveView(console), clock, clock.monotonic())


def test_an_interrupted_demo_leaves_nothing_running() -> None:
    """What makes cells fail ends with it: else it goes on with a closed session, and dies with a traceback."""

    async def story() -> None:
        system = _System()
        demo = demo_of(options(), system, Console(file=io.StringIO()))
        feeding = asyncio.create_task(demo._feed(FILES))
        await system.hit.wait()
        feeding.cancel()
        await asyncio.wait([feeding])
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(story())


def test_a_cell_that_was_never_replaced_is_named_and_no_success() -> None:
    """Else a slow cell that nobody found would look like one that there was none of."""
    printed = io.StringIO()

    async def story() -> int:
        console = Console(file=printed, width=100)
        demo = demo_of(options(), _System(), console)
        return await demo._close(Evidence().ledger(never_replaced=["cell-1"]), [], console)

    assert run(story()) == 1
    assert "failed and never replaced" in printed.getvalue()
    assert "cell-1" in printed.getvalue()


@pytest.mark.parametrize(("file", "why"), [("nowhere/x", "there is no folder"), ("", "is a folder")])
def test_a_ledger_that_cant_be_written_is_said_before_anything_starts(tmp_path: Path, file: str, why: str) -> None:
    """Not after the whole run, and not as a fault of AWS."""
    given = options(tmp_path / file)
    with pytest.raises(DemoError, match=why):
        run(run_demo(given, {}, Console(file=io.StringIO()), SystemClock()))
