"""Tells the registry once a second what this router sees of its cells. Without a registry the samples are dropped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from router.core.detection.samples import INTERVAL_S, MAX_TENANTS, CellSample, RouterSample
from router.core.errors import RegistryUnavailableError
from router.ports import Clock, RouterRegistry
from router.services.loop_lag import LoopLag


class Reporter:
    """Reports the samples of one router."""

    def __init__(
        self,
        router_id: str,
        registry: RouterRegistry,
        samples: Callable[[int], Mapping[str, CellSample]],
        lag: LoopLag,
        clock: Clock,
    ) -> None:
        self._router_id = router_id
        self._registry = registry
        self._samples = samples
        self._lag = lag
        self._clock = clock
        self._number = 0

    async def run(self) -> None:
        """Report once a second until cancelled."""
        while True:
            began = self._clock.monotonic()
            await self._clock.sleep(INTERVAL_S)
            self._number += 1
            sample = RouterSample(self._number, self._lag.worst_s(began), self._samples(MAX_TENANTS))
            with suppress(RegistryUnavailableError):
                await self._registry.note_sample(self._router_id, sample)
