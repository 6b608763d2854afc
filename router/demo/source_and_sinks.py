"""Both ends of the system in AWS: the bucket that files go into, and what comes out in sinks and dead letters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import unquote_plus

from router.adapters.aws.resources import ResourceNames
from router.core.messages import dead_letter
from router.demo.ledger import Evidence

PARALLEL_READS: Final = 16
DEAD_LETTER_HIDE_S: Final = 60  # a dead letter that was read is hidden for so long, and not read again and again


class SourceAndSinks:
    """Puts log files into the source bucket, and reads each object of the cells' sinks once."""

    def __init__(self, names: ResourceNames, cells: Sequence[str], s3: Any, sqs: Any) -> None:
        self._names = names
        self._cells = cells
        self._s3 = s3
        self._sqs = sqs
        self._read: set[tuple[str, str]] = set()
        self._reads = asyncio.Semaphore(PARALLEL_READS)

    async def put(self, key: str, body: bytes) -> str:
        """Put a log file into the source bucket, and return its location as `s3://bucket/key`."""
        await self._s3.put_object(Bucket=self._names.source_bucket, Key=key, Body=body)
        return f"s3://{self._names.source_bucket}/{key}"

    async def collect(self, evidence: Evidence) -> None:
        """Add to the evidence every sink object that is new, and every dead letter that is visible."""
        await asyncio.gather(*(self._collect_bucket(self._names.cell(cell), evidence) for cell in self._cells))
        await self._collect_dead_letters(evidence)

    async def _collect_bucket(self, bucket: str, evidence: Evidence) -> None:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        keys = [found["Key"] async for page in pages for found in page.get("Contents", ())]
        new = [key for key in keys if (bucket, key) not in self._read]
        for lines in await asyncio.gather(*(self._lines(bucket, key) for key in new)):
            for line in lines:
                evidence.add_line(line)
        self._read.update((bucket, key) for key in new)

    async def _lines(self, bucket: str, key: str) -> list[dict[str, Any]]:
        async with self._reads:
            answer = await self._s3.get_object(Bucket=bucket, Key=key)
            async with answer["Body"] as stream:
                text = await stream.read()
        return [json.loads(line) for line in text.splitlines() if line.strip()]

    async def _collect_dead_letters(self, evidence: Evidence) -> None:
        """Read the dead letters without taking them: they become visible again by themselves."""
        url = (await self._sqs.get_queue_url(QueueName=self._names.dead_letter_queue))["QueueUrl"]
        while found := (await self._receive(url)).get("Messages"):
            for message in found:
                letter = dead_letter.from_body(message["Body"])
                evidence.add_dead_letter(_location(letter.body), f"{letter.reason}: {letter.error}")

    async def _receive(self, url: str) -> Any:
        return await self._sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=DEAD_LETTER_HIDE_S, WaitTimeSeconds=0
        )


def _location(body: str) -> str:
    """The location of the object that an S3 notification's record is about; empty for any other body."""
    try:
        s3 = json.loads(body)["s3"]
        return f"s3://{s3['bucket']['name']}/{unquote_plus(s3['object']['key'])}"
    except (ValueError, KeyError, TypeError):
        return ""
