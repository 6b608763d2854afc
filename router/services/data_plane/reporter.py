"""Tells the registry once a second what this router sees of its cells. A sample that can't be told is dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from router.core.detection.samples import INTERVAL_S, Canaries, CellSample, RehearsedPairs, RouterSample
from router.core.errors import RegistryUnavailableError
from router.ports import Clock, RouterRegistry
from router.services.loop_lag import LoopLag
from router.services.unforeseen import Unforeseen

AT_ONCE: Final = 50  # cells that are sampled before events go on: a few ms


class Reporter:
    """Reports the samples of one router."""

    def __init__(
        self,
        router_id: str,
        registry: RouterRegistry,
        samples: Callable[[int], Iterable[tuple[str, CellSample | None]]],
        canaries: Callable[[], Mapping[str, Canaries]],
        rehearsed: Callable[[], Mapping[str, RehearsedPairs]],
        lag: LoopLag,
        clock: Clock,
        unforeseen: Unforeseen,
    ) -> None:
        self._router_id = router_id
        self._registry = registry
        self._samples = samples
        self._canaries = canaries
        self._rehearsed = rehearsed
        self._lag = lag
        self._clock = clock
        self._unforeseen = unforeseen
        self._number = 0

    async def run(self) -> None:
        """Report once a second until cancelled."""
        while True:
            began = self._clock.monotonic()
            await self._clock.sleep(INTERVAL_S)
            self._number += 1
            try:
                await self._report(began)
            except RegistryUnavailableError:
                continue
            except Exception as error:  # noqa: BLE001 - a router that can't tell what it sees still routes
                self._unforeseen.note("report", error)

    async def _report(self, since: float) -> None:
        cells = {}
        for count, (cell_id, sample) in enumerate(self._samples(self._number), 1):
            if sample is not None:
                cells[cell_id] = sample
            if count % AT_ONCE == 0:
                await self._clock.sleep(0)
        seen = RouterSample(self._number, self._lag.worst_s(since), cells, self._canaries(), self._rehearsed())
        await self._registry.note_sample(self._router_id, seen)
