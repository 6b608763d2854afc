"""Queues by name, URL and ARN: what AWS is asked, in which region, and what can't be is said before a start."""

from __future__ import annotations

import json
import re
from contextlib import AsyncExitStack
from typing import Any

import pytest

from router.adapters.aws.resources import ResourceNames
from router.adapters.aws.teardown import Teardown
from router.bootstrap.queues import queues_of, why_no_start
from router.cli.init import run_init
from router.core.errors import ProvisionError, SourceUnavailableError
from router.settings import Settings, check, load
from tests.support import keys
from tests.support.aio import run
from tests.support.http_answers import http, server

ACCOUNT = "123456789012"
ARN = f"arn:aws:sqs:eu-west-1:{ACCOUNT}:events"
HERE = f"arn:aws:sqs:us-east-1:{ACCOUNT}:events"
AWS_URL = f"https://sqs.eu-west-1.amazonaws.com/{ACCOUNT}/events"

Call = tuple[str, str, dict[str, Any]]
"""Region by its signature, operation and parameters."""


@pytest.fixture(autouse=True)
def _plain_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


def settings(endpoint: str = "", **source: str) -> Settings:
    """Settings with these keys of the section `source`."""
    given = {f"CELLROUTER_SOURCE_{key.upper()}": value for key, value in source.items()}
    at = {"CELLROUTER_AWS_ENDPOINT_URL": endpoint} if endpoint else {}
    return load({"CELLROUTER_SECRET": keys.SECRET, "CELLROUTER_AWS_REGION": "us-east-1", **at, **given})


def calls_for(name: str, other: str = "") -> list[Call]:
    """Receive once from a source that is named so, then from another queue, and return what AWS was asked."""
    calls: list[Call] = []

    def answer(request: bytes) -> bytes:
        head, _, body = request.partition(b"\r\n\r\n")
        region = re.search(rb"Credential=test/\d+/([^/]+)/sqs/", head)
        target = re.search(rb"X-Amz-Target: AmazonSQS\.(\w+)", head, re.IGNORECASE)
        assert region is not None
        assert target is not None
        calls.append((region[1].decode(), target[1].decode(), json.loads(body)))
        return http(200, {"QueueUrl": "https://found"})

    async def story() -> None:
        async with server(answer) as endpoint, AsyncExitStack() as stack:
            source, opened = await queues_of(stack, settings(endpoint, queue=name))
            await source.receive(1, 0, 30)
            if other:
                await opened(other).receive(1, 0, 30)

    run(story())
    return calls


@pytest.mark.parametrize(
    ("name", "region", "asked"),
    [
        ("events", "us-east-1", {"QueueName": "events"}),
        (HERE, "us-east-1", {"QueueName": "events", "QueueOwnerAWSAccountId": ACCOUNT}),
        (ARN, "eu-west-1", {"QueueName": "events", "QueueOwnerAWSAccountId": ACCOUNT}),
        (AWS_URL, "eu-west-1", None),
        (f"http://127.0.0.1:4566/{ACCOUNT}/events", "us-east-1", None),
    ],
)
def test_a_queue_is_asked_for_as_it_is_named(name: str, region: str, asked: dict[str, str] | None) -> None:
    """By its owner's account and in its region; a URL is used as it is, which needs no right to look it up."""
    *looked_up, received = calls_for(name)
    assert looked_up == ([(region, "GetQueueUrl", asked)] if asked else [])
    assert received[:2] == (region, "ReceiveMessage")
    assert received[2]["QueueUrl"] == (name if "://" in name else "https://found")


def test_the_other_queues_stay_where_they_are() -> None:
    """A source of another region moves no hold queue there, and no envelope leads to a queue that no setting names."""
    assert {call[0] for call in calls_for(ARN)} == {"eu-west-1"}
    assert {call[0] for call in calls_for(ARN, other="cellrouter-live-cell-0000-hold")} == {"eu-west-1", "us-east-1"}
    for foreign in (f"arn:aws:sqs:sa-east-1:{ACCOUNT}:old", HERE, AWS_URL):
        with pytest.raises(SourceUnavailableError, match="no setting names it, so nothing is sent there"):
            calls_for(ARN, other=foreign)


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("queue", "arn:aws:sns:eu-west-1:123456789012:x", "is no ARN of a queue"),
        ("queue", "https://sqs.eu-west-1.amazonaws.com/events", "is no URL of a queue"),
        ("queue", "a b", "must be letters"),
        ("dead_letter_queue", ARN + ".fifo", "must be a standard queue"),
        ("quarantine_queue", AWS_URL + ".fifo", "must be a standard queue"),
        ("dead_letter_queue", f"arn:aws-cn:sqs:cn-north-1:{ACCOUNT}:events", "is in cn-north-1, and aws.region is"),
    ],
)
def test_what_cant_be_is_named_with_its_key(key: str, text: str, words: str) -> None:
    """By `check-config`, which every start runs too."""
    given = {"CELLROUTER_SECRET": keys.SECRET, f"CELLROUTER_SOURCE_{key.upper()}": text}
    found, faults = check(given)
    assert found is None
    (fault,) = faults
    assert f"source.{key}: {words}" in fault


def test_a_local_url_with_aws_itself_is_refused_before_the_start() -> None:
    """An endpoint that was forgotten would send a router to AWS with a URL that nobody knows there."""
    local = f"http://127.0.0.1:4566/{ACCOUNT}/events"
    (why,) = run(why_no_start(settings(queue=local)))
    assert why.startswith("source.queue: is no URL of AWS")
    assert "set aws.endpoint_url" in why
    assert run(why_no_start(settings("http://127.0.0.1:4566", queue=local))) == []
    assert run(why_no_start(settings(queue=AWS_URL))) == []


def test_init_makes_nothing_for_a_queue_that_is_somebodys() -> None:
    """It says which, and what it would make."""
    with pytest.raises(ProvisionError, match=r"source\.queue: named by URL or ARN.*nothing was made"):
        run(run_init(settings("http://127.0.0.1:9", queue=ARN), dry_run=False))


def test_destroy_does_not_look_at_a_queue_that_is_somebodys() -> None:
    """It was there before us, whatever it is tagged with."""
    given = ResourceNames("cellrouter", "live", ARN, "dead", AWS_URL)
    assert list(Teardown(given, None, None, None)._intake()) == ["dead"]
