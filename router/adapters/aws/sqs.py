"""EventSource on an SQS queue, standard or FIFO."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from botocore.exceptions import CredentialRetrievalError
from msgspec.structs import replace

from cell_worker.contract.aws_session import CREDENTIALS_REFUSED
from router.adapters.aws.sqs_client import SqsClient, SqsError
from router.core.errors import SourceDeniedError, SourceMissingError, SourceUnavailableError
from router.core.models import MAX_MESSAGE_BYTES, Depth, Draft, Message
from router.core.queue_names import queue_name
from router.core.telemetry import BadInput, GroupsRefused

_SYSTEM_ATTRIBUTES: Final = ("SentTimestamp", "ApproximateReceiveCount", "MessageGroupId", "AWSTraceHeader")
_DEPTH: Final = tuple(f"ApproximateNumberOfMessages{state}" for state in ("", "NotVisible", "Delayed"))
_LIMIT: Final = "MaximumMessageSize"
_LEAST_LIMIT: Final = 1024  # the lowest that SQS lets anybody set
_GONE: Final = {"ReceiptHandleIsInvalid", "InvalidParameterValue"}
"""The receipt is of no use any more: the message is gone, or will come again with another receipt."""
_ONE_IS_BAD: Final = {*_GONE, "InvalidMessageContents", "BatchRequestTooLong", "MissingParameter"}
"""Codes by which SQS refuses a whole batch although only one of its entries is wrong."""

_GROUP_REFUSED: Final = "InvalidParameterValue"
"""How a message group on a standard queue was refused by SQS until July 2025, by LocalStack before 4.7, by moto and by
ElasticMQ. It may also say of something else in the message that it is bad."""
_NO_GROUP: Final = (
    "queue {queue}: its messages come without MessageGroupId or MessageDeduplicationId, so their order can't be kept, "
    "and none is taken; they wait in the queue. What answers at {endpoint} is no SQS, or does not know "
    "MessageSystemAttributeNames, which SQS has had since 2023: update it, or use a standard queue"
)
UNREADABLE: Final = (LookupError, TypeError, ValueError, AttributeError)
"""What is raised for an answer, or a message in one, that has another shape than SQS'."""

_MISSING: Final = {"NonExistentQueue", "QueueDoesNotExist"}
"""The first comes from services that still answer as the older protocol did."""

_DENIED: Final = {
    *CREDENTIALS_REFUSED,
    *("AccessDenied", "AccessDeniedException", "OptInRequired"),
    *("KmsAccessDenied", "KmsDisabled", "KmsInvalidKeyUsage", "KmsInvalidState", "KmsNotFound", "KmsOptInRequired"),
}
"""Codes by which SQS, or KMS behind it, refuses who asks, and not what is asked."""


