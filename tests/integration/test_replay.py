"""`cellrouter replay` with real processes: from a bug's dead letters through another environment to the redrive."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.aio import until
from tests.support.system import System

pytestmark = pytest.mark.one_kind  # whole systems


class Other:
    """The environment that is replayed into, and the command that does it."""

    def __init__(self, system: System, folder: Path) -> None:
        self.system = system
        self.checkpoint = folder / "replay.json"
        self.report = folder / "report.json"
        self._begun = datetime.now(UTC) - timedelta(seconds=1)  # noqa: TID251 - as a person would say it
        system.environ["CELLROUTER_ARCHIVE_ENABLED"] = "true"

    def replay(self, live: System) -> subprocess.Popen[str]:
        """Start the command, the same each time."""
        times = ("--from", self._begun.isoformat(), "--to", (self._begun + timedelta(hours=1)).isoformat())
        where = ("--env", self.system.name, "--of", live.name, "--rate", "20", "--wait", "3m")
        kept = ("--checkpoint", str(self.checkpoint), "--report", str(self.report))
        return subprocess.Popen(
            [sys.executable, "-m", "router", "replay", *where, *times, *kept],
            env=self.system.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    async def kill_under_way(self, process: subprocess.Popen[str]) -> None:
        """Kill the command once it has sent some events."""

        async def under_way() -> bool:
            assert process.poll() is None, process.communicate()[0]
            return self.checkpoint.exists() and json.loads(self.checkpoint.read_bytes())["sent"] >= 20

        await until(under_way, "the replay is under way")
        process.kill()
        process.communicate()

    async def try_all_of(self, live: System) -> None:
        """Replay what live has archived, with a kill on the way, until the report is there."""
        async with self.system.running():
            router = await self.system.router()
            await self.kill_under_way(self.replay(live))
            process = self.replay(live)
            try:
                await self.system.done(set(live.sent))
                await self.system.emptied(self.system.source)
                await router.signalled(signal.SIGTERM)  # which writes the archive before the minute is over
                said, _ = await asyncio.to_thread(process.communicate, timeout=120)
            finally:
                process.kill()
        assert process.returncode == 3, said
        assert "goes on after" in said
        assert "10  failed → ok" in said


def test_a_fix_is_tried_on_archived_events_and_then_the_dead_letters_are_redriven(
    on_system: Callable[..., System], redis_url: str, aws_endpoint: str, tmp_path: Path
) -> None:
    """The replay is killed and goes on; its report has the dead letters and nothing else; live does each event once."""
    fixed, folder = tmp_path / "fixed", tmp_path / "other"
    folder.mkdir()
    other = Other(System(redis_url, aws_endpoint, folder, cells=2, fifo=False), folder)

    async def story(live: System) -> None:
        router = await live.router()
        bad = {"do": "fail", "until": str(fixed)}
        # Each bad event has a key of its own: three failures of a key in a row would put it into quarantine.
        await live.send([{"key": f"k{i % 11}", **(bad if i % 6 == 0 else {})} for i in range(60)])

        async def died() -> bool:
            return len(await live.dead_letters()) == 10

        await until(died, "the bug has its dead letters")
        await router.signalled(signal.SIGTERM)
        fixed.touch()
        await other.try_all_of(live)
        await live.router()
        live.cli("dlq", "redrive", "--reason", "max_attempts")
        await live.done(set(live.sent))

    live = on_system(story, archive_enabled="true", retry_max_attempts=2)
    found = json.loads(other.report.read_bytes())
    assert {row["event_id"] for row in found["rows"]} == {f"e{number}" for number in range(0, 60, 6)}
    assert {row["difference"] for row in found["rows"]} == {"outcome"}
    assert (found["events"], found["counts"]["same"], found["counts"]["outcome"]) == (60, 50, 10)
    for system in (live, other.system):
        assert Counter(deed["event"] for deed in system.deeds()) == Counter(live.sent)
