"""The registry's records as JSON in Redis: encodes what is written, decodes what is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from router.core.detection.samples import RouterSample
from router.core.models import RouterReport, RouterView, Traffic
from router.core.policy import Policy, from_blob, to_blob
from router.core.registry import AuditEntry, Change, PolicyVersion, Proposal
from router.core.slot_map.slots import SlotMap


class WireProposal(msgspec.Struct, frozen=True):
    """A proposal as it lies in Redis, under its id."""

    policy: Policy
    audit: AuditEntry


class WireTraffic(msgspec.Struct, frozen=True):
    """A router's traffic as it lies in Redis, by cell."""

    at_ms: int  # by the Redis server's clock
    said: dict[str, Traffic]


class WireSample(msgspec.Struct, frozen=True):
    """A router's sample as it lies in Redis."""

    at_ms: int  # by the Redis server's clock
    said: RouterSample


class WireRouter(msgspec.Struct, frozen=True):
    """A router's report as it lies in Redis."""

    expires_at_ms: int  # by the Redis server's clock
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


def proposal_of(proposal_id: str, blob: bytes) -> Proposal | None:
    """Decode a proposal; None for garbage, which stays where it is."""
    try:
        wire = msgspec.json.decode(blob, type=WireProposal)
    except msgspec.DecodeError:
        return None
    return Proposal(proposal_id, wire.policy, wire.audit)


def offer_of(offer: Mapping[bytes, bytes]) -> tuple[SlotMap | None, Policy | None]:
    """Decode an offer into map and policy; None for both when it can't be read or there is none."""
    try:
        return SlotMap.from_wire(msgspec.json.decode(offer[b"map"])), from_blob(offer[b"policy"])
    except (KeyError, ValueError):
        return None, None


def sample_of(value: bytes) -> RouterSample | None:
    """Decode a router's sample; None for garbage."""
    try:
        return msgspec.json.decode(value, type=WireSample).said
    except msgspec.DecodeError:
        return None


def traffic_of(value: bytes) -> Mapping[str, Traffic]:
    """Decode a router's traffic, by cell id. Raises msgspec.DecodeError."""
    return msgspec.json.decode(value, type=WireTraffic).said


def router_view(value: bytes, now_ms: int) -> RouterView:
    """Decode a router's report, and judge by the server's time whether it is live. Raises msgspec.DecodeError."""
    wire = msgspec.json.decode(value, type=WireRouter)
    return RouterView(wire.report, wire.expires_at_ms > now_ms)


def policy_of(version: bytes, blob: bytes) -> Policy:
    """Decode a policy, whose version lies beside it. Raises ValueError."""
    return replace(from_blob(blob), version=int(version))


def pairs(flat: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """Pair the fields and values of a hash, which Redis' scripts return one after the other."""
    return list(zip(flat[::2], flat[1::2], strict=True))
