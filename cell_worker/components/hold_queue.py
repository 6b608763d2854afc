"""The cell's hold queue as a component. Routers fill and drain the queue; the cell only shows how much it holds."""

from __future__ import annotations

from typing import Final

from cell_worker.aws import AwsClient

_COUNTS: Final = {
    "ApproximateNumberOfMessages": "wait",
    "ApproximateNumberOfMessagesDelayed": "are delayed",
    "ApproximateNumberOfMessagesNotVisible": "are with a router",
}


class HoldQueueComponent:
    """Shows how many events the hold queue holds. It is healthy when SQS answers for the queue."""

    name = "hold"

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._client = AwsClient("sqs")

    async def check(self) -> str:
        """Say how many events wait, are delayed or are with a router. SQS only knows these numbers roughly."""
        client = await self._client.get()
        url = (await client.get_queue_url(QueueName=self._queue))["QueueUrl"]
        answer = await client.get_queue_attributes(QueueUrl=url, AttributeNames=list(_COUNTS))
        counts = (f"{answer['Attributes'].get(name, '0')} {words}" for name, words in _COUNTS.items())
        return f"{self._queue}: {', '.join(counts)}"

    async def restart(self) -> None:
        """Close the client; the next check opens a new one."""
        await self.close()

    async def close(self) -> None:
        """Close the client with its connections."""
        await self._client.close()
