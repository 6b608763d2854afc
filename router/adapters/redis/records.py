"""The registry's records as JSON in Redis: encodes what is written, decodes what is read."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, Final

import msgspec

from cell_worker.contract.strict_reader import StrictReader, Unreadable
from router.core.detection.samples import RouterSample, why_impossible
from router.core.models import CellRecord, RouterReport, Traffic, Whole
from router.core.plausible import highest_count, why_epoch_impossible, why_record_impossible, without_future
from router.core.policy import Policy, Ruling, to_blob
from router.core.registry import AuditEntry, Change, Condition, PolicyVersion, Proposal
from router.core.slot_map.slots import SlotMap, WireMap


class WireProposal(msgspec.Struct, frozen=True):
    """A proposal as it lies in Redis, under its id."""

    policy: Policy
    audit: AuditEntry


class WireTraffic(msgspec.Struct, frozen=True):
    """A router's traffic as it lies in Redis, by cell."""

    at_ms: Whole  # by the Redis server's clock
    said: dict[str, Traffic]


class WireSample(msgspec.Struct, frozen=True):
    """A router's sample as it lies in Redis."""

    at_ms: Whole  # by the Redis server's clock
    said: bytes  # packed: JSON that is compressed, since the samples of a thousand cells would be 150 kB


class WireRouter(msgspec.Struct, frozen=True):
    """A router's report as it lies in Redis."""

    expires_at_ms: Whole  # by the Redis server's clock
    report: RouterReport


def encoded_change(change: Change) -> bytes:
    """Encode a change for the script: JSON whose parts are JSON texts, which the script stores as they are."""
    wire: dict[str, Any] = {
        "cells": {cell.cell_id: msgspec.json.encode(cell).decode() for cell in change.cells},
        "rulings": {r.proposal_id: msgspec.json.encode(r).decode() for r in change.rulings},
        "audit": [msgspec.json.encode(entry).decode() for entry in change.audit],
    }
    if change.slot_map is not None:
        wire["map_epoch"] = str(change.slot_map.epoch)
        wire["map"] = msgspec.json.encode(change.slot_map.to_wire()).decode()
    if change.policy is not None:
        wire["policy_version"] = str(change.policy.version)
        wire["policy"] = to_blob(change.policy).decode()
        wire["policy_entry"] = msgspec.json.encode(PolicyVersion(change.policy, change.audit[0])).decode()
    return msgspec.json.encode(wire)


_COMPRESSION: Final = 1  # of zlib: the quickest; a higher one saves hardly more
_DECIMALS: Final = 4  # of figures in samples: 0.1 ms

LARGE: Final = 16 * 1024 * 1024  # bytes: of what holds every tenant or every cell
MEDIUM: Final = 1024 * 1024  # bytes: of what holds a few figures of every cell
SMALL: Final = 256 * 1024  # bytes: of what is about one cell, one router or one thing that happened

CELL: Final = StrictReader[CellRecord]("cell record", CellRecord, SMALL)
SLOT_MAP: Final = StrictReader[WireMap]("slot map", WireMap, LARGE)
POLICY: Final = StrictReader[Policy]("policy", Policy, LARGE)
PROPOSAL: Final = StrictReader[WireProposal]("proposal", WireProposal, LARGE)
VERSION: Final = StrictReader[PolicyVersion]("policy version", PolicyVersion, LARGE)
RULING: Final = StrictReader[Ruling]("ruling", Ruling, LARGE)
SAMPLE: Final = StrictReader[RouterSample]("sample", RouterSample, MEDIUM)
PACKED_SAMPLE: Final = StrictReader[WireSample]("packed sample", WireSample, MEDIUM)
TRAFFIC: Final = StrictReader[WireTraffic]("traffic", WireTraffic, LARGE)
ROUTER: Final = StrictReader[WireRouter]("router report", WireRouter, SMALL)
CONDITION: Final = StrictReader[Condition]("condition", Condition, SMALL)
AUDIT: Final = StrictReader[AuditEntry]("audit entry", AuditEntry, SMALL)


