"""P7: what a killed controller has left running is ended by the next one of its machine; what serves is adopted."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.aio import run, until
from tests.leadership_world import is_gone, logged, pid_of, world

LIMIT_S = 240
REAPED_S = 60  # the promise


def test_the_next_leader_ends_what_a_killed_one_has_left(redis_url: str, aws_endpoint: str, tmp_path: Path) -> None:
    """An older generation that hangs, and instances of cells that there are not, one of them hanging: within 60 s.

    The instances that serve go on: nothing is started anew, and no generation ever had two instances.
    """

    async def story() -> None:
        async with world(redis_url, aws_endpoint, tmp_path, controllers=2) as w:
            first, served = w.leader, w.worker("cell-0000")
            hung = w.worker("cell-0001")
            hung.suspend()
            await w.serving({"cell-0000": 1, "cell-0001": 2})
            os.kill(first, signal.SIGKILL)  # before the grace, in which the old one could still end in order, is over
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
            assert {entry.action for entry in w.watcher.audit if f"/{second}/" in entry.who} == set()

    run(story(), LIMIT_S)
