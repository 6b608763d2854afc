"""What a router tells of the stress runs that go through it, in environments where there may be any."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI

from router.core import telemetry
from router.core.load.tallies import RunTallies


class StressObserver:
    """Counts the events of stress runs. `handlers` has a function for the record that tells of them."""

    def __init__(self) -> None:
        self.tallies = RunTallies()
        self.handlers: Mapping[type, Callable[[Any], None]] = {telemetry.EventTimed: self.tallies.note}


def add_stress(app: FastAPI, tallies: RunTallies) -> None:
    """Let whoever runs a stress run ask what this router has counted of it."""

    @app.get("/stress/{run}", summary="Shows what this router has counted of a stress run; not in live.")
    async def stress_now(run: str) -> Mapping[str, Any]:
        return tallies.view(run)
