"""`cellrouter init` on an AWS where others have their own rules: before and after, again, and while somebody writes."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from router.adapters.aws import intake as intake_module
from router.adapters.aws.intake import Intake
from router.adapters.aws.resources import ResourceNames, create_bucket
from router.adapters.aws.session import AwsConfig, open_client
from router.adapters.aws_errors import AWS_ERRORS
from router.adapters.clock import SystemClock
from router.cli.init import REFUSED, WOULD_CHANGE, run_init
from router.core.errors import ProvisionError
from router.core.intake.notification import RULE
from router.core.intake.queue_policy import SID
from router.core.intake.sameness import same
from router.settings import load
from tests.support.aio import run
from tests.support.keys import SECRET

READS: Final = ("get_", "head_", "list_")
SERVICES: Final = ("sqs", "s3", "sts", "sns", "firehose")


@dataclass
class Account:
    """An AWS account; the calls that write are noted, and a test may act before or after any call."""

    names: ResourceNames
    endpoint: str
    clients: Mapping[str, Any]
    wrote: list[str] = field(default_factory=list)
    before: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    after: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)

    def __getattr__(self, service: str) -> Any:
        if service not in SERVICES:
            raise AttributeError(service)
        return self.clients[service]

    def intake(self) -> Intake:
        """Return the intake, whose calls are noted."""
        noted = [Noted(self, self.clients[service]) for service in ("sqs", "s3", "sts")]
        return Intake(self.names, *noted, region="us-east-1", clock=SystemClock())

    async def init(self) -> None:
        """Do what `cellrouter init` does, of which nothing is refused."""
        intake = self.intake()
        await intake.carry_out(plan := await intake.plan())
        assert not plan.refusals

    async def init_by_hand(self, *, dry_run: bool = False) -> int:
        """Run the command itself; returns its exit code."""
        names = self.names
        environ = {
            "CELLROUTER_SECRET": SECRET,
            "CELLROUTER_ENVIRONMENT": names.environment,
            "CELLROUTER_AWS_PREFIX": names.prefix,
            "CELLROUTER_AWS_ENDPOINT_URL": self.endpoint,
            "CELLROUTER_SOURCE_QUEUE": names.source_queue,
            "CELLROUTER_SOURCE_DEAD_LETTER_QUEUE": names.dead_letter_queue,
            "CELLROUTER_SOURCE_QUARANTINE_QUEUE": names.quarantine_queue,
        }
        return await run_init(load(environ), dry_run=dry_run)

    async def make_queue(self, name: str, **attributes: str) -> str:
        """Make a queue as somebody else does, and return its ARN."""
        await self.sqs.create_queue(QueueName=name, Attributes=attributes, tags={"team": "theirs"})
        return str((await self.queue(name))["attributes"]["QueueArn"])

    async def queue(self, name: str) -> dict[str, Any]:
        """Return all that AWS says of a queue but for its messages."""
        url = (await self.sqs.get_queue_url(QueueName=name))["QueueUrl"]
        attributes = (await self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]))["Attributes"]
        tags = (await self.sqs.list_queue_tags(QueueUrl=url)).get("Tags")
        varying = ("Approximate", "LastModified")
        return {"attributes": {key: attributes[key] for key in attributes if not key.startswith(varying)}, "tags": tags}

    async def set_policy(self, name: str, *statements: Mapping[str, Any]) -> None:
        """Give a queue a policy as somebody else does."""
        url = (await self.sqs.get_queue_url(QueueName=name))["QueueUrl"]
        policy = json.dumps({"Version": "2008-10-17", "Id": "theirs", "Statement": statements})
        await self.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})

    async def policy(self) -> dict[str, Any]:
        """Return the source queue's policy."""
        return dict(json.loads((await self.queue(self.names.source_queue))["attributes"]["Policy"]))

    async def notification(self) -> dict[str, Any]:
        """Return the source bucket's notifications."""
        found = await self.s3.get_bucket_notification_configuration(Bucket=self.names.source_bucket)
        return {key: value for key, value in found.items() if key != "ResponseMetadata"}

    async def notify(self, **given: Any) -> None:
        """Give the source bucket notifications as somebody else does."""
        bucket = self.names.source_bucket
        await self.s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=given)

    async def bucket(self) -> dict[str, Any]:
        """Return all else that AWS says of the source bucket."""
        found: dict[str, Any] = {}
        for part in ("tagging", "policy", "encryption", "versioning", "lifecycle_configuration", "cors", "logging"):
            try:
                found[part] = await getattr(self.s3, f"get_bucket_{part}")(Bucket=self.names.source_bucket)
                found[part].pop("ResponseMetadata")
            except AWS_ERRORS as error:
                found[part] = str(error)
        return found


