"""A queue by name, URL and ARN, of our account and region and of others, on every kind of server."""

from __future__ import annotations

from contextlib import AsyncExitStack
from uuid import uuid4

import pytest

from router.adapters.aws.resources import create_queue
from router.adapters.aws.session import AwsConfig, open_client
from router.bootstrap.queues import queues_of
from router.core.models import Draft
from router.settings import load
from tests.support import keys
from tests.support.aio import run
from tests.support.sources import take

OTHER_ACCOUNT = "222222222222"  # both servers take an access key of twelve digits for the account


async def made(endpoint: str, region: str, name: str) -> tuple[str, str]:
    """Make a queue, and return its URL and its ARN."""
    async with AsyncExitStack() as stack:
        sqs = await open_client(stack, AwsConfig(region, endpoint), "sqs")
        await create_queue(sqs, name)
        url = (await sqs.get_queue_url(QueueName=name))["QueueUrl"]
        found = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return url, found["Attributes"]["QueueArn"]


async def goes_through(endpoint: str, name: str, group: str | None) -> None:
    """Send a message to a queue that is named so, receive it, and delete it."""
    given = {"CELLROUTER_SECRET": keys.SECRET, "CELLROUTER_AWS_ENDPOINT_URL": endpoint, "CELLROUTER_SOURCE_QUEUE": name}
    async with AsyncExitStack() as stack:
        source, _ = await queues_of(stack, load(given))
        draft = Draft(f'{{"n":"{uuid4()}"}}', group_id=group, dedup_id=group and uuid4().hex)
        assert await source.send([draft]) == []
        (message,) = await take(source, 1)
        assert (message.body, message.group_id) == (draft.body, group)
        assert await source.delete([message]) == []


@pytest.mark.parametrize("end", ["", ".fifo"], ids=["standard", "fifo"])
@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1"])
def test_a_queue_of_each_region_is_reached_by_url_and_arn(aws_endpoint: str, region: str, end: str) -> None:
    """And by its name alone in our own region."""
    name, group = f"named-{uuid4().hex[:8]}{end}", "g" if end else None

    async def story() -> None:
        url, arn = await made(aws_endpoint, region, name)
        assert f":{region}:" in arn
        for each in (arn, url, *([name] if region == "us-east-1" else [])):
            if each != url or region == "us-east-1" or region in url:  # a URL without its region can't say it
                await goes_through(aws_endpoint, each, group)

    run(story())


def test_a_queue_of_another_account_is_reached_by_its_arn(aws_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked up with its owner's account; one of the same name is ours, and stays empty."""
    name = f"named-{uuid4().hex[:8]}"

    async def story() -> None:
        await made(aws_endpoint, "us-east-1", name)
        with monkeypatch.context() as as_other:
            as_other.setenv("AWS_ACCESS_KEY_ID", OTHER_ACCOUNT)
            _, arn = await made(aws_endpoint, "us-east-1", name)
        assert f":{OTHER_ACCOUNT}:" in arn
        await goes_through(aws_endpoint, arn, None)

    run(story())
