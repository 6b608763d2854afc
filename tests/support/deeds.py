"""A handler for system tests: it does what the event's body says, and leaves a line for each effect in a file."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import time
from pathlib import Path

from cell_worker.api import Cell, Event, RejectEvent

FILE = "DEEDS_FILE"  # the variable that names it
CANARY_S = 0.04


async def handle(event: Event, cell: Cell) -> None:
    """`{"sleep": s, "do": "fail" | "reject" | "die" | "freeze", "until": file, "once": file}`.

    No deed any more once the file `until` is there; `once` is made before the deed, and no deed is done after that.
    """
    body = json.loads(event.body)
    await asyncio.sleep(body.get("sleep", 0))  # noqa: TID251 - the test needs work that takes time
    files = [Path(body[name]) for name in ("until", "once") if name in body]
    if not any(file.exists() for file in files):
        if "once" in body:
            files[-1].touch()
        match body.get("do"):
            case "fail":
                raise ValueError("told to fail")
            case "reject":
                raise RejectEvent("told to reject")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "freeze":
                freeze_in_a_transaction()
    at_ms = time.time_ns() // 1_000_000
    line = {"event": event.event_id, "key": event.partition_key, "cell": cell.cell_id, "generation": cell.generation}
    with open(os.environ[FILE], "a") as file:  # noqa: ASYNC230, PTH123 - one short line
        file.write(json.dumps(line | {"attempt": event.attempt, "at_ms": at_ms}) + "\n")


def freeze_in_a_transaction() -> None:
    """SIGSTOP while the cell's store is locked: nobody else can write to it as long as this process is there."""
    store = sqlite3.connect(Path(os.environ["CELL_DATA_DIR"]) / "store.db", isolation_level=None)
    store.execute("BEGIN IMMEDIATE")
    os.kill(os.getpid(), signal.SIGSTOP)


class Steady:
    """The same as a class, with a canary of fixed cost."""

    async def __call__(self, event: Event, cell: Cell) -> None:
        await handle(event, cell)

    async def canary(self, cell: Cell) -> None:
        await asyncio.sleep(CANARY_S)  # noqa: TID251 - as above
