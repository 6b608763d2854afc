"""The same job as a good engineer would write it in an afternoon, to compare the router with.

It uses aiobotocore as it comes, aiohttp, a hash ring and a quick JSON. For each batch that it receives, it sends one
POST to each cell, then one batch of deletes. Arguments: `batched`, or `each` for a POST an event; the endpoint, the
queue, then the address of each cell.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections import defaultdict
from typing import Any

import aiohttp
import msgspec
import uvloop
from aiobotocore.session import get_session
from uhashring import HashRing

from cell_worker.contract import protocol

POLLERS = 8
ACCOUNT = re.compile(r"AWSLogs/(\d{12})/")


async def poll(sqs: Any, url: str, http: aiohttp.ClientSession, ring: HashRing, *, each: bool) -> None:
    """Receive messages, send their events to the cells and delete what these confirm; never returns."""
    while True:
        answer = await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=10)
        messages = answer.get("Messages", [])
        batches: dict[tuple[str, str], list[tuple[dict[str, Any], dict[str, Any]]]] = defaultdict(list)
        for message in messages:
            for record in msgspec.json.decode(message["Body"])["Records"]:
                found = ACCOUNT.search(record["s3"]["object"]["key"])
                account = found.group(1) if found else record["s3"]["bucket"]["name"]
                event_id = record["s3"]["object"]["key"]
                event = {"event_id": event_id, "partition_key": account, "attempt": 1, "body": record}
                batches[ring.get_node(account), event_id if each else ""].append((message, event))
        failed = await asyncio.gather(*(post(http, cell, batch) for (cell, _), batch in batches.items()))
        again = {message["MessageId"] for group in failed for message in group}
        entries = [
            {"Id": str(index), "ReceiptHandle": message["ReceiptHandle"]}
            for index, message in enumerate(messages)
            if message["MessageId"] not in again
        ]
        if entries:
            await sqs.delete_message_batch(QueueUrl=url, Entries=entries)


async def post(
    http: aiohttp.ClientSession, address: str, batch: list[tuple[dict[str, Any], dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Send a cell one batch; return the messages whose event the cell has not confirmed."""
    body = {"cell_id": "", "generation": 1, "epoch": 1, "deadline_s": 60, "events": [event for _, event in batch]}
    headers = {"Authorization": "Bearer a-benchmark-secret", "Content-Type": "application/json"}
    url, data = f"http://{address}{protocol.EVENTS_PATH}", msgspec.json.encode(body)
    try:
        async with http.post(url, data=data, headers=headers) as response:
            response.raise_for_status()
            results = [msgspec.json.decode(line) for line in (await response.text()).splitlines()]
    except (aiohttp.ClientError, TimeoutError):
        return [message for message, _ in batch]
    good = {result["index"] for result in results if result["outcome"] == "ok"}
    return [message for index, (message, _) in enumerate(batch) if index not in good]


async def main(how: str, endpoint: str, queue: str, cells: list[str]) -> None:
    """Poll the queue with POLLERS loops until the process is killed."""
    async with get_session().create_client("sqs", endpoint_url=endpoint, region_name="us-east-1") as sqs:
        url = (await sqs.get_queue_url(QueueName=queue))["QueueUrl"]
        async with aiohttp.ClientSession() as http:
            ring = HashRing(nodes=cells)
            await asyncio.gather(*(poll(sqs, url, http, ring, each=how == "each") for _ in range(POLLERS)))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]))
