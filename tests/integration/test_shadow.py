"""`cellrouter shadow` with real processes: what happens in one environment is done in another, and compared."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from router.core.archive.replay import in_share
from tests.support import hurried
from tests.support.aio import until
from tests.support.system import System

pytestmark = pytest.mark.one_kind  # whole systems

SHARE = 0.5


class Mirror:
    """The environment that gets the share, and the command that sends it there."""

    def __init__(self, system: System, folder: Path) -> None:
        self.system = system
        self.report = folder / "report.json"
        self._archived = folder / "archived"
        self._waiting = Path(f"{self._archived}{hurried.WAITS}")
        system.environ |= {"CELLROUTER_ARCHIVE_ENABLED": "true", hurried.FILE: str(self._archived)}

    def shadow(self, live: System) -> subprocess.Popen[str]:
        """Start the command."""
        where = ("--env", self.system.name, "--of", live.name, "--share", str(SHARE), "--for", "2m")
        return subprocess.Popen(
            [sys.executable, "-m", hurried.__name__, "shadow", *where, "--report", str(self.report)],
            env=self.system.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    async def begun(self, process: subprocess.Popen[str]) -> None:
        """Wait until the command waits for the end of its first minute."""

        async def waits() -> bool:
            assert process.poll() is None, process.communicate()[0]
            return self._waiting.exists()

        await until(waits, "the shadow waits for the end of its minute")

    async def done(self, live: System, process: subprocess.Popen[str]) -> str:
        """Do what is mirrored, now that the minute counts as over; returns what the command says."""
        async with self.system.running():
            router = await self.system.router()
            self._archived.touch()
            await self.system.done(mirrored(live))
            await self.system.emptied(self.system.source)
            await router.signalled(signal.SIGTERM)  # which writes the archive before the minute is over
            said, _ = await asyncio.to_thread(process.communicate, timeout=120)
        assert process.returncode == 3, said
        return said


def mirrored(live: System) -> set[str]:
    """The events whose keys are in the share; some are, and some are not."""
    found = {name for name, key in live.key_of.items() if in_share(key, SHARE)}
    assert 0 < len(found) < len(live.sent)
    return found


def test_a_share_of_the_keys_is_done_in_the_other_environment_too_and_what_differs_is_told(
    on_system: Callable[..., System], redis_url: str, aws_endpoint: str, tmp_path: Path
) -> None:
    """Only those keys, each event once, with what a fix changes; in live nothing is done twice.

    The shadow runs from before the first event on. Its minute is over as soon as the archive is there.
    """
    fixed, folder = tmp_path / "fixed", tmp_path / "other"
    folder.mkdir()
    mirror = Mirror(System(redis_url, aws_endpoint, folder, cells=2, fifo=False), folder)

    async def story(live: System) -> None:
        router = await live.router()
        process = mirror.shadow(live)
        try:
            await mirror.begun(process)
            bad = {"do": "fail", "until": str(fixed)}
            await live.send([{"key": f"k{i % 7}", **(bad if i % 6 == 0 else {})} for i in range(60)])

            async def ended() -> bool:
                return len(await live.dead_letters()) == 10 and len(live.deeds()) == 50

            await until(ended, "live has done what it can")
            await router.signalled(signal.SIGTERM)
            fixed.touch()
            said = await mirror.done(live, process)
        finally:
            process.kill()
        assert f"{len(mirrored(live))} events are sent, minutes left out: 0" in said
        assert "failed → ok" in said

    live = on_system(story, archive_enabled="true", retry_max_attempts=2)
    failed = {f"e{number}" for number in range(0, 60, 6)}
    assert Counter(deed["event"] for deed in mirror.system.deeds()) == Counter(mirrored(live))
    assert Counter(deed["event"] for deed in live.deeds()) == Counter(set(live.sent) - failed)
    found = json.loads(mirror.report.read_bytes())
    assert {row["event_id"] for row in found["rows"]} == failed & mirrored(live) != set()
    assert (found["events"], {row["difference"] for row in found["rows"]}) == (len(mirrored(live)), {"outcome"})
