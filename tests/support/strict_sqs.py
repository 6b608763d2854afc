"""A server that takes exactly what AWS documents that SQS takes: MiniStack counts no attributes and checks no types.

What counts is in the API reference (SendMessageBatch, MessageAttributeValue) and in the developer guide (message
quotas, message metadata): characters, sizes with attributes counted, names, types, how many. As SQS does, it refuses a
whole batch for one message that is too long or has a wrong character.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, Final, cast

from aiohttp import web

from router.adapters.aws.sqs import SqsSource
from router.adapters.clock import SystemClock
from router.adapters.memory import MemorySource, _Stored
from router.core.models import Draft, Message
from router.ports import Clock

MIB: Final = 1024 * 1024
MAX_ATTRIBUTES: Final = 10
MAX_NAME_CHARS: Final = 256
_REFUSED: Final = re.compile("[^\x09\x0a\x0d\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NAME: Final = re.compile(r"(?!(?i:aws|amazon)\.)(?!\.)(?!.*\.\.)[A-Za-z0-9_.-]{1,256}(?<!\.)")
_TYPE: Final = re.compile(r"(String|Number|Binary)(\.[A-Za-z0-9_.-]+)?")
_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_ENTRY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
_GROUP: Final = re.compile(r"[!-~]{1,128}")


class RefusedError(Exception):
    """SQS refuses a call or an entry of it: with which code, and why."""

    def __init__(self, code: str, why: str = "") -> None:
        super().__init__(f"{code}: {why}")
        self.code = code


def check_entry(entry: Mapping[str, Any], *, max_bytes: int = MIB, fifo: bool = False) -> int:
    """Return the size of one message, as SQS counts it. Raises RefusedError for one that SQS doesn't take."""
    body = entry["MessageBody"]
    if not body:
        raise RefusedError("MissingParameter", "an empty body")
    if _REFUSED.search(body):
        raise RefusedError("InvalidMessageContents", "a character of the body")
    attributes = entry.get("MessageAttributes") or {}
    if len(attributes) > MAX_ATTRIBUTES:
        raise RefusedError("InvalidParameterValue", f"{len(attributes)} attributes")
    size = len(body.encode()) + sum(_size_of(name, value) for name, value in attributes.items())
    if size > max_bytes:
        raise RefusedError("InvalidParameterValue", f"Message must be shorter than {max_bytes} bytes: {size}")
    for name, value in (entry.get("MessageSystemAttributes") or {}).items():
        if name != "AWSTraceHeader" or value["DataType"] != "String":
            raise RefusedError("InvalidParameterValue", f"the system attribute {name}")
    _check_queue_fields(entry, fifo=fifo)
    return size


def _size_of(name: str, value: Mapping[str, Any]) -> int:
    if not _NAME.fullmatch(name):
        raise RefusedError("InvalidParameterValue", f"the attribute's name {name!r}")
    kind = value["DataType"]
    known = _TYPE.fullmatch(kind)
    if not known or len(kind) > MAX_NAME_CHARS:
        raise RefusedError("InvalidParameterValue", f"the type {kind!r} of {name}")
    field = "BinaryValue" if known[1] == "Binary" else "StringValue"
    if set(value) != {"DataType", field} or not value[field]:
        raise RefusedError("InvalidParameterValue", f"{name} has {sorted(value)}, and must have a {field}")
    if field == "BinaryValue":
        return len(name) + len(kind) + len(_bytes(value[field]))
    text = value[field]
    if _REFUSED.search(text):
        raise RefusedError("InvalidParameterValue", f"a character of the attribute {name}")
    if known[1] == "Number" and not _NUMBER.fullmatch(text):
        raise RefusedError("InvalidParameterValue", f"{name} is no number")
    return len(name) + len(kind) + len(text.encode())


def _check_queue_fields(entry: Mapping[str, Any], *, fifo: bool) -> None:
    names = [entry[name] for name in ("MessageGroupId", "MessageDeduplicationId") if name in entry]
    if not all(_GROUP.fullmatch(name) for name in names):
        raise RefusedError("InvalidParameterValue", f"group or deduplication id: {names}")
    if fifo and (len(names) != 2 or entry.get("DelaySeconds")):
        raise RefusedError("InvalidParameterValue", "a FIFO queue takes both ids and no delay")
    if not fifo and "MessageDeduplicationId" in entry:
        raise RefusedError("InvalidParameterValue", "a standard queue takes no deduplication id")
    if not 0 <= entry.get("DelaySeconds", 0) <= 900:
        raise RefusedError("InvalidParameterValue", "the delay")