def cells_at(now_ms: int) -> Callable[[str, CellRecord], CellRecord]:
    """Take a cell's record that lies under its own name. Raises ValueError for one that can't be true at this time."""

    def make(name: str, record: CellRecord) -> CellRecord:
        if record.cell_id != name:
            raise ValueError(f"it is the record of {record.cell_id!r}")
        if (why := why_record_impossible(record, now_ms)) is not None:
            raise ValueError(why)
        return without_future(record, now_ms)

    return make


def map_at(now_ms: int) -> Callable[[str, WireMap], SlotMap]:
    """Make the slot map of what was read. Raises ValueError, also for an epoch that there can't be at this time."""

    def make(_: str, wire: WireMap) -> SlotMap:
        slot_map = SlotMap.from_wire(wire)
        if (why := why_epoch_impossible(slot_map.epoch, now_ms)) is not None:
            raise ValueError(why)
        return slot_map

    return make


def said_at(raw: bytes) -> Callable[[str, Condition], Condition]:
    """Take a cell's condition that lies under its name, and that the leader has stood by until this time in ms."""
    at_ms = int(raw) if raw[:20].isdigit() and len(raw) <= 16 else 0  # noqa: PLR2004 - digits of MAX_WHOLE

    def make(name: str, condition: Condition) -> Condition:
        if condition.assessment.cell_id != name:
            raise ValueError(f"it is of {condition.assessment.cell_id!r}")
        return replace(condition, at_ms=max(condition.at_ms, at_ms))

    return make


def proposal_of(proposal_id: str, wire: WireProposal) -> Proposal:
    """Make the proposal of what lies under its id."""
    return Proposal(proposal_id, wire.policy, wire.audit)


def packed(sample: RouterSample) -> bytes:
    """Encode a router's sample for the script: JSON, compressed, as a JSON text of base64."""
    short = {each.name: _short(getattr(sample, each.name)) for each in fields(sample)}
    return msgspec.json.encode(zlib.compress(msgspec.json.encode(short), _COMPRESSION))


def unpacked(wire: WireSample) -> RouterSample:
    """Decode a router's sample. Raises ValueError for what can't be read, or what no router can have seen."""
    try:
        plain = zlib.decompressobj().decompress(wire.said, MEDIUM + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    sample = SAMPLE.read(plain)
    if isinstance(sample, Unreadable):
        raise ValueError(sample.why)  # noqa: TRY004 - it is a value's fault, not a type's
    if (why := why_impossible(sample)) is not None:
        raise ValueError(why)
    return sample


def _short(value: Any) -> Any:
    """Round what is no whole number, and leave out what stands for a default at a struct's end: decoders put it in."""
    if isinstance(value, float):
        return round(value, _DECIMALS)
    if isinstance(value, dict):
        return {name: _short(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [_short(each) for each in value]
    if not isinstance(value, msgspec.Struct):
        return value
    values = [_short(each) for each in msgspec.structs.astuple(value)]
    for default in reversed(value.__struct_defaults__):
        if values[-1] != default:
            break
        values.pop()
    return values


def with_version(version: bytes, now_ms: int) -> Callable[[str, Policy], Policy]:
    """Give a policy the version that lies beside it. Raises ValueError where that is none that there can be."""

    def make(_: str, policy: Policy) -> Policy:
        if not (version.isdigit() and int(version[:20]) <= highest_count(now_ms)):
            raise ValueError(f"its version, {version[:20]!r}, is none that there can be")
        return replace(policy, version=int(version))

    return make


def version_at(now_ms: int) -> Callable[[str, PolicyVersion], PolicyVersion]:
    """Take a policy of the history. Raises ValueError where its version is none that there can be."""
    plausible = plausible_policy(now_ms)
    return lambda name, found: replace(found, policy=plausible(name, found.policy))


def plausible_policy(now_ms: int) -> Callable[[str, Policy], Policy]:
    """Take a policy with its own version. Raises ValueError where that is none that there can be."""

    def make(_: str, policy: Policy) -> Policy:
        if policy.version > highest_count(now_ms):
            raise ValueError(f"its version, {policy.version}, is none that there can be")
        return policy

    return make


def pairs(flat: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """Pair the fields and values of a hash, which Redis' scripts return one after the other."""
    return list(zip(flat[::2], flat[1::2], strict=True))
