"""The command line on a registry in memory, with a leader that accepts every change at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from typer.testing import CliRunner

import router.bootstrap.registry
from router.adapters.clock import SystemClock
from router.cli.main import app
from router.core.models import CellRecord, LeaseView
from router.core.slot_map.slots import SLOTS, SlotMap
from tests.support.accepting_registry import AcceptingRegistry
from tests.support.keys import SECRET
from tests.support.memory_registry import MemoryRegistry


class Operated(AcceptingRegistry):
    """A registry with some cells that serve, whose leader accepts every change."""

    def __init__(self, cells: int = 2) -> None:
        super().__init__(SystemClock())
        has, names = self.contents, [f"cell-{i:04d}" for i in range(cells)]
        has.leader = ("controller-0", 1, 1e12)
        if cells:
            has.slot_map = SlotMap(1, tuple(names[slot * cells // SLOTS] for slot in range(SLOTS)))
        for name in names:
            has.cells[name] = CellRecord(name, generation=1, launched=1, verified=1)
            has.leases[name, 1] = (LeaseView(name, 1, f"{name}/1", "10.0.0.1:80", 8, ready=True, live=True), 1e12)


class CommandLine:
    """Runs commands on a registry, as a person would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, registry: Operated | None = None) -> None:
        self.registry = registry or Operated()
        self.contents = self.registry.contents

        @asynccontextmanager
        async def open_registry(_: object) -> AsyncIterator[MemoryRegistry]:
            yield self.registry

        monkeypatch.setattr(router.bootstrap.registry, "open_registry", open_registry)

    def __call__(self, *arguments: str, code: int = 0, columns: int = 200) -> str:
        """Run a command; return what it prints on both streams."""
        environ = {"CELLROUTER_SECRET": SECRET, "COLUMNS": str(columns)}
        result = CliRunner().invoke(app, arguments, env=environ)
        assert result.exit_code == code, f"{arguments}: {result.output}{result.exception!r}"
        return result.output
