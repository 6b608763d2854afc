"""When a drill that is repeated is due: once in each period, while its window is open. Pure; all times are UTC."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

_BETWEEN: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-(?:([01]\d|2[0-3]):([0-5]\d)|24:00)", re.ASCII)
_DAY: Final = 24 * 60
_LONGEST_DAYS: Final = 33  # until the next period begins, whatever the period


class Every(StrEnum):
    """How often a drill is repeated: once in each day, week (from Monday) or month."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class DrillWindow:
    """The part of each day in which a drill may begin, in minutes since midnight; it may go on after midnight."""

    opens: int = 0
    closes: int = _DAY

    @property
    def minutes(self) -> int:
        """For how long it is open."""
        return (self.closes - self.opens - 1) % _DAY + 1


def window_of(text: str) -> DrillWindow:
    """Read a window as people write it, `10:00-16:00`. Raises ValueError with what it must be."""
    found = _BETWEEN.fullmatch(text)
    if found is None:
        raise ValueError("must be two times of day in UTC, as 10:00-16:00 or 22:00-04:00")
    closes = 60 * int(found[3]) + int(found[4]) if found[3] else _DAY
    return DrillWindow(60 * int(found[1]) + int(found[2]), closes)


def due_ms(every: Every, window: DrillWindow, last_ms: int | None, now_ms: int) -> int:
    """Return when the next drill is due, now or later, in ms since 1970; `last_ms` is when the last one began.

    Periods are the calendar's, so that it never gets later from one to the next. What is done after midnight, in a
    window that opened before it, is of the day before.
    """
    shift = timedelta(minutes=window.opens)
    now = _time(now_ms)
    done = _period(every, _time(last_ms) - shift) if last_ms is not None else None
    midnight = (now - shift).replace(hour=0, minute=0, second=0, microsecond=0)
    for day in range(_LONGEST_DAYS):
        opens = midnight + timedelta(days=day) + shift
        moment = max(opens, now)
        if moment < opens + timedelta(minutes=window.minutes) and _period(every, opens - shift) != done:
            return round(moment.timestamp() * 1000)
    raise AssertionError("each period begins within 33 days")


def _period(every: Every, at: datetime) -> tuple[int, ...]:
    match every:
        case Every.DAY:
            return at.year, at.month, at.day
        case Every.WEEK:
            return tuple(at.isocalendar()[:2])
        case Every.MONTH:
            return at.year, at.month


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
