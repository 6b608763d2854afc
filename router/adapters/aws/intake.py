"""Looks at what events arrive on in AWS, and makes or changes it as a plan says: queues, bucket, policy, notification.

AWS writes a policy or a bucket's notifications only as a whole. Each is read again just before it is written and
after it, so that what somebody else writes at the same time is not overwritten unseen.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import structlog

from router.adapters.aws.resources import MISSING, ResourceNames, create_bucket, create_queue, made
from router.adapters.aws_errors import AWS_ERRORS, error_code
from router.core.environments import why_foreign
from router.core.errors import ProvisionError
from router.core.intake.plan import (
    FIFO,
    OWNER,
    FoundArchive,
    FoundIntake,
    FoundQueue,
    IntakePlan,
    IntakeStep,
    Part,
    WantedIntake,
    plan_farewell,
    plan_intake,
)
from router.core.intake.queue_policy import LeftAlone, policy_text, read_policy
from router.core.intake.sameness import same
from router.ports import Clock

SETTLE_S: Final = 65.0  # SQS says that a changed attribute takes up to 60 s until all of SQS knows it
_PAUSE_S: Final = 2.0
_FORBIDDEN: Final = "403"  # from HeadBucket, whose answer has no body
_NONE: Final = {"NoSuchTagSet", "NoSuchLifecycleConfiguration"}
_AGAIN: Final = "Run the command again"

_State = Mapping[str, Any]
_Read = Callable[[str], Awaitable[_State]]
_Write = Callable[[IntakeStep], Awaitable[Any]]


class Intake:
    """What events arrive on in AWS. Every call may raise ProvisionError."""

    def __init__(self, names: ResourceNames, sqs: Any, s3: Any, sts: Any, *, region: str, clock: Clock) -> None:
        self._names = names
        self._sqs = sqs
        self._s3 = s3
        self._sts = sts
        self._region = region
        self._clock = clock

    async def plan(self) -> IntakePlan:
        """Look at what is there, and say what has to be made or changed. Changes nothing."""
        who = await _asked(self._sts.get_caller_identity())
        names = self._names
        wanted = WantedIntake(
            names.dead_letter_queue,
            names.quarantine_queue,
            names.source_queue,
            self._bucket,
            names.tags,
            partition=who["Arn"].split(":")[1],
            region=self._region,
            account=who["Account"],
            archive=names.archive_bucket if names.archive_days else "",
            archive_days=names.archive_days,
        )
        return plan_intake(wanted, await self._look())

    async def plan_farewell(self) -> IntakePlan:
        """Say what is taken back of what `carry_out` has put into the source queue's policy and the bucket's rules."""
        found = await self._look()
        ours = self._names.tags[OWNER]
        queues = {name: queue for name, queue in found.queues.items() if why_foreign(queue.owner, ours) is None}
        return plan_farewell(self._names.source_queue, self._bucket, replace(found, queues=queues))

    async def carry_out(self, plan: IntakePlan) -> None:
        """Do what a plan says, step by step; ends at the first step that fails, or that somebody else got ahead of."""
        done: set[Part] = set()
        for step in plan.steps:
            match step.part:
                case Part.QUEUE:
                    await made(create_queue(self._sqs, step.name, step.after["Tags"], step.after["Attributes"]))
                case Part.BUCKET:
                    await made(create_bucket(self._s3, step.name, step.after["Region"], step.after["Tags"]))
                case Part.RETENTION:
                    await made(
                        self._s3.put_bucket_lifecycle_configuration(Bucket=step.name, LifecycleConfiguration=step.after)
                    )
                case Part.POLICY:
                    await self._replace(step, self._policy, self._set_policy)
                case Part.NOTIFICATION:
                    await self._notify(step, wait_s=SETTLE_S if Part.POLICY in done else 0)
            done.add(step.part)

    @property
    def _bucket(self) -> str:
        """Return the source bucket's name; empty where there is none, since S3 can't tell a FIFO queue."""
        return "" if self._names.source_queue.endswith(FIFO) else self._names.source_bucket

    async def _look(self) -> FoundIntake:
        names, queues = self._names, {}
        wanted = (names.dead_letter_queue, names.quarantine_queue, names.aside_queue, names.source_queue)
        for name in filter(None, wanted):
            if found := await self._attributes(name, "QueueArn", "Policy"):
                queues[name] = FoundQueue(found["QueueArn"], found.get("Policy", ""), await self._owner(name))
        bucket = self._bucket
        notification = await self._notification(bucket) if bucket and await self._there(bucket) else None
        return FoundIntake(queues, notification, await self._archive() if names.archive_days else None)

    async def _archive(self) -> FoundArchive | None:
        bucket = self._names.archive_bucket
        if not await self._there(bucket):
            return None
        tags = (await _asked(self._s3.get_bucket_tagging(Bucket=bucket)) or {}).get("TagSet", ())
        rules = (await _asked(self._s3.get_bucket_lifecycle_configuration(Bucket=bucket)) or {}).get("Rules", ())
        ours = self._names.tags.items() <= {tag["Key"]: tag["Value"] for tag in tags}.items()
        return FoundArchive(ours=ours, has_rules=bool(rules))

    async def _there(self, bucket: str) -> bool:
        try:
            return await _asked(self._s3.head_bucket(Bucket=bucket)) is not None
        except ProvisionError as error:
            if error.__cause__ is None or error_code(error.__cause__) != _FORBIDDEN:
                raise
            raise ProvisionError(
                f"there is a bucket {bucket}, and AWS keeps us out of it: it is another account's, so set another "
                "aws.prefix, or we have no right s3:ListBucket on it"
            ) from error

    async def _attributes(self, queue: str, *names: str) -> dict[str, str]:
        """Return attributes of a queue; none where there is no such queue."""
        url = (await _asked(self._sqs.get_queue_url(QueueName=queue)) or {}).get("QueueUrl")
        if url is None:
            return {}
        answer = await _asked(self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(names))) or {}
        return dict(answer.get("Attributes", {}))

    async def _owner(self, queue: str) -> str:
        """Return which environment has made a queue; empty where no tag says so, or nobody may ask."""
        url = (await _asked(self._sqs.get_queue_url(QueueName=queue)) or {}).get("QueueUrl")
        try:
            answer = await self._sqs.list_queue_tags(QueueUrl=url) if url else {}
        except AWS_ERRORS as error:
            structlog.get_logger("cellrouter").info("can't see whose a queue is", queue=queue, why=str(error))
            return ""
        return str(answer.get("Tags", {}).get(OWNER, ""))

    async def _policy(self, queue: str) -> _State:
        """Return the queue's policy as it is now; empty where it has none."""
        found = read_policy((await self._attributes(queue, "Policy")).get("Policy", ""))
        if isinstance(found, LeftAlone):
            raise ProvisionError(f"the policy of queue {queue}: {found.why}")
        return found or {}

    async def _set_policy(self, step: IntakeStep) -> None:
        url = (await self._sqs.get_queue_url(QueueName=step.name))["QueueUrl"]
        await self._sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy_text(step.after)})

    async def _notification(self, bucket: str) -> _State:
        """Return all of a bucket's notifications as they are now."""
        answer = await _asked(self._s3.get_bucket_notification_configuration(Bucket=bucket))
        return {key: value for key, value in (answer or {}).items() if key != "ResponseMetadata"}

    async def _set_notification(self, step: IntakeStep) -> None:
        await self._s3.put_bucket_notification_configuration(Bucket=step.name, NotificationConfiguration=step.after)

    async def _notify(self, step: IntakeStep, *, wait_s: float) -> None:
        """Write the notifications. S3 first tries each queue and topic, and needs a while to see a new policy."""
        until = self._clock.monotonic() + wait_s
        while True:
            try:
                return await self._replace(step, self._notification, self._set_notification)
            except ProvisionError as error:
                if error.__cause__ is None or error_code(error.__cause__) != "InvalidArgument":
                    raise
                if self._clock.monotonic() >= until:
                    raise ProvisionError(
                        f"{error}. S3 tries every queue and topic that the bucket tells, those of others too: one that "
                        "it names is gone, or its policy or its KMS key keeps s3.amazonaws.com out"
                    ) from error
            await self._clock.sleep(_PAUSE_S)

    async def _replace(self, step: IntakeStep, read: _Read, write: _Write) -> None:
        """Write what was planned, unless somebody has written since; then see that it is what AWS has."""
        now, before = await read(step.name), step.before or {}
        if same(now, step.after):
            return
        if not same(now, before):
            raise ProvisionError(f"somebody has changed {step.what} since it was read, so it is left alone. {_AGAIN}")
        try:
            await write(step)
        except AWS_ERRORS as error:
            raise ProvisionError(f"AWS refuses to change {step.what}: {error}") from error
        until = self._clock.monotonic() + SETTLE_S
        while not same(now := await read(step.name), step.after):
            if not same(now, before):
                raise ProvisionError(
                    f"somebody else has changed {step.what} at the same moment: one of the two changes may be lost. "
                    f"{_AGAIN}, and see whether theirs is there"
                )
            if self._clock.monotonic() >= until:
                raise ProvisionError(f"AWS took the change of {step.what}, and shows the old one still. {_AGAIN}")
            await self._clock.sleep(_PAUSE_S)


async def _asked(call: Awaitable[Any]) -> Any:
    """Return the answer; None where what was asked about is not there."""
    try:
        return await call
    except AWS_ERRORS as error:
        if error_code(error) in MISSING | _NONE:
            return None
        raise ProvisionError(f"can't look up what is there, so nothing is made: {error}") from error
