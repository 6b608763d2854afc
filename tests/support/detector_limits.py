"""The real detector with other limits than it has, to see what it would find and whom it would wrong with them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random  # noqa: TID251 - seeded by whoever draws
from types import ModuleType
from typing import Final

from router.core.detection import thresholds
from router.core.detection.assessment import Verdict
from tests.support.detector_simulation import CANARY, Contestant, Done, RealDetector
from tests.support.detector_world import World

LIMITS: Final = (1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
NAME: Final = "MAX_RATIO"
USUAL: Final = thresholds.MAX_RATIO


@dataclass(slots=True)
class WithLimit:
    """The real detector, whose main rule has another limit while it is at work."""

    limit: float
    detector: RealDetector

    def learn(self, now: float, world: World, done: Done) -> None:
        with limited(self.limit):
            self.detector.learn(now, world, done)

    def second(self, now: float, world: World, done: Done) -> Mapping[str, Verdict]:
        with limited(self.limit):
            return self.detector.second(now, world, done)


@contextmanager
def limited(limit: float) -> Iterator[None]:
    """Let the main rule have another limit, for as long as this lasts."""
    for module in _modules():
        vars(module)[NAME] = limit
    try:
        yield
    finally:
        for module in _modules():
            vars(module)[NAME] = USUAL


def with_other_limits(number: int, draw: Random) -> dict[str, Contestant]:
    """Return the real detector once for each limit, by the limit."""
    return {f"{limit:g}": WithLimit(limit, RealDetector(Random(draw.random()), CANARY)) for limit in LIMITS}


def _modules() -> list[ModuleType]:
    """Return the modules that have imported the limit."""
    own = thresholds.__name__.rpartition(".")[0]
    return [module for name, module in sys.modules.items() if name.startswith(own) and NAME in vars(module)]
