"""The cell's hold queue as a component: routers fill and drain it, the cell only shows how much waits there."""

from __future__ import annotations

from typing import Final

from cell_worker.aws import AwsClient

_COUNTS: Final = {
    "ApproximateNumberOfMessages": "wait",
    "ApproximateNumberOfMessagesDelayed": "are delayed",
    "ApproximateNumberOfMessagesNotVisible": "are with a router",
}


class HoldQueueComponent:
    """Healthy when the queue can be asked."""

    name = "hold"

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._client = AwsClient("sqs")

    async def check(self) -> str:
        """How many events wait, as SQS knows it: roughly."""
        client = await self._client.get()
        url = (await client.get_queue_url(QueueName=self._queue))["QueueUrl"]
        answer = await client.get_queue_attributes(QueueUrl=url, AttributeNames=list(_COUNTS))
        counts = (f"{answer['Attributes'].get(name, '0')} {words}" for name, words in _COUNTS.items())
        return f"{self._queue}: {', '.join(counts)}"

    async def restart(self) -> None:
        """A new client."""
        await self.close()

    async def close(self) -> None:
        """Let go of the client."""
        await self._client.close()
