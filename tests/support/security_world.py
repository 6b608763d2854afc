"""What the security tests share: a monitor against a real MiniStack, and the logs in its bucket."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import structlog
from aiobotocore.session import get_session

from cell_worker.api import Cell, Component, Event
from cell_worker.handlers.security import SecurityMonitor

ACCOUNT = "123456789012"
T = TypeVar("T")


@pytest.fixture(autouse=True)
def aws_environment(aws_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables that an operator sets. MiniStack takes a 12-digit access key for the account."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCOUNT)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("CELL_SECURITY_BUCKETS", f"logs-{uuid.uuid4().hex}")


@dataclass
class World:
    """A started monitor with its components, a log bucket, and AWS clients."""

    monitor: SecurityMonitor
    components: dict[str, Component]
    bucket: str
    client: Callable[..., Any]  # (service, account)

    async def put(self, key: str, body: bytes) -> None:
        """Put an object into the log bucket."""
        async with self.client("s3") as s3:
            await s3.put_object(Bucket=self.bucket, Key=key, Body=body)

    async def process(
        self, body: Any, *, side_effects: bool = False, partition_key: str = ACCOUNT
    ) -> tuple[Mapping[str, Any], Cell]:
        """Process an event. Returns the handler's answer, and the cell with what was emitted."""
        cell = a_cell(side_effects=side_effects)
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.monitor(Event(f"event-{uuid.uuid4().hex}", partition_key, 1, encoded), cell), cell

    async def process_log(
        self, records: list[Any], *, side_effects: bool = False, account: str = ACCOUNT, bucket: str = ""
    ) -> list[dict[str, Any]]:
        """Put a log of the account with these records into the bucket, process its event, and return what was emitted.

        Another `bucket` is made first.
        """
        key = f"AWSLogs/{account}/CloudTrail/us-east-1/{uuid.uuid4().hex}.json"
        async with self.client("s3") as s3:
            if bucket:
                await s3.create_bucket(Bucket=bucket)
            body = json.dumps({"Records": records}).encode()
            await s3.put_object(Bucket=bucket or self.bucket, Key=key, Body=body)
        event = notification(bucket or self.bucket, key)
        _, cell = await self.process(event, side_effects=side_effects, partition_key=account)
        return [dict(record) for record in cell.emitted]


def a_cell(*, side_effects: bool = False) -> Cell:
    """Make a cell whose emitted records can be read."""
    return Cell("cell-0007", 3, "test", side_effects, structlog.stdlib.get_logger())


def notification(bucket: str, key: str, **s3_object: Any) -> dict[str, Any]:
    """One record of an S3 notification about this object."""
    s3 = {"bucket": {"name": bucket}, "object": {"key": key, "size": 1, "sequencer": "00", **s3_object}}
    return {"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": s3}


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """Start a monitor on a new log bucket, and stop it at the end."""
    session = get_session()

    def client(service: str, account: str = ACCOUNT) -> Any:
        return session.create_client(service, aws_access_key_id=account, aws_secret_access_key="test")

    bucket = os.environ.get("CELL_SECURITY_BUCKETS") or f"logs-{uuid.uuid4().hex}"
    async with client("s3") as s3:
        await s3.create_bucket(Bucket=bucket)
    monitor = SecurityMonitor()
    components = await monitor.start(a_cell())
    try:
        yield World(monitor, {component.name: component for component in components}, bucket, client)
    finally:
        await monitor.stop()


def run(scenario: Callable[[World], Awaitable[T]]) -> T:
    """Run a scenario in a new world of its own."""

    async def inside() -> T:
        async with world() as made:
            return await scenario(made)

    return asyncio.run(inside())


def record(source: str, name: str, request: Any, **more: Any) -> dict[str, Any]:
    """A CloudTrail record of a successful call."""
    return {
        "eventSource": f"{source}.amazonaws.com",
        "eventName": name,
        "eventTime": "2026-01-05T12:00:00Z",
        "eventID": uuid.uuid4().hex,
        "awsRegion": "us-east-1",
        "recipientAccountId": ACCOUNT,
        "sourceIPAddress": "203.0.113.9",
        "userIdentity": {"type": "IAMUser", "arn": f"arn:aws:iam::{ACCOUNT}:user/mallory", "userName": "mallory"},
        "requestParameters": request,
        **more,
    }
