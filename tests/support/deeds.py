"""A handler for system tests: it does what the event's body says, and writes a line about each event to a file."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import time
from pathlib import Path

from cell_worker.api import Cell, Event, RejectEvent

FILE = "DEEDS_FILE"
"""The environment variable that names the file."""
CANARY_S = 0.04
"""How long the canary of Steady takes."""


async def handle(event: Event, cell: Cell) -> None:
    """Do what the body says, a map with these optional fields.

    - `sleep`: wait for so many seconds first.
    - `do`: `fail`, `reject`, `die` (by SIGKILL), `exit` or `hang` (by SIGSTOP, while the store is locked).
    - `until`: the name of a file. Once the file exists, `do` is ignored.
    - `once`: the name of a file that is made before the deed. Once it exists, `do` is ignored.
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
            case "exit":
                os._exit(3)
            case "hang":
                hang_in_a_transaction()
    at_ms = time.time_ns() // 1_000_000
    line = {"event": event.event_id, "key": event.partition_key, "cell": cell.cell_id, "generation": cell.generation}
    with open(os.environ[FILE], "a") as file:  # noqa: ASYNC230, PTH123 - one short line
        file.write(json.dumps(line | {"attempt": event.attempt, "at_ms": at_ms}) + "\n")


def hang_in_a_transaction() -> None:
    """Stop this process by SIGSTOP while it locks the cell's store, so that no other process can write to it."""
    store = sqlite3.connect(Path(os.environ["CELL_DATA_DIR"]) / "store.db", isolation_level=None)
    store.execute("BEGIN IMMEDIATE")
    os.kill(os.getpid(), signal.SIGSTOP)


class Steady:
    """The handler `handle` as a class, with a canary of fixed cost."""

    async def __call__(self, event: Event, cell: Cell) -> None:
        await handle(event, cell)

    async def canary(self, cell: Cell) -> None:
        await asyncio.sleep(CANARY_S)  # noqa: TID251 - a canary has its cost
