"""Two environments side by side on real servers: neither reaches the other, and each is made, listed and destroyed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from cell_worker.contract.protocol import redis_key
from router.adapters.aws.platform_copy import PlatformCopies
from router.adapters.aws.resources import create_queue
from router.adapters.aws.session import AwsConfig, open_client
from router.adapters.clock import SystemClock
from router.bootstrap.queues import open_dead_letters, open_intake
from router.bootstrap.rollout import open_environment
from router.cli.destroy import _removed
from router.core.environments import NOT_COPIED
from router.core.errors import ProvisionError
from router.core.messages import dead_letter
from router.core.models import Message
from router.demo.stress.report import read_report
from router.services.dead_letters import EntryReport, Tally
from router.settings import Settings, load
from tests.support import redis_kinds as kinds
from tests.support.aio import run, until
from tests.support.keys import SECRET
from tests.support.paths import REPOSITORY

pytestmark = pytest.mark.one_kind  # about whose things are whose

HANDLER: Final = """
from cell_worker.api import RejectEvent

async def handle(event, cell):
    if event.json().get("bad"):
        raise RejectEvent("it is bad")
    cell.emit({"environment": cell.environment, "side_effects": cell.side_effects})
"""
PARAMETERS: Final = {"Prefix": "", "Environment": "", "Image": "app:1", "SideEffects": "true", "RouterRedisUrl": "r"}
TEMPLATE: Final = json.dumps(
    {
        "Parameters": {name: {"Type": "String"} for name in PARAMETERS},
        "Resources": {"Queue": {"Type": "AWS::SQS::Queue"}},
    }
)


class Account:
    """An AWS account with environments of one prefix of this test's own, which all have the same secret."""

    def __init__(self, endpoint: str, sqs: Any, s3: Any, cloudformation: Any) -> None:
        self.endpoint = endpoint
        self.prefix = f"e{uuid.uuid4().hex[:8]}"
        self.sqs = sqs
        self.s3 = s3
        self.cloudformation = cloudformation

    def settings(self, environment: str, **variables: str) -> Settings:
        """The settings of one of its environments, which names its queues as `live` of this prefix would."""
        given = {
            "CELLROUTER_AWS_PREFIX": self.prefix,
            "CELLROUTER_AWS_ENDPOINT_URL": self.endpoint,
            "CELLROUTER_ENVIRONMENT": environment,
            "CELLROUTER_SECRET": SECRET,
        }
        return load(given | variables)

    async def init(self, settings: Settings) -> tuple[str, ...]:
        """Do what `cellrouter init` does; returns what it refuses."""
        async with open_intake(settings) as intake:
            plan = await intake.plan()
            await intake.carry_out(plan)
        return plan.refusals

    async def queue(self, name: str, *attributes: str) -> Any:
        """Return a queue's attributes."""
        url = (await self.sqs.get_queue_url(QueueName=name))["QueueUrl"]
        return (await self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(attributes)))["Attributes"]


@asynccontextmanager
async def account(endpoint: str) -> AsyncIterator[Account]:
    """Open an account."""
    async with AsyncExitStack() as stack:
        config = AwsConfig("us-east-1", endpoint)
        yield Account(endpoint, *[await open_client(stack, config, name) for name in ("sqs", "s3", "cloudformation")])


def test_an_environment_that_names_anothers_queue_gets_nothing_of_it(aws_endpoint: str) -> None:
    """`init` refuses and makes nothing, and what is destroyed leaves the other's queue and its policy as they were."""

    async def story() -> None:
        async with account(aws_endpoint) as found:
            replay = found.settings("replay")
            assert await found.init(replay) == ()
            named = replay.source.queue
            before = await found.queue(named, "Policy", "QueueArn")
            thief = found.settings("stress", CELLROUTER_SOURCE_QUEUE=named)
            [refusal] = await found.init(thief)
            assert f"queue {named}: it is of the environment {found.prefix}-replay" in refusal
            assert (await found.sqs.list_queues(QueueNamePrefix=f"{found.prefix}-stress")).get("QueueUrls", []) == []
            async with open_environment(thief, "no-stack") as environment:
                assert [line for line in await _removed(environment) if named in line]
            assert await found.queue(named, "Policy", "QueueArn") == before
            assert "Statement" in before["Policy"]

    run(story(), 120)


def test_no_dead_letter_leads_into_another_environment(aws_endpoint: str) -> None:
    """Whoever can write into the dead-letter queue says in the envelope where an entry came from."""

    async def story() -> None:
        async with account(aws_endpoint) as found:
            stress, replay = found.settings("stress"), found.settings("replay")
            for each in (stress, replay):
                assert await found.init(each) == ()
            await create_queue(found.sqs, f"{found.prefix}-shared")  # nobody's that we know: it may share dead letters
            url = (await found.sqs.get_queue_url(QueueName=stress.source.dead_letter_queue))["QueueUrl"]
            before = await found.queue(replay.source.queue, "ApproximateNumberOfMessages")  # S3 may have tried it
            for source in (replay.source.queue, f"{found.prefix}-shared"):
                message = Message("m", "r", '{"tenant": "a"}', 1, 1)
                letter = dead_letter.of_message(message, reason="malformed", error="x", source=source, dead_at_ms=1)
                for draft in dead_letter.to_drafts(letter):
                    await found.sqs.send_message(QueueUrl=url, MessageBody=draft.body)
            tally, told = Tally(), list[EntryReport]()
            async with open_dead_letters(stress) as letters:
                await letters.redrive(dead_letter.Filter(), tally, told.append)
            assert (tally.done, tally.failed) == (1, 1)
            [why] = [report.detail for report in told if report.kind == "failed"]
            assert f"it is of the environment {found.prefix}-replay" in why
            assert await found.queue(replay.source.queue, "ApproximateNumberOfMessages") == before
            assert (await found.queue(f"{found.prefix}-shared", "All"))["ApproximateNumberOfMessages"] == "1"

    run(story(), 120)


