"""Who calls AWS, and with which credentials: an AWS that notes it and refuses some, and a source that gives them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

from router.adapters.aws.session import AwsConfig
from router.adapters.aws.sqs_client import SqsClient, SqsError, open_sqs_client
from tests.support.fake_clock import FakeClock
from tests.support.http_answers import http


def given(key: str, minutes: float = 60, **others: Any) -> bytes:
    """Make what the container endpoint answers, with credentials that end so soon."""
    end = (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()  # noqa: TID251 - botocore's own clock is real
    return http(200, {"AccessKeyId": key, "SecretAccessKey": "s", "Token": "t", "Expiration": end, **others})


def key_of(request: bytes) -> str:
    """Return the access key that a request is signed with."""
    return request.split(b"Credential=")[1].split(b"/")[0].decode()


class Aws:
    """An SQS that notes who calls, and refuses the keys that a test names."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.refuses: dict[str, str] = {}  # access key → error code

    def answer(self, request: bytes) -> bytes:
        """Answer one call."""
        self.seen.append(key_of(request))
        code = self.refuses.get(self.seen[-1])
        return http(403, {"__type": f"x#{code}", "message": "no"}) if code else http(200, {})


async def sqs_of(stack: AsyncExitStack, endpoint: str, clock: FakeClock) -> SqsClient:
    """Open a client of this endpoint, by this clock."""
    return await open_sqs_client(stack, AwsConfig("us-east-1", endpoint), connections=4, read_timeout_s=10, clock=clock)


async def call(sqs: SqsClient) -> str:
    """Make a call; returns the code of its refusal, or nothing."""
    try:
        await sqs.call("ReceiveMessage", QueueUrl="q")
    except SqsError as error:
        return error.code or str(error)
    return ""


async def settled(credentials: Any) -> None:
    """Wait until the source has answered that was asked in the background."""
    if (loading := credentials._loading) is not None:
        await loading
