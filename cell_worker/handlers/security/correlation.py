"""Evaluates Sigma correlation rules within one log object.

A correlation sees the records of one object and nothing else. No state is kept between objects, so the findings do not
depend on the order of the objects, on how often they are delivered, and on the instance that gets them. The price: a
burst that CloudTrail spreads over two objects is counted in each of them alone.

A window starts at a matching record and lasts for the rule's timespan. The earliest window that meets the condition is
a finding with all records in it, and the search goes on after that window. A record without a readable time is not
counted.

`temporal_ordered` wants its rules to match in the order in which it names them, each another record. Its window starts
at a record with which such a sequence begins. CloudTrail tells times in seconds: records of one second have any order.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final

import msgspec
from sigma.correlations import (
    SigmaCorrelationCondition,
    SigmaCorrelationConditionOperator,
    SigmaCorrelationRule,
    SigmaCorrelationType,
)

from cell_worker.handlers.security.matching import Record, find
from cell_worker.handlers.security.values import UnsupportedRule, time_of

MAX_TIMESPAN_S: Final = 1_000_000_000
"""The longest timespan in use: longer than any log. Python's timedelta can't be much longer."""

NO_MORE_THAN: Final = (
    "that there were no more than so many events can't be told from one log object: write at least how many, as in"
)

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
    order: tuple[str, ...] = ()  # the rules in the order in which they must match; none: in any

    def windows_of(self, group: Group, hits: list[Hit]) -> Iterator[Window]:
        """Find the windows of one group that meet the condition, in the order of time."""
        return self._ordered_windows(group, hits) if self.order else self._counted_windows(group, hits)

    def _counted_windows(self, group: Group, hits: list[Hit]) -> Iterator[Window]:
        """Both ends of a window move over the hits once. Each hit enters the tally once and leaves it once."""
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

    def _ordered_windows(self, group: Group, hits: list[Hit]) -> Iterator[Window]:
        """Each record is looked at once to find a sequence's end, and once more to count a window's rules."""
        records = self._records(hits)
        begin, at, sequences = 0, 0, _Sequences(len(self.order))
        while at < len(records):
            sequences.add(at, records[at].places)
            first = sequences.latest_start(self.enough)
            if first is None or records[at].time - records[first.at].time > self.timespan:
                at += 1
                continue
            start = self._earliest_start(records, begin, at, first.place)
            at = self._end(records, start)
            inside = _Sequences(len(self.order))
            for number in range(start, at):
                inside.add(number, records[number].places)
            found = [hit for record in records[start:at] for hit in record.hits]
            yield Window(group, inside.longest(), tuple(found))
            begin, sequences = at, _Sequences(len(self.order))

    def _records(self, hits: list[Hit]) -> list[_OrderedRecord]:
        """Put hits together by record. Records of one second come in the order that the rules want."""
        places: dict[str, list[int]] = defaultdict(list)
        for place, rule_id in enumerate(self.order):
            places[rule_id].append(place)
        hits.sort(key=lambda hit: (hit.index, hit.rule_id))
        records = []
        for _, of_record in groupby(hits, key=lambda hit: hit.index):
            together = tuple(of_record)
            every = sorted(place for hit in together for place in places[hit.rule_id])
            records.append(_OrderedRecord(together[0].time, tuple(every), together))
        return sorted(records, key=lambda record: (record.time, record.places, record.hits[0].index))

    def _earliest_start(self, records: list[_OrderedRecord], begin: int, end: int, place: int) -> int:
        """The first record of a sequence that ends at `end`: the later ones that begin it too belong to its window."""
        return next(
            at
            for at in range(begin, end)
            if place in records[at].places and records[end].time - records[at].time <= self.timespan
        )

    def _end(self, records: list[_OrderedRecord], start: int) -> int:
        end = start
        while end < len(records) and records[end].time - records[start].time <= self.timespan:
            end += 1
        return end


@dataclass(frozen=True, slots=True)
class _OrderedRecord:
    """A record, and the places of the rules that it matches in the order that a correlation wants."""

    time: datetime
    places: tuple[int, ...]
    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True, order=True)
class _Start:
    """The first record of a sequence, and the place of the rule that it matches there."""

    at: int
    place: int


class _Sequences:
    """The sequences among the records so far: for each length and last rule, the one that starts latest."""

    def __init__(self, rules: int) -> None:
        self._starts: list[list[_Start | None]] = [[None] * rules for _ in range(rules)]  # by length - 1, and rule

    def add(self, at: int, places: tuple[int, ...]) -> None:
        """Prolong what there is by a record. Longer ones first, so that no sequence has the record twice."""
        for length in reversed(range(len(self._starts))):
            for place in places:
                start = _latest(self._starts[length - 1][:place]) if length else _Start(at, place)
                self._starts[length][place] = _latest([start, self._starts[length][place]])

    def latest_start(self, length: int) -> _Start | None:
        """Where the shortest sequence of so many rules starts."""
        return _latest(self._starts[length - 1]) if length <= len(self._starts) else None

    def longest(self) -> int:
        """How many rules the longest sequence has."""
        return sum(any(starts) for starts in self._starts)


def _latest(starts: Iterable[_Start | None]) -> _Start | None:
    return max((start for start in starts if start is not None), default=None)


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
    for reference in rule.referenced_rules:
        if isinstance(reference.rule, SigmaCorrelationRule):
            counted = ", ".join(each.reference for each in reference.rule.referenced_rules)
            raise UnsupportedRule(
                f"correlation.rules: {reference.reference} is itself a correlation, and correlations of correlations "
                f"are not supported: write the rules that it counts ({counted}), or look for both in the findings"
            )
    return Correlation(
        rule_ids=frozenset(str(reference.rule.id) for reference in rule.referenced_rules),
        timespan=timedelta(seconds=min(rule.timespan.seconds, MAX_TIMESPAN_S)),
        group_of=_grouping(rule),
        counted=_counted(rule),
        enough=_enough(rule.condition),
        replaces=not rule.generate,
        order=_order(rule),
    )


def _order(rule: SigmaCorrelationRule) -> tuple[str, ...]:
    if rule.type is not SigmaCorrelationType.TEMPORAL_ORDERED:
        return ()
    order = tuple(str(reference.rule.id) for reference in rule.referenced_rules)
    if _enough(rule.condition) > len(order):
        raise UnsupportedRule(f"correlation.condition: it could never match: there are only {len(order)} rules")
    return order


def _aware_time(record: Record) -> datetime | None:
    time = time_of(record.get("eventTime"))
    return time if time is not None and time.tzinfo is not None else None


def _enough(condition: Any) -> int:
    if not isinstance(condition, SigmaCorrelationCondition):
        raise UnsupportedRule(
            "correlation.condition: extended conditions (and, or, not) are not supported: write how many, as in gte: 2"
        )
    match condition.op:
        case SigmaCorrelationConditionOperator.GTE:
            return max(1, -int(-condition.count // 1))
        case SigmaCorrelationConditionOperator.GT:
            return max(1, int(condition.count // 1) + 1)
        case other:
            raise UnsupportedRule(
                f"correlation.condition: {other.name.lower()} is not supported: {NO_MORE_THAN} gte: 5"
            )


def _counted(rule: SigmaCorrelationRule) -> Counted:
    match rule.type:
        case SigmaCorrelationType.EVENT_COUNT:
            return _the_record
        case SigmaCorrelationType.TEMPORAL | SigmaCorrelationType.TEMPORAL_ORDERED:
            return _the_rule
        case SigmaCorrelationType.VALUE_COUNT:
            assert isinstance(rule.condition, SigmaCorrelationCondition)
            return _values(rule.condition.fieldref)
        case other:
            raise UnsupportedRule(
                f"correlation.type: {other.name.lower()} is not supported: write event_count, value_count, temporal or "
                "temporal_ordered"
            )


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


_SORTED: Final = msgspec.json.Encoder(decimal_format="number", order="sorted")


def _key(values: Any) -> str:
    """Write the values of a field as one text, so that groups of any JSON values can be compared and sorted."""
    text = _SORTED.encode([value for value in values if value is not None])
    return text.decode() if len(text) <= MAX_KEY_CHARS else f"sha256 {hashlib.sha256(text).hexdigest()}"