def delivered(entry: Mapping[str, Any], name: str = "m", sent_at_ms: int = 1) -> dict[str, Any]:
    """Return what ReceiveMessage gives of a message that was sent so."""
    system = {"SentTimestamp": str(sent_at_ms), "ApproximateReceiveCount": "1"}
    system |= {field: entry[field] for field in ("MessageGroupId", "MessageDeduplicationId") if entry.get(field)}
    header = entry.get("MessageSystemAttributes", {}).get("AWSTraceHeader", {})
    system |= {"AWSTraceHeader": header["StringValue"]} if header else {}
    attributes = {key: dict(value) for key, value in (entry.get("MessageAttributes") or {}).items()}
    for value in attributes.values():
        if "BinaryValue" in value:
            value["BinaryValue"] = b64encode(_bytes(value["BinaryValue"])).decode()
    found = {"MessageId": name, "ReceiptHandle": "r", "Body": entry["MessageBody"], "Attributes": system}
    return found | ({"MessageAttributes": attributes} if attributes else {})


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else b64decode(value, validate=True)


def entry_of(draft: Draft, queue: str = "q") -> dict[str, Any]:
    """The entry of a SendMessageBatch as the adapter makes it."""
    nobody = cast("Any", None)
    return SqsSource(queue, nobody, nobody)._entry(0, draft)


class StrictSource(MemorySource):
    """A queue in memory that takes no message that SQS wouldn't take."""

    async def send(self, drafts: Sequence[Draft]) -> list[int]:
        refused = [position for position, draft in enumerate(drafts) if not self._takes(draft)]
        await super().send([draft for position, draft in enumerate(drafts) if position not in refused])
        return refused

    def _takes(self, draft: Draft) -> bool:
        try:
            check_entry(entry_of(draft, self.name), max_bytes=self._max_bytes, fifo=self.fifo)
        except RefusedError:
            return False
        return True


class ShortSightedSource(StrictSource):
    """A FIFO queue that looks for groups which may go on among its first `look_ahead` messages, as SQS does."""

    def __init__(self, name: str, clock: Clock, look_ahead: int) -> None:
        super().__init__(name, clock)
        self._look_ahead = look_ahead

    def _visible_groups(self, now: float) -> Iterator[_Stored]:
        seen = set(islice(self._stored, self._look_ahead))
        return (stored for stored in super()._visible_groups(now) if stored.message_id in seen)


