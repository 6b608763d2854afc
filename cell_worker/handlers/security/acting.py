"""Has remedies act on findings, as far as they may, and writes into each finding what became of its remedy."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from aiobotocore.session import AioSession

from cell_worker import clock
from cell_worker.api import Cell, Event, RetryEvent
from cell_worker.handlers.security.logs import LogObject
from cell_worker.handlers.security.matching import Record
from cell_worker.handlers.security.permits import MAX_AN_OBJECT, Allowance, why_refused
from cell_worker.handlers.security.remedies import Remediator, Status
from cell_worker.handlers.security.settings import SecuritySettings

Wanted = tuple[str, Record, dict[str, Any]]
"""The name of a remedy, the record that it is about, and the finding to write its status into."""


class Acting:
    """The remedies of one cell, and how many of them may still act."""

    def __init__(self, settings: SecuritySettings, session: AioSession, cell_id: str) -> None:
        self._believed = settings.bucket_names
        self._max_age = timedelta(seconds=settings.remedy_max_age_s)
        self._remediator = Remediator(session, settings.remedy_role, f"cellrouter-{cell_id}")
        self._allowance = Allowance(settings.remedies_per_hour, settings.remedies_per_account)

    async def act(self, wanted: Iterable[Wanted], source: LogObject, event: Event, cell: Cell) -> None:
        """Have the remedies act that one object's findings want. Raises RetryEvent."""
        taken = 0
        try:
            for name, record, finding in wanted:
                status = self._not_acting(name, record, source, event, cell, taken)
                if status is None:
                    taken += 1
                    status = await self._remediator.run(name, record, source.account or "")
                finding["remedy"] = status
        except RetryEvent:
            self._allowance.give_back(source.account or "", taken)
            raise

    def _not_acting(
        self, name: str, record: Record, source: LogObject, event: Event, cell: Cell, taken: int
    ) -> Status | None:
        """The status of a remedy that may not act. None when it may; then it is counted."""
        if not cell.side_effects:
            return _status(name, "skipped", "side effects are off")
        if source.bucket not in self._believed:
            return _status(
                name, "skipped", "CELL_SECURITY_BUCKETS doesn't name the object's bucket, so nobody vouches for it"
            )
        now = datetime.fromtimestamp(clock.time_ms() / 1000, UTC)
        if why := why_refused(source, event.partition_key, record, now, self._max_age):
            return _status(name, "refused", why)
        if taken >= MAX_AN_OBJECT:
            return _status(name, "skipped", f"this object had its {MAX_AN_OBJECT} remedies already")
        if why := self._allowance.why_spent(source.account or "", clock.monotonic()):
            return _status(name, "skipped", why)
        return None


def _status(name: str, status: str, reason: str) -> Status:
    return {"name": name, "status": status, "reason": reason}
