"""Builds the JSON objects that the security workload emits: findings and receipts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cell_worker.api import Cell, Event
from cell_worker.handlers.security.correlation import Window
from cell_worker.handlers.security.logs import LogObject
from cell_worker.handlers.security.matching import Record
from cell_worker.handlers.security.sigma import Match

MAX_RECORD_IDS: Final = 100
"""A correlation's finding names at most so many of its records; its `count` counts them all."""


def finding(event: Event, cell: Cell, source: LogObject, match: Match, records: Sequence[Record]) -> dict[str, Any]:
    """Build one finding. Its id is the same whenever and wherever the event is processed."""
    record, rule = records[match.index], match.rule
    claimed = record.get("recipientAccountId") or _identity(record).get("accountId")
    account = source.account or claimed  # a key says which account may write there, a record says anything
    return {
        "type": "finding",
        "id": _stable_id(event.event_id, rule.rule_id, record.get("eventID"), match.index),
        "event_id": event.event_id,
        "cell_id": cell.cell_id,
        "generation": cell.generation,
        "rule_id": rule.rule_id,
        "rule": rule.title,
        "level": rule.level,
        "tags": list(rule.tags),
        "account": account,
        **({"claimed_account": claimed} if claimed != account else {}),
        "region": record.get("awsRegion"),
        "event_name": record.get("eventName"),
        "event_time": record.get("eventTime"),
        "source_ip": record.get("sourceIPAddress"),
        "actor": _actor(record),
        "record_id": record.get("eventID"),
        "object": str(source),
        **(_window(match.window) if match.window else {}),
    }


def receipt(
    event: Event, cell: Cell, source: LogObject, record_count: int, findings: Sequence[Mapping[str, Any]], run_id: str
) -> dict[str, Any]:
    """Build the one line that says that the event was processed. `run_id` tells two runs for one event apart."""
    return {
        "type": "receipt",
        "id": _stable_id(event.event_id, "receipt"),
        "event_id": event.event_id,
        "processing_id": run_id,
        "cell_id": cell.cell_id,
        "generation": cell.generation,
        "partition_key": event.partition_key,
        "object": str(source),
        "records": record_count,
        "findings": len(findings),
        "by_rule": dict(sorted(Counter(each["rule_id"] for each in findings).items())),
    }


def _window(window: Window) -> dict[str, Any]:
    return {
        "count": window.count,
        "window_end": window.hits[-1].record.get("eventTime"),
        "record_ids": [hit.record.get("eventID") for hit in window.hits[:MAX_RECORD_IDS]],
    }


def _stable_id(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode(errors="replace")).hexdigest()[:32]


def _identity(record: Record) -> Mapping[str, Any]:
    identity = record.get("userIdentity")
    return identity if isinstance(identity, dict) else {}


def _actor(record: Record) -> Any:
    identity = _identity(record)
    names = ("arn", "userName", "principalId", "invokedBy")
    return next((identity[name] for name in names if identity.get(name)), None)
