"""How many dead letters came while a drill went on, as routers report. Pure."""

from __future__ import annotations

from typing import Final

from router.core.registry import Snapshot

QUEUE: Final = "dead letters"
"""What the queue is for, as routers name it in their reports."""


class DeadLettersSeen:
    """Counts from the first look on. It is SQS that counts, roughly and within a minute."""

    def __init__(self) -> None:
        self._least: int | None = None

    def more(self, snapshot: Snapshot) -> int:
        """Say how many more there are than there were at the least, so that a redrive hides none."""
        reports = [router.report.queues for router in snapshot.routers if router.live]
        said = [queues[QUEUE] for queues in reports if QUEUE in queues]
        if not said:
            return 0
        now = max(said)
        self._least = now if self._least is None else min(self._least, now)
        return now - self._least
