"""P7: the next controller on a machine ends what a killed one left running, and adopts what serves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from router.adapters.clock import SystemClock
from router.adapters.provisioners.subprocess import SubprocessConfig, SubprocessProvisioner
from tests.support.aio import run, until
from tests.support.leadership_world import is_gone, logged, pid_of, workers, world
from tests.support.paths import REPOSITORY

pytestmark = pytest.mark.one_kind  # it is about the controllers' processes

LIMIT_S = 240
REAPED_S = 60  # seconds, as P7 promises


def test_the_next_leader_ends_what_a_killed_one_has_left(redis_url: str, aws_endpoint: str, tmp_path: Path) -> None:
    """A hung old generation, and instances of unknown cells of which one hangs, are ended within 60 s.

    The instances that serve go on: nothing is started anew, and no generation ever had two instances.
    """

    async def story() -> None:
        async with world(redis_url, aws_endpoint, tmp_path, controllers=2) as w:
            first, served = w.leader, w.worker("cell-0000")
            hung = w.worker("cell-0001")
            hung.suspend()
            await w.serving({"cell-0000": 1, "cell-0001": 2})
            os.kill(first, signal.SIGKILL)  # so early that the old one is still within its grace to end in order
            assert not is_gone(hung)
            orphans = [hung, *[await w.leave_behind(cell_id, like=served) for cell_id in ("cell-0008", "cell-0009")]]
            orphans[1].send_signal(signal.SIGSTOP)
            second = pid_of(await w.leads_after(first))

            async def reaped() -> bool:
                return all(map(is_gone, orphans))

            await until(reaped, f"no orphan is left\n{w.system.logs()}", REAPED_S)
            stops = {(line["cell"], line["why"]) for line in logged(w.controllers[second]) if line["event"] == "stop"}
            assert stops == {
                ("cell-0001", "generation 2 serves the cell"),
                ("cell-0008", "no such cell"),
                ("cell-0009", "no such cell"),
            }
            await w.done("afterwards")
            assert not is_gone(served)
            # The leader ended those instances, and neither started nor admitted any.
            assert {entry.action for entry in w.watcher.audit if f"/{second}/" in entry.who} <= {"end"}

    run(story(), LIMIT_S)


KILLED_WHILE_IT_LAUNCHES = """
import asyncio, os, signal, sys
from pathlib import Path
import psutil
from router.adapters.clock import SystemClock
from router.adapters.keyring import Keyring
from router.adapters.provisioners.subprocess import SubprocessConfig, SubprocessProvisioner

class Popen(psutil.Popen):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        os.kill(os.getpid(), signal.SIGKILL)

psutil.Popen = Popen
directory = Path(sys.argv[1])
secret_of = Keyring(os.environ["CELL_ENVIRONMENT"], ["a secret"]).cell_secret
config = SubprocessConfig(directory / "run", os.environ, directory / "cells", 1, secret_of)
asyncio.run(SubprocessProvisioner(config, SystemClock(), print).launch("cell-0000", 1))
"""


def test_a_controller_that_is_killed_while_it_launches_leaves_no_orphan(redis_url: str, tmp_path: Path) -> None:
    """The controller is killed just after the start of the instance. The next controller finds it and can end it."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "CELL_ENVIRONMENT": f"t-{uuid.uuid4().hex[:8]}",
        "CELL_HANDLER": "tests.support.trivial:handle",
        "CELL_REDIS_URL": redis_url,
        "CELL_SINK": "none",
    }
    command = [sys.executable, "-c", KILLED_WHILE_IT_LAUNCHES, str(tmp_path)]
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL

    async def story() -> None:
        config = SubprocessConfig(tmp_path / "run", environment, tmp_path / "cells", 5, str)
        provisioner = SubprocessProvisioner(config, SystemClock(), print)

        async def found() -> bool:
            return [(i.cell_id, i.generation, i.running) for i in await provisioner.observe()] == [
                ("cell-0000", 1, True)
            ]

        await until(found, "the instance is found")
        await provisioner.stop_all()
        assert list(workers(environment["CELL_ENVIRONMENT"])) == []

    try:
        run(story())
    finally:
        for worker in workers(environment["CELL_ENVIRONMENT"]):
            worker.kill()