class SqsSource:
    """One queue, used through two clients with a connection pool each, of its region. A URL is used as it is given.

    Long polls that occupy every connection of a single pool would starve deletes.
    """

    def __init__(
        self,
        name: str,
        poll_client: SqsClient,
        call_client: SqsClient,
        tell: Callable[[BadInput | GroupsRefused], None] = lambda _: None,
    ) -> None:
        self.name = name
        self._tell = tell
        self._named = queue_name(name)
        self.fifo = self._named.fifo
        self._poll = poll_client
        self._call = call_client
        self._known_url = self._named.url
        self._system_attributes = [*_SYSTEM_ATTRIBUTES, *(["MessageDeduplicationId"] if self.fifo else [])]

    async def receive(self, max_messages: int, wait_s: float, visibility_s: int) -> list[Message]:
        """Long-poll with ReceiveMessage, through the client that is kept for polls."""
        answer = await self._request(
            self._poll,
            "ReceiveMessage",
            MaxNumberOfMessages=max_messages,
            WaitTimeSeconds=round(wait_s),
            VisibilityTimeout=visibility_s,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=self._system_attributes,
        )
        with self._readable():
            return self._messages(answer.get("Messages", ()))

    async def delete(self, messages: Sequence[Message]) -> list[Message]:
        """DeleteMessageBatch; of the entries that SQS reports as failed, return those that can still succeed."""
        entries = [{"Id": str(i), "ReceiptHandle": message.receipt} for i, message in enumerate(messages)]
        failed = await self._batch("DeleteMessageBatch", entries)
        with self._readable():
            return [messages[int(entry["Id"])] for entry in failed if entry.get("Code") not in _GONE]

    async def set_visibility(self, messages: Sequence[Message], seconds: int) -> None:
        """ChangeMessageVisibilityBatch; an entry that fails is passed over, since its message comes again anyway."""
        entries = [
            {"Id": str(i), "ReceiptHandle": message.receipt, "VisibilityTimeout": seconds}
            for i, message in enumerate(messages)
        ]
        await self._batch("ChangeMessageVisibilityBatch", entries)

    async def send(self, drafts: Sequence[Draft]) -> list[int]:
        """SendMessageBatch, in as many calls as needed: one call carries 1 MiB at most."""
        failed: list[int] = []
        if not (self.fifo or self._call.takes_groups):
            drafts = [replace(draft, group_id=None) for draft in drafts]
        for chunk in _by_size(drafts):
            entries = [self._entry(position, drafts[position]) for position in chunk]
            not_sent = await self._batch("SendMessageBatch", entries)
            with self._readable():
                codes = {int(entry["Id"]): _short(str(entry.get("Code", ""))) for entry in not_sent}
            failed += await self._without_groups(drafts, codes)
        return failed

    async def depth(self) -> Depth:
        """GetQueueAttributes; SQS says itself that its figures are eventually right."""
        return Depth(*await self._figures(*_DEPTH))

    async def max_bytes(self) -> int:
        """GetQueueAttributes: MaximumMessageSize, which whoever owns the queue may have set."""
        (limit,) = await self._figures(_LIMIT)
        return min(MAX_MESSAGE_BYTES, max(_LEAST_LIMIT, limit))

    async def _without_groups(self, drafts: Sequence[Draft], codes: Mapping[int, str]) -> list[int]:
        """Send those again of which a service may have refused the group; return what it has not taken even so.

        `codes` are those of the refused, by position. What goes without its group shows that groups are refused.
        """
        with self._readable():
            odd = [position for position, code in codes.items() if code == _GROUP_REFUSED and drafts[position].group_id]
        if self.fifo or not odd:
            return list(codes)
        entries = [self._entry(position, replace(drafts[position], group_id=None)) for position in odd]
        still = await self._batch("SendMessageBatch", entries)
        with self._readable():
            taken = set(odd) - {int(entry["Id"]) for entry in still}
        if taken:
            self._call.takes_groups = False
            self._tell(GroupsRefused(self.name, self._call.endpoint_url))
        return [position for position in codes if position not in taken]

    async def _figures(self, *attributes: str) -> list[int]:
        answer = await self._request(self._call, "GetQueueAttributes", AttributeNames=list(attributes))
        with self._readable():
            return [int(answer["Attributes"][attribute]) for attribute in attributes]

    def _messages(self, found: Sequence[Any]) -> list[Message]:
        """Return the messages of an answer, without those that can't be read, which come again after their time.

        None that can be read is no answer of SQS. In a FIFO queue nothing may overtake what can't be read.
        """
        read: list[Message] = []
        fault: Exception | None = None
        for each in found:
            try:
                read.append(_message(each))
            except UNREADABLE as error:
                fault = error
                self._tell(BadInput("message", self.name, f"{error!r:.300}"))
                if self.fifo:
                    break
        if self.fifo and any(message.group_id is None or message.dedup_id is None for message in read):
            raise SourceUnavailableError(_NO_GROUP.format(queue=self.name, endpoint=self._poll.endpoint_url))
        if fault is not None and not read:
            raise fault
        return read

    def _entry(self, position: int, draft: Draft) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "Id": str(position),
            "MessageBody": draft.body,
            "MessageAttributes": {
                name: {"DataType": draft.types.get(name, "String"), "StringValue": value}
                for name, value in draft.attributes.items()
            },
        }
        for name, blob in draft.binaries.items():
            entry["MessageAttributes"][name] = {"DataType": draft.types.get(name, "Binary"), "BinaryValue": blob}
        if draft.trace_header:
            header = {"DataType": "String", "StringValue": draft.trace_header}
            entry["MessageSystemAttributes"] = {"AWSTraceHeader": header}
        if draft.group_id:
            entry["MessageGroupId"] = draft.group_id
        if self.fifo:
            entry["MessageDeduplicationId"] = draft.dedup_id
        else:
            entry["DelaySeconds"] = draft.delay_s  # a FIFO queue takes no delay for a single message
        return entry

    async def _batch(self, operation: str, entries: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """Call a batch operation; returns the entries that failed, with their codes.

        Where SQS refuses the whole batch for one bad entry, each entry is sent alone.
        """
        try:
            failed: Sequence[Mapping[str, Any]] = (await self._request(self._call, operation, Entries=entries)).get(
                "Failed", ()
            )
        except SourceUnavailableError as error:
            code = _short(getattr(error.__cause__, "code", ""))
            if code not in _ONE_IS_BAD:
                raise
            if len(entries) == 1:
                return [{"Id": entries[0]["Id"], "Code": code}]
            return [failure for entry in entries for failure in await self._batch(operation, [entry])]
        return failed

    async def _request(self, client: SqsClient, operation: str, **parameters: Any) -> Mapping[str, Any]:
        try:
            if not self._known_url:
                owner = {"QueueOwnerAWSAccountId": self._named.account} if self._named.account else {}
                found = await self._call.call("GetQueueUrl", QueueName=self._named.name, **owner)
                with self._readable():
                    self._known_url = found["QueueUrl"]
            return await client.call(operation, QueueUrl=self._known_url, **parameters)
        except SqsError as error:
            raise _kind_of(error)(f"queue {self.name}: {error}") from error

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Take an answer that has another shape than SQS' for a call that failed."""
        try:
            yield
        except UNREADABLE as error:
            raise SourceUnavailableError(f"queue {self.name}: the answer can't be read: {error!r:.300}") from error


def _kind_of(error: SqsError) -> type[SourceUnavailableError]:
    code = _short(error.code)
    if code in _MISSING:
        return SourceMissingError
    no_credentials = isinstance(error.__cause__, CredentialRetrievalError)
    return SourceDeniedError if no_credentials or code in _DENIED else SourceUnavailableError


def _short(code: str) -> str:
    """Return the last part of a code: NonExistentQueue of AWS.SimpleQueueService.NonExistentQueue."""
    return code.rpartition(".")[2]


def _by_size(drafts: Sequence[Draft]) -> list[list[int]]:
    """Group the positions of drafts, in order, so that the bytes of each group fit in one call."""
    groups: list[list[int]] = []
    room = 0
    for position, draft in enumerate(drafts):
        size = draft.size
        if not groups or size > room:
            groups.append([])
            room = MAX_MESSAGE_BYTES
        groups[-1].append(position)
        room -= size
    return groups


def _message(found: Mapping[str, Any]) -> Message:
    system = found.get("Attributes") or {}
    attributes = found.get("MessageAttributes") or {}
    return Message(
        message_id=found["MessageId"],
        receipt=found["ReceiptHandle"],
        body=found["Body"],
        sent_at_ms=int(system.get("SentTimestamp", 0)),
        receive_count=int(system.get("ApproximateReceiveCount", 1)),
        group_id=system.get("MessageGroupId"),
        dedup_id=system.get("MessageDeduplicationId"),
        trace_header=str(system.get("AWSTraceHeader", "")),
        **(_by_kind(attributes) if attributes else {}),
    )


class _Attribute(msgspec.Struct, rename="pascal", gc=False):
    """One attribute of a message, as SQS delivers it."""

    data_type: str = "String"
    string_value: str | None = None
    binary_value: bytes | None = None


def _by_kind(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a message that hold its attributes: texts, types and binary values."""
    given = msgspec.convert(found, dict[str, _Attribute])
    return {
        "attributes": {name: each.string_value for name, each in given.items() if each.string_value is not None},
        "binaries": {name: each.binary_value for name, each in given.items() if each.binary_value is not None},
        "types": {name: each.data_type for name, each in given.items() if each.data_type != "String"},
    }
