"""Which items go together, and when: a full batch at once, the rest after its time, and none is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from router.core.messages.batches import BATCH
from router.services.data_plane.batcher import Batcher
from tests.support.fake_clock import FakeClock, play

LINGER_S = 0.1


class Flushes:
    """Notes each batch with the time when it went; each takes a while, and some fail as a whole at first."""

    def __init__(self, clock: FakeClock, takes_s: float = 0.0, fail: int = 0) -> None:
        self.made: list[tuple[float, list[int]]] = []
        self.given_up: list[int] = []
        self.batcher: Batcher[int] = Batcher(
            self._flush, self.given_up.append, clock, max_tries=3, linger_s=LINGER_S, parallel=2
        )
        self._clock = clock
        self._began = clock.now
        self._takes_s = takes_s
        self._fail = fail

    async def _flush(self, items: Sequence[int]) -> Sequence[int]:
        self.made.append((round(self._clock.now - self._began, 6), list(items)))
        await self._clock.sleep(self._takes_s)
        self._fail -= 1
        return list(items) if self._fail >= 0 else []

    async def drained(self) -> None:
        """Run until everything that was put in has gone."""
        running = asyncio.create_task(self.batcher.run())
        await self.batcher.drained()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_a_full_batch_goes_at_once_and_the_rest_together_after_its_time() -> None:
    """Nothing waits for the sake of those that can't go with it."""
    clock = FakeClock()
    flushes = Flushes(clock)

    async def story() -> None:
        for item in range(2 * BATCH + 3):
            flushes.batcher.put(item)
        await flushes.drained()

    play(clock, story())
    full = list(range(BATCH)), list(range(BATCH, 2 * BATCH))
    assert flushes.made == [(0.0, full[0]), (0.0, full[1]), (LINGER_S, [20, 21, 22])]


def test_what_comes_while_the_first_waits_goes_with_it_and_ends_the_wait_when_it_fills_the_batch() -> None:
    """The wait of a batch that has gone does not cut short that of the next one."""
    clock = FakeClock()
    flushes = Flushes(clock)

    async def story() -> None:
        running = asyncio.create_task(flushes.batcher.run())
        for item in range(BATCH + 2):
            flushes.batcher.put(item)
            await clock.sleep(0.01)
        await flushes.batcher.drained()
        running.cancel()

    play(clock, story())
    assert flushes.made == [(0.09, list(range(BATCH))), (0.2, [10, 11])]


@example([0.0] * 33, 1.0, 0)  # what is left of a full batch that had to wait for a worker
@given(st.lists(st.floats(0, 0.3), max_size=60), st.floats(0, 0.5), st.integers(0, 6))
def test_every_item_is_flushed_or_given_up_whatever_comes_when(
    pauses_s: list[float], takes_s: float, fail: int
) -> None:
    """Also while all workers are busy, or pause after a failure."""
    clock = FakeClock()
    flushes = Flushes(clock, takes_s, fail)

    async def story() -> None:
        running = asyncio.create_task(flushes.batcher.run())
        for item, pause_s in enumerate(pauses_s):
            flushes.batcher.put(item)
            await clock.sleep(pause_s)
        await flushes.batcher.drained()
        running.cancel()

    play(clock, story())
    assert {item for _, items in flushes.made for item in items} == set(range(len(pauses_s)))
    tries = [item for _, items in flushes.made for item in items]
    assert all(tries.count(item) == 3 for item in flushes.given_up)
    assert all(0 < len(items) <= BATCH for _, items in flushes.made)
