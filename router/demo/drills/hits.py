"""Makes cells fail while a demo runs, and waits until their replacements serve."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cell_worker.contract.protocol import Fault, FaultKind
from router.demo.system_client import SystemClient
from router.ports import Clock

SLOW: Final = Fault(FaultKind.SLOW, seconds=300, delay_s=0.5)
WAIT_S: Final = 45.0
POLL_S: Final = 0.1  # the most that a measured time is too long; polling more often would cost the cells CPU
Lane = dict[str, Any]


@dataclass(slots=True)
class Hits:
    """The cells that were made to fail, each with how long its replacement took; None: not yet.

    `lanes` tells of the lanes among which a cell is chosen.
    """

    system: SystemClient
    clock: Clock
    tell: Callable[[str], None]
    lanes: Callable[[], Awaitable[Sequence[Lane]]]
    replaced_in_s: dict[str, float | None] = field(default_factory=dict)

    async def hit_cells(self, cells: int) -> None:
        """Kill the busiest cell by SIGKILL, and make another one slow, of which only the latency then tells that.

        A single cell has no peers, by which it could be found to be slow.
        """
        await self._hit(Fault(FaultKind.CRASH), "SIGKILL to {}")
        if cells > 1:
            await self._hit(SLOW, f"every event of {{}} takes {SLOW.delay_s:g} s longer from now on")

    async def _hit(self, fault: Fault, text: str) -> None:
        lanes = [lane for lane in await self.lanes() if self._may_be_hit(lane)]
        if not lanes:
            self.tell("no cell serves that could be made to fail")
            return
        victim = max(lanes, key=lambda lane: lane["answered"])
        cell_id, generation = victim["cell_id"], victim["generation"]
        self.tell(text.format(f"{cell_id}, generation {generation}"))
        self.replaced_in_s[cell_id], began = None, self.clock.monotonic()
        await self.system.inject(victim, fault)
        while self.clock.monotonic() < began + WAIT_S:
            for lane in await self.system.lanes():
                if lane["cell_id"] == cell_id and lane["state"] == "serving" and lane["generation"] > generation:
                    self.replaced_in_s[cell_id] = round(self.clock.monotonic() - began, 3)
                    self.tell(f"{cell_id} serves again, generation {lane['generation']}")
                    return
            await self.clock.sleep(POLL_S)
        self.tell(f"{cell_id} was not replaced within {WAIT_S:g} s")

    def _may_be_hit(self, lane: Lane) -> bool:
        return lane["state"] == "serving" and lane["cell_id"] not in self.replaced_in_s
