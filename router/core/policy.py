"""What people, and routers by themselves, have decided about keys: limits and quarantine. One versioned value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec


@dataclass(frozen=True, slots=True)
class TenantLimit:
    """What one key may use of a router; 0 for no limit."""

    rate_per_s: float = 0.0  # events, in the long run
    burst: int = 1  # events at once after a pause; counts only with a rate
    concurrency: int = 0  # events in flight at once


NO_LIMIT: Final = TenantLimit()


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Why a key's events are kept from its cell, and until when."""

    why: str
    since_ms: int
    until_ms: int = 0  # 0: until somebody releases it


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything decided, as of one version."""

    version: int = 0
    default: TenantLimit = NO_LIMIT  # of keys without a limit of their own
    limits: Mapping[str, TenantLimit] = field(default_factory=dict)
    quarantined: Mapping[str, Quarantine] = field(default_factory=dict)

    def limit_of(self, key: str) -> TenantLimit:
        """The key's own limit, else the default one."""
        return self.limits.get(key, self.default)

    def in_quarantine(self, key: str, now_ms: int) -> Quarantine | None:
        """The key's quarantine, while it lasts."""
        found = self.quarantined.get(key)
        return found if found is not None and (not found.until_ms or now_ms < found.until_ms) else None

    def with_limit(self, key: str | None, limit: TenantLimit | None) -> Policy:
        """Another limit for a key, or for all others (key None); None takes it away."""
        if key is None:
            return replace(self, default=limit or NO_LIMIT)
        others = {k: v for k, v in self.limits.items() if k != key}
        return replace(self, limits=others if limit is None else others | {key: limit})

    def with_quarantine(self, key: str, quarantine: Quarantine | None, now_ms: int) -> Policy:
        """A key quarantined or released; those whose time is up leave too."""
        lasting = {k: v for k, v in self.quarantined.items() if k != key and self.in_quarantine(k, now_ms)}
        return replace(self, quarantined=lasting if quarantine is None else lasting | {key: quarantine})


NO_POLICY: Final = Policy()


def to_blob(policy: Policy) -> bytes:
    """As the registry keeps it."""
    return msgspec.json.encode(policy)


def from_blob(blob: bytes) -> Policy:
    """The inverse. Raises msgspec.DecodeError."""
    return msgspec.json.decode(blob, type=Policy)
