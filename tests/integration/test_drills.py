"""Drills on an environment of this machine: one that holds, and one in which another cell breaks a promise."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from router.adapters.clock import SystemClock
from router.adapters.http_session import http_session
from router.core.drills.judging import DrillPart, ProbeSeen
from router.core.registry import Snapshot
from router.demo.drills.live import LiveLoad
from router.demo.local_context import of_environment
from tests.support.paths import REPOSITORY
from tests.support.system import page

pytestmark = [pytest.mark.one_kind, pytest.mark.alone]  # the environment has servers of its own

CELLS: Final = 3
LATE_MS: Final = "4000"  # others' p99 on a busy machine; a broken promise is twice as late


class Drilled:
    """An environment, and the commands that a person gives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CELLROUTER_")},
            "XDG_STATE_HOME": str(folder / "state"),
            "PYTHONPATH": str(REPOSITORY),
        }

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin a command."""
        return subprocess.Popen(
            [sys.executable, "-m", "router", *arguments],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run a command to its end; return what it prints."""
        with self.begin(*arguments) as process:
            said = process.communicate(timeout=240)
            assert process.returncode == code, f"{arguments}: {said}"
            return "".join(said)

    def json(self, *arguments: str) -> Any:
        """Return what a command prints as JSON."""
        with self.begin("--env", "stress", *arguments, "--json") as process:
            return json.loads(process.communicate(timeout=60)[0])


@pytest.fixture(scope="module")
def drilled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drilled]:
    """Make the environment `stress`, with cells that take faults."""
    found = Drilled(tmp_path_factory.mktemp("drills"))
    found("env", "create", "stress", "--cells", str(CELLS))
    try:
        yield found
    finally:
        context = of_environment(found.environ, "stress")
        assert context is not None
        os.kill(context.pid, signal.SIGKILL)  # all that it has started ends with it


def test_an_instance_is_killed_and_every_promise_holds(drilled: Drilled) -> None:
    """The report says so in words and in JSON, and the audit who did it and why."""
    file = drilled.folder / "kill.json"
    options = ("--for", "6s", "--rate", "60", "--p99-ms", LATE_MS, "--why", "as each week")
    said = drilled("drill", "kill", "--env", "stress", *options, "--json", str(file))
    report = json.loads(file.read_bytes())
    assert report["held"], said
    assert [finding["held"] for finding in report["findings"]] == [True] * 6
    victim = report["cell"]
    assert f"kill of {victim} in stress" in said
    assert "every promise held" in said
    assert report["keys"]["during"].keys() == {f"cell-{i:04d}" for i in range(CELLS)}
    cells = {cell["cell"]: cell["generation"] for cell in drilled.json("cells")}
    assert cells == {**dict.fromkeys(cells, 1), victim: 2}
    told = [(entry["action"], entry["cell_id"]) for entry in drilled.json("audit") if "drill" in entry["action"]]
    assert told == [("drill", victim), ("drill ended", victim)]
    assert "as each week" in drilled("--env", "stress", "audit", "--cell", victim)


def test_a_broken_promise_stops_the_drill_and_ends_the_fault(drilled: Drilled) -> None:
    """Another cell gets slow while one is slowed down on purpose: the report names the other one."""
    options = ("--cell", "cell-0001", "--for", "6s", "--rate", "60", "--p99-ms", LATE_MS)
    with drilled.begin("drill", "slow", "--env", "stress", *options) as process:
        assert process.stderr is not None
        until = next(line for line in process.stderr if "its instance gets slow" in line)
        drilled("--env", "stress", "chaos", "slow", "cell-0002", "--ms", str(2 * int(LATE_MS)), "--for", "12")
        said = until + "".join(process.communicate(timeout=240))
    assert process.returncode == 1, said
    assert "not every promise held: " in said
    assert "stopped: " in said
    assert "cell-0002" in said.partition("stopped: ")[2]
    address = next(cell["address"] for cell in drilled.json("cells") if cell["cell"] == "cell-0001")
    assert "slow" not in page(f"http://{address}/components")  # the drill's own fault has ended


def test_the_load_of_live_is_read_from_its_routers(drilled: Drilled) -> None:
    """Events that others send count for the part in which they are done, by the cells that have done them."""
    context = of_environment(drilled.environ, "stress")
    assert context is not None
    address = f"http://127.0.0.1:{context.variables['CELLROUTER_API_PORT']}"

    async def looked() -> tuple[ProbeSeen, ProbeSeen]:
        async with http_session() as session:
            load, nothing = LiveLoad(session, [address], SystemClock()), Snapshot(0, None, {}, (), "")
            await load.begin(nothing)
            load.enter(DrillPart.BEFORE)
            first = await load.seen(nothing)
            await asyncio.to_thread(drilled, "stress", "--env", "stress", "--rate", "40", "--for", "2s")
            return first, await load.seen(nothing)

    before, after = asyncio.run(looked())
    assert sum(keys.events for keys in before.keys.values()) == 0
    assert sum(keys.events for keys in after.keys.values()) >= 40
    assert all(keys.p99_ms > 0 for keys in after.keys.values())
    assert after.sent is None