class Noted:
    """A client of an account whose calls are noted when they write."""

    def __init__(self, account: Account, client: Any) -> None:
        self._account = account
        self._client = client

    def __getattr__(self, operation: str) -> Any:
        async def call(**parameters: Any) -> Any:
            if act := self._account.before.pop(operation, None):
                await act()
            answer = await getattr(self._client, operation)(**parameters)
            if not operation.startswith(READS):
                self._account.wrote.append(operation)
            if act := self._account.after.pop(operation, None):
                await act()
            return answer

        return call


@asynccontextmanager
async def account(endpoint: str) -> AsyncIterator[Account]:
    """Open an account with an environment of its own."""
    name = f"i{uuid.uuid4().hex[:8]}"
    names = ResourceNames(name, "live", f"{name}-events", f"{name}-dead", f"{name}-quarantine")
    async with AsyncExitStack() as stack:
        config = AwsConfig("us-east-1", endpoint)
        yield Account(names, endpoint, {each: await open_client(stack, config, each) for each in SERVICES})


Play = Callable[[Callable[[Account], Awaitable[None]]], None]


@pytest.fixture
def play(aws_endpoint: str) -> Play:
    """Plays a story in an account."""

    async def played(story: Callable[[Account], Awaitable[None]]) -> None:
        async with account(aws_endpoint) as found:
            await story(found)

    return lambda story: run(played(story), 120)


def deny(sid: str, arn: str) -> dict[str, Any]:
    """Return a statement that somebody may have in a queue's policy."""
    secure = {"Bool": {"aws:SecureTransport": "false"}}
    return {"Sid": sid, "Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": arn, "Condition": secure}


def rule(kind: str, arn: str, event: str, prefix: str) -> dict[str, Any]:
    """Return a rule that somebody may have for a bucket."""
    only = {"Key": {"FilterRules": [{"Name": "prefix", "Value": prefix}]}}
    return {"Id": f"theirs-{prefix}", kind: arn, "Events": [event], "Filter": only}


