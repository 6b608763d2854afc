"""Evaluates Sigma correlation rules within one log object.

A correlation sees the records of one object and nothing else. No state is kept between objects, so the findings do not
depend on the order of the objects, on how often they are delivered, and on the instance that gets them. The price: a
burst that CloudTrail spreads over two objects is counted in each of them alone.

A window starts at a matching record and lasts for the rule's timespan. The earliest window that meets the condition is
a finding with all records in it, and the search goes on after that window. A record without a readable time is not
counted.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sigma.correlations import (
    SigmaCorrelationCondition,
    SigmaCorrelationConditionOperator,
    SigmaCorrelationRule,
    SigmaCorrelationType,
)
from sigma.rule import SigmaRule

from cell_worker.handlers.security.matching import Record, find
from cell_worker.handlers.security.values import UnsupportedRule, time_of

MAX_TIMESPAN_S: Final = 1_000_000_000
"""The longest timespan in use: longer than any log. Python's timedelta can't be much longer."""

Group = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """One record that one of the correlation's rules has matched."""

    time: datetime
    index: int  # in the log object
    rule_id: str
    record: Record


@dataclass(frozen=True, slots=True)
class Window:
    """Records that together meet a correlation. `count` is their number, or that of their distinct values or rules."""

    group: Group
    count: int
    hits: tuple[Hit, ...]  # in the order of their times


Counted = Callable[[Hit], Hashable | None]
"""What of a hit is counted, as the rule's type says: its record, a field's values or its rule. None counts for nothing.

A window's count is the number of its different ones. Each hit is asked once, so it is for the window to remember."""


@dataclass(frozen=True, slots=True)
class Correlation:
    """A correlation rule, compiled for evaluation."""

    rule_ids: frozenset[str]
    timespan: timedelta
    group_of: Callable[[Hit], Group]
    counted: Counted
    enough: int  # a window with this count is a finding
    replaces: bool  # its findings replace those of the rules it counts; Sigma's `generate: true` keeps both

    def windows(self, matches: Mapping[str, Sequence[tuple[int, Record]]]) -> list[Window]:
        """Find the windows that meet the condition, sorted by group and time. `matches`: rule id → (index, record)."""
        groups: defaultdict[Group, list[Hit]] = defaultdict(list)
        for hit in _hits(self.rule_ids, matches):
            groups[self.group_of(hit)].append(hit)
        return [window for group, hits in sorted(groups.items()) for window in self._windows_of(group, hits)]

    def _windows_of(self, group: Group, hits: list[Hit]) -> list[Window]:
        """Move both ends of the window over the hits once. Each hit enters the tally once and leaves it once."""
        hits.sort(key=lambda hit: (hit.time, hit.index, hit.rule_id))
        counted = [self.counted(hit) for hit in hits]
        found, start, end, tally = [], 0, 0, _Tally()
        while start < len(hits):
            while end < len(hits) and hits[end].time - hits[start].time <= self.timespan:
                tally.add(counted[end])
                end += 1
            if len(tally) >= self.enough:
                found.append(Window(group, len(tally), tuple(hits[start:end])))
                start, tally = end, _Tally()
            else:
                tally.remove(counted[start])
                start += 1
        return found


class _Tally:
    """How many different things are in a window, as they enter and leave it."""

    def __init__(self) -> None:
        self._times: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return len(self._times)

    def add(self, thing: Hashable | None) -> None:
        if thing is not None:
            self._times[thing] += 1

    def remove(self, thing: Hashable | None) -> None:
        if thing is not None:
            self._times[thing] -= 1
            if not self._times[thing]:
                del self._times[thing]


def compile_correlation(rule: SigmaCorrelationRule) -> Correlation:
    """Compile a correlation rule whose references are resolved. Raises UnsupportedRule."""
    referenced = [reference.rule for reference in rule.referenced_rules]
    if any(not isinstance(target, SigmaRule) for target in referenced):
        raise UnsupportedRule("a correlation of correlations is not supported")
    ids = frozenset(str(target.id) for target in referenced)
    return Correlation(
        rule_ids=ids,
        timespan=timedelta(seconds=min(rule.timespan.seconds, MAX_TIMESPAN_S)),
        group_of=_grouping(rule),
        counted=_counted(rule),
        enough=_enough(rule.condition),
        replaces=not rule.generate,
    )


def _hits(rule_ids: frozenset[str], matches: Mapping[str, Sequence[tuple[int, Record]]]) -> list[Hit]:
    return [
        Hit(time, index, rule_id, record)
        for rule_id in rule_ids
        for index, record in matches.get(rule_id, ())
        if (time := _aware_time(record)) is not None
    ]


def _aware_time(record: Record) -> datetime | None:
    time = time_of(record.get("eventTime"))
    return time if time is not None and time.tzinfo is not None else None


def _enough(condition: Any) -> int:
    if not isinstance(condition, SigmaCorrelationCondition):
        raise UnsupportedRule("extended correlation conditions (and, or, not) are not supported")
    match condition.op:
        case SigmaCorrelationConditionOperator.GTE:
            return max(1, -int(-condition.count // 1))
        case SigmaCorrelationConditionOperator.GT:
            return max(1, int(condition.count // 1) + 1)
        case other:
            raise UnsupportedRule(
                f"correlation condition {other.name.lower()} is not supported: that there were no more than so many "
                "events can't be told from one log object"
            )


def _counted(rule: SigmaCorrelationRule) -> Counted:
    match rule.type:
        case SigmaCorrelationType.EVENT_COUNT:
            return lambda hit: hit.index
        case SigmaCorrelationType.TEMPORAL:
            return lambda hit: hit.rule_id
        case SigmaCorrelationType.VALUE_COUNT:
            assert isinstance(rule.condition, SigmaCorrelationCondition)
            return _values(rule.condition.fieldref)
        case other:
            raise UnsupportedRule(f"correlation type {other.name.lower()} is not supported")


def _values(fields: str | list[str] | None) -> Counted:
    names = [fields] if isinstance(fields, str) else list(fields or [])
    finders = [find(name) for name in names]

    def counted(hit: Hit) -> Group | None:
        values = tuple(_key(finder(hit.record)) for finder in finders)
        return values if any(part != _NOTHING for part in values) else None

    return counted


def _grouping(rule: SigmaCorrelationRule) -> Callable[[Hit], Group]:
    aliases = {alias.alias: _alias_fields(alias.mapping) for alias in rule.aliases}
    names = rule.group_by or []
    plain = {name: find(name) for name in names}

    def group_of(hit: Hit) -> Group:
        return tuple(_key(aliases.get(name, {}).get(hit.rule_id, plain[name])(hit.record)) for name in names)

    return group_of


def _alias_fields(mapping: Mapping[Any, str]) -> dict[str, Callable[[Any], Any]]:
    return {str(reference.rule.id): find(field) for reference, field in mapping.items()}


_NOTHING: Final = "[]"
"""The key of a field that is missing or null. Such records form a group of their own."""


MAX_KEY_CHARS: Final = 256
"""Longer keys are kept as digests: a log may hold the same long text in every record, and each is a key."""


def _key(values: Any) -> str:
    """Write the values of a field as one text, so that groups of any JSON values can be compared and sorted."""
    text = msgspec.json.encode([value for value in values if value is not None], order="sorted")
    return text.decode() if len(text) <= MAX_KEY_CHARS else f"sha256 {hashlib.sha256(text).hexdigest()}"
