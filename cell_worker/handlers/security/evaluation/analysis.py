"""Finds in one log object what the workload reports: a bounded answer, whatever the log holds.

A log may match a rule in each of its records. So the answer has at most MAX_SIGHTINGS and RULE_BYTES of each rule, and
counts the rest. The bounds are those of one rule: nobody can hide one finding behind many of another rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from cell_worker.api import RejectEvent
from cell_worker.handlers.security.logs import LogObject, LogRecords, parse
from cell_worker.handlers.security.matching import Record
from cell_worker.handlers.security.sigma import Match, RuleSet
from cell_worker.handlers.security.values import JSON

MAX_SIGHTINGS: Final = 100
"""Of one rule in one log. What is more is counted and said."""
RULE_BYTES: Final = 128 * 1024
"""How much a log may have reported of one rule. A record of a change that has a remedy is reported whole, unless it has
more than WHOLE_BYTES: such a change is reported, and not remedied."""
WHOLE_BYTES: Final = RULE_BYTES // 4
MAX_TEXT_CHARS: Final = 500
"""Longer texts of a record are cut where a finding quotes them. No ARN, name or address is longer."""
MAX_RECORD_IDS: Final = 100
"""A correlation's finding names at most so many of its records; its `count` counts them all."""
QUOTED: Final = (
    "eventID",
    "eventTime",
    "eventName",
    "awsRegion",
    "recipientAccountId",
    "sourceIPAddress",
)
IDENTITY: Final = ("accountId", "arn", "userName", "principalId", "invokedBy")


class Sighting(msgspec.Struct, frozen=True):
    """One match of one rule: what a finding says of the record, or of the window of a correlation."""

    rule_id: str
    index: int
    record: dict[str, Any]  # whole if the rule has a remedy and it is not huge, else what a finding quotes
    count: int | None = None  # these three: of a correlation
    window_end: Any = None
    record_ids: list[Any] = []


class Analysis(msgspec.Struct, frozen=True, tag=True):
    """What was found in one log."""

    records: int
    sightings: list[Sighting]
    left_out: dict[str, int]  # by the rule's id: how many more there are


def analyse(chunks: Iterable[bytes], source: LogObject, max_bytes: int, rules: RuleSet) -> Analysis:
    """Read a log and find what the rules match, in memory of a few times `max_bytes` at most. Raises RejectEvent."""
    records = parse(chunks, source, max_bytes)
    try:
        return _bounded(rules.search(records), records)
    except RecursionError as error:
        raise RejectEvent(f"{source} is nested too deeply") from error


def _bounded(matches: Iterable[Match], records: LogRecords) -> Analysis:
    sightings: list[Sighting] = []
    kept, used, left_out = Counter[str](), Counter[str](), Counter[str]()
    for match in matches:
        rule_id = match.rule.rule_id
        if kept[rule_id] < MAX_SIGHTINGS:
            sighting = _sighting(match, records)
            size = len(msgspec.json.encode(sighting))
            if used[rule_id] + size <= RULE_BYTES:
                used[rule_id] += size
                kept[rule_id] += 1
                sightings.append(sighting)
                continue
        left_out[rule_id] += 1
    return Analysis(len(records), sightings, dict(left_out))


def _sighting(match: Match, records: LogRecords) -> Sighting:
    record, window = records[match.index], match.window
    if window is None:
        whole = match.rule.remedy is not None and len(msgspec.json.encode(record)) <= WHOLE_BYTES
        return Sighting(match.rule.rule_id, match.index, record if whole else excerpt(record))
    return Sighting(
        match.rule.rule_id,
        match.index,
        excerpt(record),
        window.count,
        _quoted(records[window.hits[-1].index].get("eventTime")),
        [_quoted(records[hit.index].get("eventID")) for hit in window.hits[:MAX_RECORD_IDS]],
    )


def excerpt(record: Record) -> dict[str, Any]:
    """What a finding quotes of a record, each text of a bounded length."""
    identity = record.get("userIdentity")
    found = {name: _quoted(record[name]) for name in QUOTED if name in record}
    return found | ({"userIdentity": _picked(identity)} if isinstance(identity, dict) else {})


def _picked(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _quoted(identity[name]) for name in IDENTITY if name in identity}


def _quoted(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        value = JSON.encode(value).decode()
    if isinstance(value, str) and len(value) > MAX_TEXT_CHARS:
        return f"{value[:MAX_TEXT_CHARS]}…"
    return value
