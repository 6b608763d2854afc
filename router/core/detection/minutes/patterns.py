"""Which patterns some minutes of one instance show, in words. Pure: sums in, sentences out.

A sentence says what was seen and how often, and names what may be behind it. It blames no instance: tenants and
dependencies make cells come and go as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp

from router.core.detection.minutes.observation import Observation, Pattern
from router.core.detection.paths import are_enough
from router.core.detection.thresholds import (
    GC_SHARE,
    LATE_S,
    MAX_SPELL_S,
    MIN_GROWTH,
    MIN_LATE,
    MIN_LATE_ALIKE,
    MIN_LATE_OF,
    MIN_LATE_SHARE,
    MIN_POINTS,
    MIN_SPELLS,
    MIN_STALL_RATIO,
    MIN_STALL_S,
    THROTTLED_SHARE,
)
from router.core.models import Reason


@dataclass(slots=True)
class Spell:
    """Some seconds in which a cell looked slow without a break."""

    begun_at: float
    last_at: float
    by_canary: bool = False  # for most vantage points, and not by its events alone
    longest_s: float = 0.0  # that a canary took meanwhile

    @property
    def lasted_s(self) -> float:
        """For how many seconds it lasted."""
        return self.last_at - self.begun_at


@dataclass(slots=True)
class Late:
    """The canaries of one vantage point, and those of them that were late or lost."""

    canaries: int = 0
    late: int = 0  # also those that failed
    answered_late: int = 0
    late_s: float = 0.0  # the sum of these latencies

    @property
    def share(self) -> float:
        """The share that was late or lost, 0 to 1."""
        return self.late / self.canaries if self.canaries else 0.0

    @property
    def is_lossy(self) -> bool:
        """Whether so many were late that it is no chance."""
        return self.late >= MIN_LATE and self.share >= MIN_LATE_SHARE

    def add(self, other: Late) -> None:
        """Count the other's canaries as well."""
        self.canaries += other.canaries
        self.late += other.late
        self.answered_late += other.answered_late
        self.late_s += other.late_s


@dataclass(frozen=True, slots=True)
class Minutes:
    """What some minutes of one instance were like."""

    span_s: float
    spells: Sequence[Spell]  # that are over
    points: Mapping[str, Late]  # by vantage point
    usual_canary_s: float
    growth: float  # natural logarithm of how much slower its canaries got, beside the other cells'; 0: not steadily
    throttled: float  # share of the time
    lag_s: float  # how late its event loop was at most, by its own word
    gc: float  # share of the time that garbage collection stopped it at most, by its own word

    @property
    def for_s(self) -> str:
        """The time that all this is of, in words."""
        return f"in the last {self.span_s / 60:.0f} min"


def observed(cell_id: str, minutes: Minutes) -> Iterator[Observation]:
    """Yield the patterns that the minutes show."""
    again = _again(minutes)
    if again is not None:
        yield again
    if again is None and (why := _why_partly_late(minutes)) is not None:
        yield Observation(Pattern.PARTLY_LATE, why)
    for why in _lossy_paths(cell_id, minutes):
        yield Observation(Pattern.LOSSY_PATH, why)
    if minutes.growth >= MIN_GROWTH:
        took = f"its canaries take {exp(minutes.growth):.1f} times as long as {minutes.span_s / 60:.0f} min ago"
        yield Observation(Pattern.GROWS_SLOWER, f"{took}, and it went up steadily: it may leak memory, or fill a disk")
    if minutes.throttled >= THROTTLED_SHARE:
        share = f"its CPU quota stopped it {minutes.throttled:.0%} of the time {minutes.for_s}"
        yield Observation(Pattern.THROTTLED, f"{share}: give it more CPU")


