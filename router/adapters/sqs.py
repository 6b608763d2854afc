"""EventSource on SQS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from router.adapters.aws import AWS_ERRORS
from router.core.errors import SourceUnavailableError
from router.core.models import Draft, Message

# The receipt is of no use any more: the message is gone, or will come again with another.
_GONE: Final = {"ReceiptHandleIsInvalid", "InvalidParameterValue"}


class SqsSource:
    """One queue.

    Two clients with a connection pool each: long polls that hold every connection of a pool would starve deletes.
    """

    def __init__(self, name: str, poll_client: Any, call_client: Any) -> None:
        self.name = name
        self._poll = poll_client
        self._call = call_client
        self._known_url = ""

    async def receive(self, max_messages: int, wait_s: float, visibility_s: int) -> list[Message]:
        """Long-poll."""
        answer = await self._request(
            self._poll.receive_message,
            MaxNumberOfMessages=max_messages,
            WaitTimeSeconds=round(wait_s),
            VisibilityTimeout=visibility_s,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount", "MessageGroupId"],
        )
        return [_message(found) for found in answer.get("Messages", ())]

    async def delete(self, messages: Sequence[Message]) -> list[Message]:
        """DeleteMessageBatch; answers 200 with `Failed[]`, of which only what can succeed later is returned."""
        entries = [{"Id": str(i), "ReceiptHandle": message.receipt} for i, message in enumerate(messages)]
        answer = await self._request(self._call.delete_message_batch, Entries=entries)
        return [messages[int(f["Id"])] for f in answer.get("Failed", ()) if f.get("Code") not in _GONE]

    async def set_visibility(self, messages: Sequence[Message], seconds: int) -> None:
        """ChangeMessageVisibilityBatch."""
        entries = [
            {"Id": str(i), "ReceiptHandle": message.receipt, "VisibilityTimeout": seconds}
            for i, message in enumerate(messages)
        ]
        await self._request(self._call.change_message_visibility_batch, Entries=entries)

    async def send(self, drafts: Sequence[Draft]) -> list[int]:
        """SendMessageBatch, in as many calls as the 1 MiB that one call may carry needs."""
        failed: list[int] = []
        for chunk in _by_size(drafts):
            answer = await self._request(
                self._call.send_message_batch, Entries=[_entry(position, drafts[position]) for position in chunk]
            )
            failed += [int(f["Id"]) for f in answer.get("Failed", ())]
        return failed

    async def _request(self, method: Any, **arguments: Any) -> Mapping[str, Any]:
        try:
            if not self._known_url:
                self._known_url = (await self._call.get_queue_url(QueueName=self.name))["QueueUrl"]
            answer: Mapping[str, Any] = await method(QueueUrl=self._known_url, **arguments)
        except AWS_ERRORS as error:
            raise SourceUnavailableError(f"queue {self.name}: {error}") from error
        return answer


_MAX_SEND_BYTES: Final = 1024 * 1024


def _by_size(drafts: Sequence[Draft]) -> list[list[int]]:
    """Positions, grouped so that a group's bytes fit in one call."""
    groups: list[list[int]] = []
    room = 0
    for position, draft in enumerate(drafts):
        size = len(draft.body.encode()) + sum(len(k) + len(v) + 6 for k, v in draft.attributes.items())
        if not groups or size > room:
            groups.append([])
            room = _MAX_SEND_BYTES
        groups[-1].append(position)
        room -= size
    return groups


def _entry(position: int, draft: Draft) -> dict[str, Any]:
    attributes = {name: {"DataType": "String", "StringValue": value} for name, value in draft.attributes.items()}
    return {
        "Id": str(position),
        "MessageBody": draft.body,
        "DelaySeconds": draft.delay_s,
        "MessageAttributes": attributes,
    }


def _message(found: Mapping[str, Any]) -> Message:
    system = found.get("Attributes", {})
    attributes = found.get("MessageAttributes") or {}
    return Message(
        message_id=found["MessageId"],
        receipt=found["ReceiptHandle"],
        body=found["Body"],
        sent_at_ms=int(system.get("SentTimestamp", 0)),
        receive_count=int(system.get("ApproximateReceiveCount", 1)),
        attributes={name: value["StringValue"] for name, value in attributes.items() if "StringValue" in value},
        group_id=system.get("MessageGroupId"),
    )