async def theirs(found: Account) -> None:
    """Make source queue and bucket with all that others may have set there."""
    names = found.names
    await found.make_queue(names.dead_letter_queue, MessageRetentionPeriod="3600")
    other = await found.make_queue(f"{names.prefix}-other")
    redrive = json.dumps({"deadLetterTargetArn": other, "maxReceiveCount": "7"})
    more = {"VisibilityTimeout": "77", "RedrivePolicy": redrive, "MaximumMessageSize": "4096"}
    source = await found.make_queue(names.source_queue, **more)
    await found.set_policy(names.source_queue, deny("One", source), deny("Two", source))
    bucket = names.source_bucket
    await create_bucket(found.s3, bucket, "us-east-1", {"team": "theirs"})
    await found.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    expire = {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}}
    await found.s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [expire]})
    public = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/p/*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [public]})
    await found.s3.put_bucket_policy(Bucket=bucket, Policy=policy)
    topic = (await found.sns.create_topic(Name=f"{names.prefix}-topic"))["TopicArn"]
    function = f"arn:aws:lambda:us-east-1:000000000000:function:{names.prefix}"
    await found.notify(
        QueueConfigurations=[rule("QueueArn", other, "s3:ObjectRemoved:*", "q/")],
        TopicConfigurations=[rule("TopicArn", topic, "s3:ObjectRemoved:*", "é +&<")],
        LambdaFunctionConfigurations=[rule("LambdaFunctionArn", function, "s3:ObjectTagging:*", "l/")],
        EventBridgeConfiguration={},
    )


@pytest.mark.one_kind  # LocalStack has no functions here, and only MiniStack keeps all of a bucket's settings
def test_what_others_have_configured_stays(play: Play) -> None:
    """Of queue and bucket, all but one statement and one rule is as before; a second `init` writes nothing.

    `destroy` takes the two back.
    """

    async def story(found: Account) -> None:
        names = found.names
        await theirs(found)
        queues = (names.source_queue, names.dead_letter_queue, f"{names.prefix}-other")
        was = [await found.queue(name) for name in queues], await found.bucket()
        policy, told = await found.policy(), await found.notification()
        assert len(told) == 4
        await found.init()
        assert found.wrote == ["create_queue", "set_queue_attributes", "put_bucket_notification_configuration"]
        now = await found.policy()
        ours = now["Statement"].pop()
        assert (now, ours["Sid"]) == (policy, SID)
        now = await found.notification()
        ours = now["QueueConfigurations"].pop()
        assert (now, ours["Id"]) == (told, RULE)
        after = [await found.queue(name) for name in queues], await found.bucket()
        for each in (was, after):
            each[0][0]["attributes"].pop("Policy")
        assert after == was
        found.wrote.clear()
        await found.init()
        assert found.wrote == []
        intake = found.intake()
        await intake.carry_out(await intake.plan_farewell())
        assert (await found.policy(), await found.notification()) == (policy, told)

    play(story)


def test_a_dry_run_tells_and_changes_nothing(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what `init` then says and does. Exit codes: 3 when there is something to do, 0 when there isn't."""

    async def story(found: Account) -> None:
        names = found.names
        arn = await found.make_queue(names.source_queue)
        await found.set_policy(names.source_queue, deny("One", arn))
        was = await found.queue(names.source_queue)
        assert await found.init_by_hand(dry_run=True) == WOULD_CHANGE
        planned = capsys.readouterr().out.splitlines()
        assert await found.queue(names.source_queue) == was
        assert (await found.sqs.list_queues(QueueNamePrefix=names.prefix))["QueueUrls"] == [
            (await found.sqs.get_queue_url(QueueName=names.source_queue))["QueueUrl"]
        ]
        assert names.source_bucket not in [each["Name"] for each in (await found.s3.list_buckets())["Buckets"]]
        assert await found.init_by_hand() == 0
        assert capsys.readouterr().out.splitlines()[1:] == planned[1:]
        assert [line for line in planned if not line.startswith(" ")][1:] == [
            f"make the queue {names.dead_letter_queue}",
            f"make the queue {names.quarantine_queue}",
            f"make the bucket {names.source_bucket}",
            f"change the policy of queue {names.source_queue}",
            f"change the notifications of bucket {names.source_bucket}",
        ]
        assert await found.init_by_hand(dry_run=True) == 0
        assert capsys.readouterr().out == "There is nothing to make or to change\n"

    play(story)


def test_what_is_made_is_what_was_planned(play: Play) -> None:
    """The ARNs that the plan tells of queues which there aren't yet are the ones that they get."""

    async def story(found: Account) -> None:
        plan = await found.intake().plan()
        await found.init()
        [policy, notification] = plan.steps[-2:]
        assert same(await found.policy(), policy.after)
        assert same(await found.notification(), notification.after)
        source = await found.queue(found.names.source_queue)
        dead = (await found.queue(found.names.dead_letter_queue))["attributes"]["QueueArn"]
        assert json.loads(source["attributes"]["RedrivePolicy"])["deadLetterTargetArn"] == dead
        assert source["tags"] == found.names.tags
        found.wrote.clear()
        await found.init()
        assert found.wrote == []

    play(story)


def test_what_is_refused_is_told_and_the_rest_is_done(play: Play, capsys: pytest.CaptureFixture[str]) -> None:
    """S3 takes no second rule for the same objects. Queues are made; policy and notification stay as they are."""

    async def story(found: Account) -> None:
        names = found.names
        other = await found.make_queue(f"{names.prefix}-other")
        await create_bucket(found.s3, names.source_bucket, "us-east-1")
        await found.notify(QueueConfigurations=[rule("QueueArn", other, "s3:ObjectCreated:*", "logs/")])
        told = await found.notification()
        for dry_run in (True, False):
            assert await found.init_by_hand(dry_run=dry_run) == REFUSED
            said = capsys.readouterr().err
            assert said.startswith(f"refused: the notifications of bucket {names.source_bucket}: rule theirs-logs/ (")
            assert other in said
        assert await found.notification() == told
        assert "Policy" not in (await found.queue(names.source_queue))["attributes"]

    play(story)


WRITES: Final = ("set_queue_attributes", "put_bucket_notification_configuration")


@pytest.mark.parametrize("write", WRITES)
def test_somebody_who_writes_first_is_not_overwritten(play: Play, write: str) -> None:
    """Between the plan and the write. It is said, and a second `init` puts ours beside theirs."""

    async def story(found: Account) -> None:
        await found.init()
        other = await found.make_queue(f"{found.names.prefix}-other")
        await undone(found)
        intake = found.intake()
        plan = await intake.plan()
        await somebody(found, write, other)
        found.wrote.clear()
        with pytest.raises(ProvisionError, match=r"somebody has changed .* left alone. Run the command again"):
            await intake.carry_out(plan)
        assert write not in found.wrote
        await found.init()
        assert (await has_both(found))[write]

    play(story)


@pytest.mark.parametrize("write", WRITES)
def test_somebody_who_writes_right_after_is_told(play: Play, write: str) -> None:
    """Ours is gone with it: it is said, instead of taken for done."""

    async def story(found: Account) -> None:
        await found.init()
        other = await found.make_queue(f"{found.names.prefix}-other")
        await undone(found)
        found.after[write] = lambda: somebody(found, write, other)
        with pytest.raises(ProvisionError, match=r"somebody else has changed .* Run the command again"):
            await found.init()
        await found.init()
        assert (await has_both(found))[write]

    play(story)


async def undone(found: Account) -> None:
    """Take away what `init` has added, so that both have to be written again."""
    await found.set_policy(found.names.source_queue, deny("One", "*"))
    await found.notify()


async def somebody(found: Account, write: str, other: str) -> None:
    """Write, as somebody else does, what `init` writes too."""
    if write == WRITES[0]:
        return await found.set_policy(found.names.source_queue, deny("One", "*"), deny("Two", "*"))
    return await found.notify(QueueConfigurations=[rule("QueueArn", other, "s3:ObjectRemoved:*", "q/")])


async def has_both(found: Account) -> dict[str, bool]:
    """Say of the policy and of the notifications whether theirs and ours are there."""
    sids = [each["Sid"] for each in (await found.policy())["Statement"]]
    ids = [each["Id"] for each in (await found.notification())["QueueConfigurations"]]
    return {WRITES[0]: sids == ["One", "Two", SID], WRITES[1]: ids == ["theirs-q/", RULE]}


@pytest.mark.one_kind
def test_a_rule_of_somebody_else_that_leads_nowhere_is_told(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 then refuses all rules at once, ours too: the reason names what it could not reach."""
    monkeypatch.setattr(intake_module, "SETTLE_S", 0.0)

    async def story(found: Account) -> None:
        names = found.names
        await create_bucket(found.s3, names.source_bucket, "us-east-1")
        gone = await found.make_queue(f"{names.prefix}-gone")
        await found.notify(QueueConfigurations=[rule("QueueArn", gone, "s3:ObjectRemoved:*", "q/")])
        await found.sqs.delete_queue(
            QueueUrl=(await found.sqs.get_queue_url(QueueName=f"{names.prefix}-gone"))["QueueUrl"]
        )
        with pytest.raises(ProvisionError, match=rf"{gone}.*those of others too"):
            await found.init()
        assert len((await found.notification())["QueueConfigurations"]) == 1

    play(story)


def test_a_bucket_that_somebody_makes_meanwhile_keeps_its_tags(play: Play) -> None:
    """us-east-1 answers as if we had made it."""

    async def story(found: Account) -> None:
        where, tags = found.names.source_bucket, {"team": "theirs"}
        found.before["create_bucket"] = lambda: create_bucket(found.s3, where, "us-east-1", tags)
        await found.init()
        assert (await found.bucket())["tagging"] == {"TagSet": [{"Key": "team", "Value": "theirs"}]}

    play(story)