def _again(minutes: Minutes) -> Observation | None:
    """Return what comes again and again: stalls, or spells of slowness."""
    stalls = [spell for spell in minutes.spells if _is_stall(spell, minutes.usual_canary_s)]
    spells = [each for each in minutes.spells if each in stalls or 0 < each.lasted_s <= MAX_SPELL_S]
    if len(spells) < MIN_SPELLS:
        return None
    if 2 * len(stalls) > len(spells):
        took = _range([spell.longest_s for spell in stalls], ".1f")
        why = f"{len(stalls)} times {minutes.for_s} a canary took {took}, {_ms(minutes.usual_canary_s)} otherwise"
        return Observation(Pattern.STALLS, f"it stalls: {why}{_own_word(minutes)}")
    by_canary = 2 * sum(spell.by_canary for spell in spells) > len(spells)
    whose = "canaries, for most vantage points" if by_canary else "events, not of its canaries"
    lasted = _range([spell.lasted_s for spell in spells], ".0f")
    why = f"it comes and goes: {len(spells)} slow spells of {lasted} {minutes.for_s}, of its {whose}"
    return Observation(Pattern.COMES_AND_GOES, why)


def _is_stall(spell: Spell, usual_s: float) -> bool:
    """Tell whether a canary waited for a good part of the spell: then nothing was done in that time."""
    waited_s = spell.longest_s
    return spell.by_canary and waited_s >= max(MIN_STALL_S, MIN_STALL_RATIO * usual_s, spell.lasted_s / 2)


def _why_partly_late(minutes: Minutes) -> Reason | None:
    """Say that some of the cell's canaries are late or lost, wherever they come from; None where that is not so."""
    known = [late for late in minutes.points.values() if late.canaries >= MIN_LATE_OF]
    lossy = [late for late in known if late.is_lossy]
    if not are_enough(len(lossy), len(known)):
        return None
    points = f"{len(lossy)} of {len(known)} vantage points"
    what = _late_of(lossy, minutes.usual_canary_s)
    return f"{what}, for {points}, and not at the same moments: lost packets, or one bad thread or disk"


def _lossy_paths(cell_id: str, minutes: Minutes) -> Iterator[Reason]:
    """Say which vantage points alone have some of their canaries late or lost, while the others have hardly any."""
    known = {vantage: late for vantage, late in minutes.points.items() if late.canaries >= MIN_LATE_OF}
    lossy = {vantage: late for vantage, late in known.items() if late.is_lossy}
    rest = [late for vantage, late in known.items() if vantage not in lossy]
    if are_enough(len(lossy), len(known)) or len(rest) < MIN_POINTS:
        return
    for vantage, late in lossy.items():
        alike = late.share * sum(each.canaries for each in rest)  # that would be late if the rest were as lossy
        if alike < MIN_LATE_ALIKE or sum(each.late for each in rest) * MIN_LATE_ALIKE > alike:
            continue
        what = _late_of([late], minutes.usual_canary_s)
        yield f"{vantage} → {cell_id}: {what}, others' are in time: the path loses packets, it is not the cell"


def _late_of(points: Sequence[Late], usual_s: float) -> str:
    whole = Late()
    for late in points:
        whole.add(late)
    what = f"{whole.share:.0%} of its canaries ({whole.late} of {whole.canaries})"
    if not whole.answered_late:
        return f"{what} fail"
    fail = ", or fail" if whole.answered_late < whole.late else ""
    return f"{what} take {_ms(whole.late_s / whole.answered_late)} and not {_ms(usual_s)}{fail}"


def _own_word(minutes: Minutes) -> str:
    """Say what the instance itself has measured that may stall it."""
    said = [f"its event loop was {_ms(minutes.lag_s)} late"] * (minutes.lag_s >= LATE_S)
    said += [f"garbage collection stopped it {minutes.gc:.0%} of the time"] * (minutes.gc >= GC_SHARE)
    return f"; it says itself that {' and '.join(said)}" if said else ""


def _range(seconds: Sequence[float], form: str) -> str:
    """Write from what to what some times go, without the fifth at either end where there are many."""
    ordered = sorted(seconds)
    cut = len(ordered) // 5
    least, most = f"{ordered[cut]:{form}}", f"{ordered[-1 - cut]:{form}}"
    return f"{least} s" if least == most else f"{least} to {most} s"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
