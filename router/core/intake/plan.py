"""What has to be made or changed in AWS for events to arrive, decided by what is there. Pure.

What exists stays as it is, whoever made it, but for two things that the intake needs: a statement in the source
queue's policy, and a rule among the bucket's notifications.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from router.core.environments import why_foreign
from router.core.intake.notification import why_partly, with_our_rule, without_our_rule
from router.core.intake.queue_policy import Document, LeftAlone, read_policy, statement, with_ours, without_ours
from router.core.intake.sameness import same
from router.core.models import Reason
from router.core.queue_names import aside_queue

FIFO: Final = ".fifo"
OWNER: Final = "cellrouter"
"""The tag of all that cellrouter makes in AWS, which names the installation and the environment that it is of."""
ARCHIVE: Final = "archive/"
"""With what the names of the archive's objects begin."""
_RETENTION_S: Final = 14 * 24 * 3600  # the longest that SQS offers: what waits must not vanish
_FIFO_ATTRIBUTES: Final = {  # high throughput: limits and duplicates are counted per group
    "FifoQueue": "true",
    "DeduplicationScope": "messageGroup",
    "FifoThroughputLimit": "perMessageGroupId",
}
_MAX_RECEIVES: Final = 1000
"""SQS counts no further. Routers dead-letter by themselves, with the reason; SQS does what no router can settle."""


class Part(StrEnum):
    """What a step makes or changes."""

    QUEUE = "queue"
    BUCKET = "bucket"
    POLICY = "policy of queue"
    NOTIFICATION = "notifications of bucket"
    RETENTION = "lifecycle rules of bucket"


@dataclass(frozen=True, slots=True)
class IntakeStep:
    """One thing that is made or changed, as it was and as it will be."""

    part: Part
    name: str
    before: Mapping[str, Any] | None  # None: there is none
    after: Mapping[str, Any]

    @property
    def what(self) -> str:
        """Name what is made or changed."""
        return f"the {self.part} {self.name}"

    def lines(self) -> list[str]:
        """Tell a person what this makes or changes, with before and after."""
        made = self.part in (Part.QUEUE, Part.BUCKET)
        verb, before = "make" if made else "change", json.dumps(self.before) if self.before else "none"
        return [f"{verb} {self.what}", f"  before: {before}", f"  after:  {json.dumps(self.after)}"]


@dataclass(frozen=True, slots=True)
class IntakePlan:
    """What is to be done, in this order; what is refused, and why; and what people should know."""

    steps: tuple[IntakeStep, ...]
    refusals: tuple[Reason, ...] = ()
    notes: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class WantedIntake:
    """The names of what events arrive on, where it is, and the tags of what is made."""

    dead_letters: str
    quarantine: str  # empty: there is none
    source: str
    bucket: str  # empty: there is none, since S3 can't tell a FIFO queue
    tags: Mapping[str, str]
    partition: str
    region: str
    account: str
    archive: str = ""  # the bucket of the archive; empty: there is none
    archive_days: int = 0

    def queue_arn(self, name: str) -> str:
        """Return the ARN that a queue of this name gets when it is made here."""
        return f"arn:{self.partition}:sqs:{self.region}:{self.account}:{name}"


@dataclass(frozen=True, slots=True)
class FoundQueue:
    """A queue that there is already."""

    arn: str
    policy: str = ""  # as SQS gives it; empty: none
    owner: str = ""  # the tag of the environment that has made it; empty: nobody that we know


@dataclass(frozen=True, slots=True)
class FoundArchive:
    """The bucket of the archive, which there is already."""

    ours: bool  # it has our tag
    has_rules: bool  # some lifecycle rule is there, whoever wrote it


@dataclass(frozen=True, slots=True)
class FoundIntake:
    """What there is already."""

    queues: Mapping[str, FoundQueue]
    notification: Mapping[str, Any] | None  # of the bucket; None: there is no bucket
    archive: FoundArchive | None = None  # None: there is no such bucket


def queue_attributes(name: str) -> dict[str, str]:
    """Return with which attributes every queue is made: it keeps messages for 14 days, and is FIFO by its name."""
    return {"MessageRetentionPeriod": str(_RETENTION_S)} | (_FIFO_ATTRIBUTES if name.endswith(FIFO) else {})


