"""A demo that is killed by SIGKILL leaves neither processes nor files behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.aio import run, until
from tests.support.paths import REPOSITORY

DEMO = """
import subprocess, sys, time
from pathlib import Path
from router.demo.stack import _Undertaker
directory = Path(sys.argv[1])
with _Undertaker(directory) as undertaker:
    own = "import subprocess; subprocess.run(['sleep', '600'])"
    child = subprocess.Popen([sys.executable, "-c", own], start_new_session=True)
    undertaker.watch(child.pid)
    (directory / "pid").write_text(str(child.pid))
    if sys.argv[2] == "killed":
        time.sleep(600)
"""


def group_lives(pid: int) -> bool:
    """Tell whether a process of the group is left."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_killed_demo_takes_its_processes_and_files_with_it(tmp_path: Path) -> None:
    """Its children's own processes too; one that ends in order leaves what it has ended itself alone."""
    directory = tmp_path / "demo"
    directory.mkdir()
    command = [sys.executable, "-c", DEMO, str(directory), "killed"]
    demo = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})

    async def story() -> None:
        async def started() -> bool:
            return (directory / "pid").exists() and (directory / "pid").read_text() != ""

        await until(started, "the child runs")
        child = int((directory / "pid").read_text())
        demo.kill()
        demo.wait()

        async def gone() -> bool:
            return not group_lives(child) and not directory.exists()

        await until(gone, "the child, its own child and the files are gone")

    run(story())


def test_a_demo_that_ends_in_order_has_nobody_killed(tmp_path: Path) -> None:
    """Its children have ended by then, and another process may have got the number of one."""
    command = [sys.executable, "-c", DEMO, str(tmp_path), "in order"]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=True, timeout=60)
    child = int((tmp_path / "pid").read_text())
    assert group_lives(child)
    os.killpg(child, signal.SIGKILL)