def test_the_redis_users_of_an_environment_reach_no_key_of_another(tmp_path: Path) -> None:
    """Neither to read nor to write, nor the channel of its changes."""
    folder = kinds.users_file(tmp_path, "stress")
    with kinds.valkey(tmp_path, "--aclfile", str(folder)) as port:
        for user in ("cellrouter-router", "cellrouter-controller", "cellrouter-cell", "cellrouter-operator"):
            with Redis.from_url(kinds.url_of(port, user=user)) as redis:
                redis.hget(redis_key("stress", "leases"), "x")
                for name in ("leases", "map", "policy", "cells", "generations", "leader"):
                    for command in (("HGET", "x"), ("HSET", "x", "y"), ("HDEL", "x"), ("UNLINK",), ("GET",)):
                        with pytest.raises(NoPermissionError):
                            redis.execute_command(command[0], redis_key("live", name), *command[1:])
                with pytest.raises(NoPermissionError):
                    redis.execute_command("SUBSCRIBE", redis_key("live", "changes"))


def test_a_platform_is_made_like_another_and_has_nothing_of_it(aws_endpoint: str) -> None:
    """The environments are listed by their stacks; none is made twice, and none of another prefix is seen."""

    async def story() -> None:
        async with account(aws_endpoint) as found:
            copies = PlatformCopies(found.prefix, found.cloudformation, found.s3, SystemClock())
            bucket = f"{found.prefix}-templates"
            await found.s3.create_bucket(Bucket=bucket)
            lives = PARAMETERS | {"Prefix": found.prefix, "Environment": "live"}
            said: list[str] = []
            await copies.make("live", lives, TEMPLATE, bucket, said.append)
            parameters = await copies.plan("stress", "live", {"Image": "app:2"})
            assert parameters == lives | {
                "Environment": "stress",
                "Image": "app:2",
                **{name: value for name, value in NOT_COPIED.items() if name in PARAMETERS},
            }
            await copies.make("stress", parameters, TEMPLATE, bucket, said.append)
            assert said[-1] == f"{found.prefix}-stress-platform: CREATE_COMPLETE"
            assert await copies.states() == {"live": "CREATE_COMPLETE", "stress": "CREATE_COMPLETE"}
            other = PlatformCopies(f"{found.prefix}-live", found.cloudformation, found.s3, SystemClock())
            assert await other.states() == {}
            for like, why in (("live", "is there already"), ("nowhere", "could be copied")):
                with pytest.raises(ProvisionError, match=why):
                    await copies.plan("stress" if like == "live" else "replay", like, {})

    run(story(), 120)


class CommandLine:
    """Runs commands as a person would who has an empty state folder, and variables of some other system."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self._environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CELLROUTER_")},
            "XDG_STATE_HOME": str(self.state),
            "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{folder}",
            "CELLROUTER_SOURCE_QUEUE": "somebody-elses",
        }

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run a command; return what it prints on both streams."""
        done = subprocess.run(
            [sys.executable, "-m", "router", *arguments],
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def listed(self) -> list[str]:
        """Return the states of the environments that are here."""
        return [row["state"] for row in json.loads(self("env", "list", "--on", "local", "--json"))]


def test_an_environment_is_made_here_asked_and_destroyed(tmp_path: Path) -> None:
    """A system of its own, which refuses to go while a dead letter is left. Its handlers may do nothing outside."""
    (tmp_path / "probe.py").write_text(HANDLER)
    command = CommandLine(tmp_path)
    assert "side effects off" in command("env", "create", "stress", "--cells", "1", "--handler", "probe:handle")
    try:
        assert command.listed() == ["runs"]
        assert "runs here already" in command("env", "create", "stress", code=1)
        command("--env", "stress", "send", '{"tenant": "acme"}')
        command("--env", "stress", "send", '{"tenant": "acme", "bad": true}')
        assert "can't be asked" in command("--env", "replay", "send", '{"tenant": "acme"}', code=2)

        async def settled() -> bool:
            seen = command("--env", "stress", "tail"), command("--env", "stress", "dlq", "list")
            return '{"environment":"stress","side_effects":false}' in seen[0].replace(" ", "") and "acme" in seen[1]

        run(until(settled, "both events are settled"))
        stressed(command, tmp_path / "report.json")
        said = command("env", "destroy", "stress", "--yes", code=1)
        assert "queue cellrouter-stress-dead-letters has 1 message" in said
        assert command.listed() == ["runs"]
    finally:
        command("env", "destroy", "stress", "--yes", "--with-dead-letters")
    assert command.listed() == []
    assert [path for path in command.state.rglob("*") if path.is_file()] == []


def stressed(command: CommandLine, file: Path) -> None:
    """Send a load: each event is timed from when it was meant to be sent, and none is missing."""
    load = ("--rate", "30", "--for", "4s", "--profile", "steady", "--tenants", "20", "--json", str(file))
    command("stress", "--env", "stress", *load, "--svg", str(file.with_suffix(".svg")))
    report = read_report(file)
    (phase,) = report.phases
    assert (report.environment, report.unfinished, phase.sent.refused) == ("stress", 0, 0)
    assert phase.took.count == phase.sent.sent > 60
    assert phase.took.p99 > phase.took.p50 > 0