def plan_intake(wanted: WantedIntake, found: FoundIntake) -> IntakePlan:
    """Decide what is made or changed. Bucket, policy and notification come after the queues they need."""
    if foreign := tuple(_foreign(wanted, found)):
        return IntakePlan((), foreign)  # who reads a queue of another environment takes its events away
    steps = [_queue(wanted, found, name) for name in _queues(wanted) if name not in found.queues]
    steps += _archive(wanted, found.archive) if wanted.archive else ()
    if not wanted.bucket:
        return IntakePlan(tuple(steps))
    if found.notification is None:
        steps.append(IntakeStep(Part.BUCKET, wanted.bucket, None, {"Region": wanted.region, "Tags": wanted.tags}))
    queue = found.queues.get(wanted.source) or FoundQueue(wanted.queue_arn(wanted.source))
    notification = with_our_rule(found.notification or {}, queue.arn)
    before, policy = _policy(wanted, queue)
    refusals = (*_why(f"the policy of queue {wanted.source}", policy), *_why(_told(wanted), notification))
    if isinstance(policy, LeftAlone) or isinstance(notification, LeftAlone):
        return IntakePlan(tuple(steps), refusals)  # the one is no use without the other
    if policy is not before:
        steps.append(IntakeStep(Part.POLICY, wanted.source, before, policy))
    if notification is not found.notification:
        steps.append(IntakeStep(Part.NOTIFICATION, wanted.bucket, found.notification or {}, notification))
    partly = why_partly(notification, queue.arn)
    notes = () if partly is None else (f"queue {wanted.source} and {_told(wanted)}: {partly}",)
    return IntakePlan(tuple(steps), notes=notes)


def _foreign(wanted: WantedIntake, found: FoundIntake) -> Iterator[Reason]:
    ours = wanted.tags.get(OWNER, "")
    for name, queue in found.queues.items():
        if (why := why_foreign(queue.owner, ours)) is not None:
            yield f"queue {name}: {why}. Leave its setting out, or name a queue of this environment's own"


def retention(days: int) -> dict[str, Any]:
    """Return the lifecycle rules of the archive's bucket: what is in it ends by itself."""
    ends = {"ID": "archive-ends", "Status": "Enabled", "Filter": {"Prefix": ARCHIVE}, "Expiration": {"Days": days}}
    return {"Rules": [ends]}


def plan_farewell(source: str, bucket: str, found: FoundIntake) -> IntakePlan:
    """Decide what is taken back out of a queue and a bucket that may stay: a rule that leads nowhere is in S3's way."""
    steps, told = [], found.notification or {}
    if not same(told, rest := without_our_rule(told)):
        steps.append(IntakeStep(Part.NOTIFICATION, bucket, told, rest))
    policy = read_policy(found.queues[source].policy) if source in found.queues else None
    if isinstance(policy, LeftAlone):
        return IntakePlan(tuple(steps), _why(f"the policy of queue {source}", policy))
    if policy is not None and not same(policy, left := without_ours(policy)):
        steps.append(IntakeStep(Part.POLICY, source, policy, left))
    return IntakePlan(tuple(steps))


def _queues(wanted: WantedIntake) -> list[str]:
    aside = aside_queue(wanted.source)
    return [name for name in (wanted.dead_letters, wanted.quarantine, aside, wanted.source) if name]


def _queue(wanted: WantedIntake, found: FoundIntake, name: str) -> IntakeStep:
    attributes = queue_attributes(name)
    if name == wanted.source and not name.endswith(FIFO):  # a FIFO queue's could only go to another, which ours is not
        there = found.queues.get(wanted.dead_letters)
        target = there.arn if there else wanted.queue_arn(wanted.dead_letters)
        redrive = {"deadLetterTargetArn": target, "maxReceiveCount": _MAX_RECEIVES}
        attributes["RedrivePolicy"] = json.dumps(redrive)
    return IntakeStep(Part.QUEUE, name, None, {"Attributes": attributes, "Tags": wanted.tags})


def _archive(wanted: WantedIntake, found: FoundArchive | None) -> Iterator[IntakeStep]:
    """Make the archive's bucket with its rule. Whoever has made the bucket or a rule before has meant it so."""
    if found is None:
        yield IntakeStep(Part.BUCKET, wanted.archive, None, {"Region": wanted.region, "Tags": wanted.tags})
    if found is None or (found.ours and not found.has_rules):
        yield IntakeStep(Part.RETENTION, wanted.archive, None, retention(wanted.archive_days))


def _policy(wanted: WantedIntake, queue: FoundQueue) -> tuple[Document | None, Document | LeftAlone]:
    """Return the source queue's policy as it is, and as it has to be."""
    before = read_policy(queue.policy)
    if isinstance(before, LeftAlone):
        return None, before
    bucket_arn = f"arn:{wanted.partition}:s3:::{wanted.bucket}"
    return before, with_ours(before, statement(queue.arn, bucket_arn, wanted.account))


def _told(wanted: WantedIntake) -> str:
    return f"the notifications of bucket {wanted.bucket}"


def _why(what: str, found: Any) -> tuple[Reason, ...]:
    return (f"{what}: {found.why}",) if isinstance(found, LeftAlone) else ()
