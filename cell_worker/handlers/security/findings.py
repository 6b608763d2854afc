"""Builds the JSON objects that the security workload emits: findings and receipts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from cell_worker.api import Cell, Event
from cell_worker.handlers.security.evaluation.analysis import Analysis, Sighting, excerpt
from cell_worker.handlers.security.logs import LogObject
from cell_worker.handlers.security.matching import Record
from cell_worker.handlers.security.sigma import Rule


def finding(event: Event, cell: Cell, source: LogObject, rule: Rule, sighting: Sighting) -> dict[str, Any]:
    """Build one finding. Its id is the same whenever and wherever the event is processed."""
    record = excerpt(sighting.record)
    claimed = record.get("recipientAccountId") or _identity(record).get("accountId")
    account = source.account or claimed  # a key says which account may write there, a record says anything
    return {
        "type": "finding",
        "id": _stable_id(event.identity, rule.rule_id, record.get("eventID"), sighting.index),
        **_of_rule(event, cell, rule),
        "account": account,
        **({"claimed_account": claimed} if claimed != account else {}),
        "region": record.get("awsRegion"),
        "event_name": record.get("eventName"),
        "event_time": record.get("eventTime"),
        "source_ip": record.get("sourceIPAddress"),
        "actor": _actor(record),
        "record_id": record.get("eventID"),
        "object": str(source),
        **(_window(sighting) if sighting.count is not None else {}),
    }


def left_out(event: Event, cell: Cell, source: LogObject, rule: Rule, count: int) -> dict[str, Any]:
    """Build the line that says how many more findings of one rule there are in one log than are reported."""
    return {
        "type": "left_out",
        "id": _stable_id(event.identity, rule.rule_id, "left_out"),
        **_of_rule(event, cell, rule),
        "object": str(source),
        "count": count,
        "text": f"… and {count} more in this log, of which none was reported or remedied: read the log itself",
    }


def receipt(
    event: Event, cell: Cell, source: LogObject, analysis: Analysis, by_rule: Mapping[str, int], run_id: str
) -> dict[str, Any]:
    """Build the one line that says that the event was processed. `run_id` tells two runs for one event apart."""
    return {
        "type": "receipt",
        "id": _stable_id(event.identity, "receipt"),
        "event_id": event.event_id,
        "processing_id": run_id,
        "cell_id": cell.cell_id,
        "generation": cell.generation,
        "partition_key": event.partition_key,
        "object": str(source),
        "records": analysis.records,
        "findings": sum(by_rule.values()),
        "by_rule": dict(sorted(by_rule.items())),
        "left_out": sum(analysis.left_out.values()),
    }


def _of_rule(event: Event, cell: Cell, rule: Rule) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "cell_id": cell.cell_id,
        "generation": cell.generation,
        "rule_id": rule.rule_id,
        "rule": rule.title,
        "level": rule.level,
        "tags": list(rule.tags),
    }


def _window(sighting: Sighting) -> dict[str, Any]:
    return {"count": sighting.count, "window_end": sighting.window_end, "record_ids": sighting.record_ids}


def _stable_id(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode(errors="replace")).hexdigest()[:32]


def _identity(record: Record) -> Mapping[str, Any]:
    identity = record.get("userIdentity")
    return identity if isinstance(identity, dict) else {}


def _actor(record: Record) -> Any:
    identity = _identity(record)
    names = ("arn", "userName", "principalId", "invokedBy")
    return next((identity[name] for name in names if identity.get(name)), None)