class StrictSqs:
    """The server's state: queues in memory, each with the limit that it was made with."""

    def __init__(self) -> None:
        self.queues: dict[str, MemorySource] = {}
        self.limits: dict[str, int] = {}

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one call of the JSON protocol."""
        operation = request.headers["X-Amz-Target"].rpartition(".")[2]
        given = await request.json()
        try:
            return web.json_response(await getattr(self, f"_{operation}")(given))
        except RefusedError as error:
            body = {"__type": f"com.amazonaws.sqs#{error.code}", "message": str(error)}
            return web.json_response(body, status=400)

    def _queue(self, given: Mapping[str, Any]) -> MemorySource:
        try:
            return self.queues[given["QueueUrl"].rpartition("/")[2]]
        except KeyError as error:
            raise RefusedError("QueueDoesNotExist") from error

    async def _CreateQueue(self, given: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: N802 - SQS' own name
        name, limit = given["QueueName"], int(given.get("Attributes", {}).get("MaximumMessageSize", MIB))
        self.queues[name], self.limits[name] = MemorySource(name, SystemClock()), limit
        return {"QueueUrl": f"http://queues/{name}"}

    async def _GetQueueUrl(self, given: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: N802
        if given["QueueName"] not in self.queues:
            raise RefusedError("QueueDoesNotExist")
        return {"QueueUrl": f"http://queues/{given['QueueName']}"}

    async def _GetQueueAttributes(self, given: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: N802
        queue = self._queue(given)
        depth = await queue.depth()
        known = {"MaximumMessageSize": self.limits[queue.name], "ApproximateNumberOfMessages": depth.waiting}
        known |= {"ApproximateNumberOfMessagesNotVisible": depth.hidden, "ApproximateNumberOfMessagesDelayed": 0}
        return {"Attributes": {name: str(known[name]) for name in given["AttributeNames"]}}

    async def _SendMessageBatch(self, given: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: N802
        queue, entries = self._queue(given), given["Entries"]
        _check_ids(entries)
        if sum(check_entry(e, max_bytes=self.limits[queue.name], fifo=queue.fifo) for e in entries) > MIB:
            raise RefusedError("BatchRequestTooLong")
        await queue.send([_draft(entry) for entry in entries])
        return {"Successful": [{"Id": entry["Id"]} for entry in entries], "Failed": []}

    async def _ReceiveMessage(self, given: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: N802
        asked = (given["MaxNumberOfMessages"], given["WaitTimeSeconds"], given["VisibilityTimeout"])
        found = await self._queue(given).receive(*asked)
        return {"Messages": [_delivered(message, given) for message in found]}

    async def _DeleteMessageBatch(self, given: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: N802
        queue = self._queue(given)
        return await self._each(given["Entries"], lambda entry: queue.delete([_known(entry)]))

    async def _ChangeMessageVisibilityBatch(self, given: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: N802
        queue = self._queue(given)
        return await self._each(
            given["Entries"], lambda entry: queue.set_visibility([_known(entry)], entry["VisibilityTimeout"])
        )

    async def _each(self, entries: Sequence[Mapping[str, Any]], act: Any) -> Mapping[str, Any]:
        _check_ids(entries)
        failed = []
        for entry in entries:
            try:
                await act(entry)
            except RefusedError as error:
                failed.append({"Id": entry["Id"], "Code": error.code, "SenderFault": True})
        return {"Failed": failed}


def _check_ids(entries: Sequence[Mapping[str, Any]]) -> None:
    ids = [entry["Id"] for entry in entries]
    if not 1 <= len(ids) <= 10:
        raise RefusedError("TooManyEntriesInBatchRequest" if ids else "EmptyBatchRequest")
    if len({*ids}) < len(ids) or not all(_ENTRY_ID.fullmatch(each) for each in ids):
        raise RefusedError("BatchEntryIdsNotDistinct")


def _draft(entry: Mapping[str, Any]) -> Draft:
    given = entry.get("MessageAttributes") or {}
    return Draft(
        entry["MessageBody"],
        {name: value["StringValue"] for name, value in given.items() if "StringValue" in value},
        entry.get("DelaySeconds", 0),
        entry.get("MessageGroupId"),
        entry.get("MessageDeduplicationId"),
        {name: value["DataType"] for name, value in given.items()},
        {name: _bytes(value["BinaryValue"]) for name, value in given.items() if "BinaryValue" in value},
        entry.get("MessageSystemAttributes", {}).get("AWSTraceHeader", {}).get("StringValue", ""),
    )


def _delivered(message: Message, asked: Mapping[str, Any]) -> dict[str, Any]:
    """A message as ReceiveMessage gives it, with no system attribute that wasn't asked for."""
    types = message.types
    texts = {name: {"DataType": types[name], "StringValue": value} for name, value in message.attributes.items()}
    blobs = {name: {"DataType": types[name], "BinaryValue": value} for name, value in message.binaries.items()}
    entry: dict[str, Any] = {"MessageBody": message.body, "MessageAttributes": {**texts, **blobs}}
    entry |= {"MessageGroupId": message.group_id, "MessageDeduplicationId": message.dedup_id}
    if message.trace_header:
        entry["MessageSystemAttributes"] = {"AWSTraceHeader": {"StringValue": message.trace_header}}
    found = delivered(entry, message.message_id, message.sent_at_ms) | {"ReceiptHandle": _handle(message)}
    found["Attributes"]["ApproximateReceiveCount"] = str(message.receive_count)
    names = asked["MessageSystemAttributeNames"]
    found["Attributes"] = {name: value for name, value in found["Attributes"].items() if name in names}
    return found


def _handle(message: Message) -> str:
    return f"{message.message_id} {message.receipt}"


def _known(entry: Mapping[str, Any]) -> Message:
    name, _, receipt = entry["ReceiptHandle"].partition(" ")
    if not receipt:
        raise RefusedError("ReceiptHandleIsInvalid")
    return Message(name, receipt, "", 0, 0)


@asynccontextmanager
async def strict_sqs() -> AsyncIterator[str]:
    """Run the server in this event loop; yields its endpoint URL."""
    app = web.Application(client_max_size=32 * MIB)
    app.router.add_route("POST", "/", StrictSqs().answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
