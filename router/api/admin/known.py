"""What was last read of the registry, for the Admin API: while Redis is away it is shown, with its age."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from router.core.detection.samples import RouterSample
from router.core.errors import RegistryUnavailableError
from router.core.models import Traffic
from router.core.registry import AuditEntry, Condition, PolicyVersion, Snapshot
from router.ports import Clock, OperatorReader

T = TypeVar("T")

AUDIT_READ: Final = 2000
"""The newest entries, of which those that are asked for are chosen."""


@dataclass(frozen=True, slots=True)
class LastSeen(Generic[T]):
    """What was read, and how many seconds ago."""

    value: T
    age_s: float


class LastKnown:
    """Reads the registry; what can't be read now is as it was read last.

    Every call raises RegistryUnavailableError when that was never read.
    """

    def __init__(self, registry: OperatorReader, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._known: dict[str, tuple[float, Any]] = {}  # when, monotonic seconds, and what

    async def snapshot(self) -> LastSeen[Snapshot]:
        """Read everything that routing depends on."""
        return await self._read("snapshot", self._registry.snapshot)

    async def conditions(self) -> LastSeen[Mapping[str, Condition]]:
        """Read how every cell is, as the leader last said."""
        return await self._read("conditions", self._registry.conditions)

    async def samples(self) -> LastSeen[Mapping[str, RouterSample]]:
        """Read what routers see."""
        return await self._read("samples", self._registry.samples)

    async def traffic(self) -> LastSeen[Sequence[Mapping[str, Traffic]]]:
        """Read what routers have sent to each cell."""
        return await self._read("traffic", self._registry.traffic)

    async def history(self) -> LastSeen[Sequence[PolicyVersion]]:
        """Read what was decided."""
        return await self._read("history", self._registry.history)

    async def audit(self) -> LastSeen[list[AuditEntry]]:
        """Read what was done lately, oldest first."""
        return await self._read("audit", lambda: self._registry.audit(AUDIT_READ))

    async def _read(self, name: str, read: Callable[[], Awaitable[T]]) -> LastSeen[T]:
        now = self._clock.monotonic()
        try:
            found = await read()
        except RegistryUnavailableError:
            if name not in self._known:
                raise
            at, found = self._known[name]
            return LastSeen(found, round(self._clock.monotonic() - at, 1))
        self._known[name] = now, found
        return LastSeen(found, 0.0)
