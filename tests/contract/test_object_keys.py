"""Keys of objects as servers notify them, directly and by SNS: the handler asks S3 for the same key."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import pytest

from cell_worker.handlers.security.logs import log_object
from router.adapters.aws.resources import create_queue
from router.adapters.aws.session import AwsConfig, open_client
from router.adapters.aws.sqs import SqsSource
from router.adapters.aws.sqs_client import open_sqs_client
from router.core.messages.parser import Extraction, Parser
from tests.support.aio import run

KEYS = (
    "AWSLogs/123456789012/CloudTrail/a+b c.gz",
    "AWSLogs/123456789012/CloudTrail/100%25 caf\u00e9.gz",
    "AWSLogs/123456789012/CloudTrail/year=2025/month%3D01/\U0001f600.gz",
)


@pytest.mark.one_kind  # the tests' LocalStack has no SNS
def test_each_key_is_the_objects_own(aws_endpoint: str) -> None:
    """Whatever characters are in it, and whichever way its notification takes."""
    name = f"keys-{uuid4().hex[:8]}"

    async def story() -> None:
        async with AsyncExitStack() as stack:
            config = AwsConfig("us-east-1", aws_endpoint)
            sqs, s3, sns = [await open_client(stack, config, service) for service in ("sqs", "s3", "sns")]
            topic = (await sns.create_topic(Name=name))["TopicArn"]
            arns = {way: await queue(sqs, f"{name}-{way}") for way in ("direct", "wrapped", "raw")}
            for way, raw in (("wrapped", "false"), ("raw", "true")):
                await sns.subscribe(
                    TopicArn=topic, Protocol="sqs", Endpoint=arns[way], Attributes={"RawMessageDelivery": raw}
                )
            await s3.create_bucket(Bucket=name)
            created = ["s3:ObjectCreated:*"]
            told: dict[str, Any] = {
                "QueueConfigurations": [{"QueueArn": arns["direct"], "Events": created}],
                "TopicConfigurations": [{"TopicArn": topic, "Events": created}],
            }
            await s3.put_bucket_notification_configuration(Bucket=name, NotificationConfiguration=told)
            for key in KEYS:
                await s3.put_object(Bucket=name, Key=key, Body=b"{}")
            client = await open_sqs_client(stack, config, connections=5, read_timeout_s=30)
            for way in arns:
                assert sorted(await keys_in(SqsSource(f"{name}-{way}", client, client))) == sorted(KEYS), way

    run(story())


async def queue(sqs: Any, name: str) -> str:
    """Make a queue, and return its ARN."""
    await create_queue(sqs, name)
    url = (await sqs.get_queue_url(QueueName=name))["QueueUrl"]
    found = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return str(found["Attributes"]["QueueArn"])


async def keys_in(source: SqsSource) -> list[str]:
    """Receive until each object was told of, and return their keys as the router and the handler read them."""
    found: list[str] = []
    for _ in range(30):
        for message in await source.receive(10, 2, 60):
            for event in Parser(Extraction()).parse(message):
                assert event.partition_key == "123456789012"
                key = log_object(json.loads(event.body)).key
                assert f"/{key}#" in event.event_id
                found.append(key)
        if len(found) >= len(KEYS):
            break
    return found
