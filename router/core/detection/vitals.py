"""What an instance measures of itself, in words: whether it is busy, or slow though it has nothing to wait for. Pure.

It is the instance's own word, so it decides nothing about that instance: an instance that is busy may be so because it
is sick. Only what many instances say at once keeps a cell from treatment: see the guards.
"""

from __future__ import annotations

from collections.abc import Iterator

from router.core.detection.thresholds import (
    BUSY_SHARE,
    GC_SHARE,
    LATE_S,
    SLOW_WRITE_S,
    STARVED_SHARE,
    STUCK_WRITE_S,
    THROTTLED_SHARE,
)
from router.core.models import Reason, Vitals


def why_busy(vitals: Vitals | None) -> Reason | None:
    """Say what keeps the instance's CPU from doing more, as it says itself; None when nothing does, or it says nothing.

    Python runs on one core at a time, so that a process which uses a whole one is busy, however many it may use.
    """
    if vitals is None:
        return None
    throttled, starved = why_throttled(vitals), is_starved(vitals)
    if not (throttled or starved or vitals.cpu * max(vitals.cpus, 1.0) >= BUSY_SHARE):
        return None
    waits = f"waits {_ms(vitals.waited or 0.0)} a second for a core" if starved else None
    return f"busy: {', '.join(filter(None, [used(vitals), throttled, waits]))}"


def why_throttled(vitals: Vitals) -> Reason | None:
    """Say how much of the time the instance's CPU quota stops it, and what to do; None when it hardly does."""
    if (vitals.throttled or 0.0) < THROTTLED_SHARE:
        return None
    return f"throttled by its CPU quota {vitals.throttled:.0%} of the time (give it more CPU)"


def is_starved(vitals: Vitals | None) -> bool:
    """Whether the instance waits for a core much of the time because of others on its machine, not of its own quota."""
    return vitals is not None and (vitals.waited or 0.0) - (vitals.throttled or 0.0) >= STARVED_SHARE


def used(vitals: Vitals) -> str:
    """Say how much of the CPU that it may use the instance uses."""
    if vitals.cpus <= 1:
        return f"{vitals.cpu:.0%} of its {vitals.cpus:g} CPU"
    return f"{vitals.cpu * vitals.cpus:.2f} of its {vitals.cpus:g} CPUs"


def told_by(vitals: Vitals | None) -> str | None:
    """Say whether an instance is busy by its own word, and what it finds slow in itself; None: it says nothing."""
    if vitals is None:
        return None
    return "; ".join([why_busy(vitals) or f"not busy: {used(vitals)}", *_slow_parts(vitals)])


def _slow_parts(vitals: Vitals) -> Iterator[Reason]:
    if vitals.write_s >= SLOW_WRITE_S:
        yield f"its store takes {_ms(vitals.write_s)} to write, {_ms(vitals.slowest_write_s)} at most"
    elif vitals.slowest_write_s >= STUCK_WRITE_S:
        yield f"a write to its store takes {_ms(vitals.slowest_write_s)}"
    if vitals.lag_s >= LATE_S:
        yield f"its event loop was {_ms(vitals.lag_s)} late"
    if vitals.gc >= GC_SHARE:
        yield f"garbage collection stops it {vitals.gc:.0%} of the time"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
