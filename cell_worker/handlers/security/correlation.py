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
from collections.abc import Callable, Hashable, Iterator, Mapping
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
    """One record that one of the correlation's rules has matched. The record itself is not kept."""

    time: datetime
    index: int  # in the log object
    rule_id: str
    counted: Hashable | None  # what of it counts: its record, a field's values or its rule. None: nothing


@dataclass(frozen=True, slots=True)
class Window:
    """Records that together meet a correlation. `count` is their number, or that of their distinct values or rules."""

    group: Group
    count: int
    hits: tuple[Hit, ...]  # in the order of their times


Counted = Callable[[int, str, Record], Hashable | None]
"""Says what of a record counts, from its index, the rule that it matches, and itself."""


@dataclass(frozen=True, slots=True)
class Correlation:
    """A correlation rule, compiled for evaluation."""

    rule_ids: frozenset[str]
    timespan: timedelta
    group_of: Callable[[str, Record], Group]  # of a record that the rule with this id matches
    counted: Counted
    enough: int  # a window with this count is a finding
    replaces: bool  # its findings replace those of the rules it counts; Sigma's `generate: true` keeps both

    def windows_of(self, group: Group, hits: list[Hit]) -> Iterator[Window]:
        """Find the windows of one group that meet the condition, in the order of time.

        Both ends of a window move over the hits once. Each hit enters the tally once and leaves it once.
        """
        hits.sort(key=lambda hit: (hit.time, hit.index, hit.rule_id))
        start, end, tally = 0, 0, _Tally()
        while start < len(hits):
            while end < len(hits) and hits[end].time - hits[start].time <= self.timespan:
                tally.add(hits[end].counted)
                end += 1
            if len(tally) >= self.enough:
                yield Window(group, len(tally), tuple(hits[start:end]))
                start, tally = end, _Tally()
            else:
                tally.remove(hits[start].counted)
                start += 1


class Gathering:
    """What a correlation counts of one log, by group."""

    def __init__(self, correlation: Correlation) -> None:
        self._correlation = correlation
        self._groups: defaultdict[Group, list[Hit]] = defaultdict(list)
        self._known: dict[Hashable | None, Hashable | None] = {}  # so that equal things are in memory once

    def add(self, index: int, rule_id: str, record: Record) -> None:
        """Gather a record that one of the correlation's rules has matched, unless it tells no time."""
        if (time := _aware_time(record)) is not None:
            counted = self._correlation.counted(index, rule_id, record)
            hit = Hit(time, index, rule_id, self._known.setdefault(counted, counted))
            self._groups[self._correlation.group_of(rule_id, record)].append(hit)

    def windows(self) -> Iterator[Window]:
        """Yield the windows that meet the condition, sorted by group and time."""
        for group, hits in sorted(self._groups.items()):
            yield from self._correlation.windows_of(group, hits)


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
            return _the_record
        case SigmaCorrelationType.TEMPORAL:
            return _the_rule
        case SigmaCorrelationType.VALUE_COUNT:
            assert isinstance(rule.condition, SigmaCorrelationCondition)
            return _values(rule.condition.fieldref)
        case other:
            raise UnsupportedRule(f"correlation type {other.name.lower()} is not supported")


def _the_record(index: int, _rule_id: str, _record: Record) -> int:
    return index


def _the_rule(_index: int, rule_id: str, _record: Record) -> str:
    return rule_id


def _values(fields: str | list[str] | None) -> Counted:
    names = [fields] if isinstance(fields, str) else list(fields or [])
    finders = [find(name) for name in names]

    def counted(_index: int, _rule_id: str, record: Record) -> Group | None:
        values = tuple(_key(finder(record)) for finder in finders)
        return values if any(part != _NOTHING for part in values) else None

    return counted


def _grouping(rule: SigmaCorrelationRule) -> Callable[[str, Record], Group]:
    aliases = {alias.alias: _alias_fields(alias.mapping) for alias in rule.aliases}
    names = rule.group_by or []
    plain = {name: find(name) for name in names}

    def group_of(rule_id: str, record: Record) -> Group:
        return tuple(_key(aliases.get(name, {}).get(rule_id, plain[name])(record)) for name in names)

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
