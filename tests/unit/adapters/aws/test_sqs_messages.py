"""One message that can't be read costs the others of its answer nothing."""

from __future__ import annotations

from typing import Any, Final, cast

import pytest

from router.adapters.aws.sqs import SqsSource
from router.core.errors import SourceUnavailableError
from router.core.telemetry import BadInput
from tests.support.aio import run


def found(name: str, **changes: object) -> dict[str, object]:
    """A message as SQS gives it, with these members changed."""
    return {"MessageId": name, "ReceiptHandle": name, "Body": "{}", "Attributes": {}} | changes


BAD: Final[tuple[object, ...]] = (
    "a text",
    None,
    {},
    {"MessageId": "bad"},
    found("bad", Attributes={"SentTimestamp": "noon"}),
    found("bad", Attributes=7),
    found("bad", MessageAttributes={"a": None}),
)


def grouped(name: str, **changes: object) -> dict[str, object]:
    """A message as a FIFO queue gives it, with these of its system attributes changed."""
    return found(name, Attributes={"MessageGroupId": "g", "MessageDeduplicationId": name} | changes)


class Queue:
    """A client of SQS to which one answer comes."""

    endpoint_url = "http://127.0.0.1:9324"

    def __init__(self, messages: list[object]) -> None:
        self._messages = messages

    async def call(self, operation: str, **_: Any) -> dict[str, Any]:
        return {"QueueUrl": "https://queue"} if operation == "GetQueueUrl" else {"Messages": self._messages}


def received(name: str, messages: list[object], told: list[BadInput]) -> list[str]:
    """Receive from a queue of this name, and return the ids of what can be read."""
    client = cast("Any", Queue(messages))
    source = SqsSource(name, client, client, told.append)
    return [message.message_id for message in run(source.receive(10, 0, 30))]


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_what_can_be_read_is_received_and_the_rest_is_told(bad: object) -> None:
    """Wherever it stands in the answer. Its message comes again, and the queue's own redrive ends that."""
    told: list[BadInput] = []
    assert received("events", [found("a"), bad, found("b"), bad], told) == ["a", "b"]
    assert [(each.source, each.name) for each in told] == [("message", "events")] * 2
    assert all(each.why for each in told)


def test_in_a_fifo_queue_nothing_overtakes_what_cant_be_read() -> None:
    """It may be of the group of what comes after it."""
    assert received("events.fifo", [grouped("a"), {}, grouped("b")], []) == ["a"]


@pytest.mark.parametrize("name", ["events.fifo", "arn:aws:sqs:us-east-1:123456789012:events.fifo"])
@pytest.mark.parametrize("lost", ["MessageGroupId", "MessageDeduplicationId"])
def test_a_fifo_queue_without_groups_in_its_reply_is_refused(name: str, lost: str) -> None:
    """An older imitation of SQS leaves them out. To guess would break the order, so an operator is told what to do."""
    bare = grouped("b", **{lost: None})
    with pytest.raises(SourceUnavailableError, match="their order can't be kept, and none is taken") as caught:
        received(name, [grouped("a"), bare], [])
    assert all(word in str(caught.value) for word in (name, "http://127.0.0.1:9324", "update it"))
    assert received("events", [bare], []) == ["b"]


@pytest.mark.parametrize(("name", "messages"), [("events", [{}, {}]), ("events.fifo", [{}, grouped("a")])])
def test_an_answer_of_which_nothing_can_be_received_is_none(name: str, messages: list[object]) -> None:
    """What answers may be no SQS: that is told as a queue out of reach, and not as an empty one."""
    with pytest.raises(SourceUnavailableError, match="can't be read"):
        received(name, messages, [])
