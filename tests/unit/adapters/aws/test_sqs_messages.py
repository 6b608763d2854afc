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


class Queue:
    """A client of SQS to which one answer comes."""

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
    assert received("events.fifo", [found("a"), {}, found("b")], []) == ["a"]


@pytest.mark.parametrize(("name", "messages"), [("events", [{}, {}]), ("events.fifo", [{}, found("a")])])
def test_an_answer_of_which_nothing_can_be_received_is_none(name: str, messages: list[object]) -> None:
    """What answers may be no SQS: that is told as a queue out of reach, and not as an empty one."""
    with pytest.raises(SourceUnavailableError, match="can't be read"):
        received(name, messages, [])
