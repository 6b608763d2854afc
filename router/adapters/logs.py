"""What a router or a controller logs of its records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import structlog

from router.core import telemetry


class LogObserver:
    """Logs the rare records; the frequent ones are left to metrics. `handlers` has a function for each that it logs."""

    def __init__(self) -> None:
        self._log = log = structlog.get_logger("cellrouter")
        self.handlers: Mapping[type, Callable[[Any], None]] = {
            telemetry.QueueFaulty: self._on_queue_faulty,
            telemetry.QueueWell: lambda r: log.warning("queue is there again", queue=r.queue),
            telemetry.BodyDiffers: self._on_other_body,
            telemetry.LaneFailed: lambda r: log.warning("lane failed", cell=r.cell_id, error=r.error),
            telemetry.EventDeadLettered: lambda r: log.warning("dead-lettered", reason=r.reason),
            telemetry.SetupMessageSeen: lambda r: log.info(
                "S3 or CloudTrail says that its notifications come here now; there is nothing to do", queue=r.queue
            ),
            telemetry.SubscriptionUnconfirmed: lambda r: log.error(
                "SNS asks about a subscription; its message is kept in the dead-letter queue", queue=r.queue, why=r.why
            ),
            telemetry.KeyQuarantined: lambda r: log.error("key quarantined", cell=r.cell_id, key=r.key, why=r.why),
            telemetry.LeaseRefused: lambda r: log.warning("lease refused", instance=r.instance, reason=r.reason),
            telemetry.RegistryFaulty: lambda r: log.error(
                "the registry can't be used; events go on as it was last", fault=r.fault, why=r.why
            ),
            telemetry.RegistryWell: lambda _: log.warning("the registry can be used again"),
            telemetry.LeasesDoubted: self._on_leases_doubted,
            telemetry.AccessDenied: self._on_access_denied,
            telemetry.ArchiveDropped: self._on_archive_dropped,
            telemetry.ArchiveFaulty: self._on_archive_faulty,
            telemetry.GroupsRefused: self._on_groups_refused,
            telemetry.BadInput: lambda r: log.warning("can't be read", what=r.source, name=r.name, why=r.why),
            telemetry.DistrustedCall: self._on_distrust,
            telemetry.CellTrusted: lambda r: log.warning("cell is trusted again", cell=r.cell_id),
            telemetry.LeadershipChanged: lambda r: log.info("leadership", leads=r.leads, epoch=r.epoch),
            telemetry.LeadGoesOn: lambda r: log.info("leads", epoch=r.epoch, cells=r.cells, suspended=r.suspended_by),
            telemetry.AttemptFailed: self._on_attempt_failed,
            telemetry.TaskDied: lambda r: log.error("a task ended, which none should", task=r.task, exc_info=r.error),
            telemetry.ActionTaken: lambda r: log.info(r.action, cell=r.cell_id, why=r.why),
        }

    def _on_queue_faulty(self, record: telemetry.QueueFaulty) -> None:
        if record.denied:
            action = (
                "see the credentials and role of this process, the queue's policy and its KMS key; events wait there"
            )
            self._log.error("AWS refuses us a queue", queue=record.queue, why=record.why, action=action)
        else:
            text = "queue is missing" if record.missing else "queue is out of reach"
            self._log.error(text, queue=record.queue, why=record.why)

    def _on_groups_refused(self, record: telemetry.GroupsRefused) -> None:
        action = "nothing is lost; update what answers there: SQS has taken them since July 2025, LocalStack since 4.7"
        self._log.warning(
            "message groups are refused on a standard queue; messages go without, and no queue there is a fair one",
            queue=record.queue,
            endpoint=record.endpoint,
            action=action,
        )

    def _on_other_body(self, record: telemetry.BodyDiffers) -> None:
        text = "an event was dropped as a duplicate, though its body is another one: two events have one id"
        action = (
            "see where the id comes from: docs/reference/events.md says what an id must be; sent in two ways is fine"
        )
        self._log.warning(text, cell=record.cell_id, key=record.key, event_id=record.event_id, action=action)

    def _on_leases_doubted(self, record: telemetry.LeasesDoubted) -> None:
        if record.why is None:
            self._log.warning("ended leases count again")
            return
        action = "see whether Redis takes writes, also of the cells' user; cells that answer are well"
        self._log.error("leases have ended, and their cells keep their traffic", why=record.why, action=action)

    def _on_access_denied(self, record: telemetry.AccessDenied) -> None:
        if record.why is None:
            self._log.warning("events are denied nothing any more, and all are taken in again")
            return
        action = (
            "see what has changed in the policy, the KMS key or the role that the reason names; the events wait, no "
            "attempt of theirs is counted, and they are tried again by themselves"
        )
        self._log.error("AWS denies many events what they need", why=record.why, action=action)

    def _on_archive_dropped(self, record: telemetry.ArchiveDropped) -> None:
        if record.tell:
            text = "events are missing in the archive; they were routed as all others"
            self._log.warning(text, cause=record.cause, events=record.tell)

    def _on_archive_faulty(self, record: telemetry.ArchiveFaulty) -> None:
        if record.why is None:
            self._log.warning("the archive is written again")
            return
        action = "see that the bucket exists, and that the router's role may s3:PutObject there; events are routed on"
        self._log.error("the archive can't be written", why=record.why, action=action)

    def _on_distrust(self, record: telemetry.DistrustedCall) -> None:
        if record.tell:
            text = "cell refuses us" if record.what is telemetry.Distrust.CALL else "cell's answer is not believed"
            self._log.error(f"{text}; its events wait until that is mended", cell=record.cell_id, why=record.why)

    def _on_attempt_failed(self, record: telemetry.AttemptFailed) -> None:
        if record.tell:
            self._log.error("failed on something unforeseen and goes on", part=record.part, exc_info=record.error)


class _HasHandlers(Protocol):
    handlers: Mapping[type, Callable[[Any], None]]


class Observers:
    """The Observer of a process: gives each record to every observer that has a handler for it."""

    def __init__(self, *observers: _HasHandlers) -> None:
        self._handlers = {
            kind: tuple(observer.handlers[kind] for observer in observers if kind in observer.handlers)
            for kind in {kind for observer in observers for kind in observer.handlers}
        }

    def observe(self, record: telemetry.Record) -> None:
        """Give the record to its handlers; one dictionary look-up finds them all."""
        for handle in self._handlers[type(record)]:
            handle(record)
