"""One message that can't be read costs the others of its answer nothing."""

from __future__ import annotations

from typing import Any, Final, cast

import pytest

from router.adapters.aws.sqs import SqsSource
from router.adapters.aws.sqs_client import SqsError
from router.core.errors import SourceUnavailableError
from router.core.models import Draft
from router.core.telemetry import BadInput, GroupsRefused
from tests.support.aio import run


def found(name: str, **changes: object) -> dict[str, object]:
    """A message as SQS gives it, with these members changed."""
    return {"MessageId": name, "ReceiptHandle": name, "Body": "{}", "Attributes": {}} | changes


Told = BadInput | GroupsRefused

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


def received(name: str, messages: list[object], told: list[Told]) -> list[str]:
    """Receive from a queue of this name, and return the ids of what can be read."""
    client = cast("Any", Queue(messages))
    source = SqsSource(name, client, client, told.append)
    return [message.message_id for message in run(source.receive(10, 0, 30))]


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_what_can_be_read_is_received_and_the_rest_is_told(bad: object) -> None:
    """Wherever it stands in the answer. Its message comes again, and the queue's own redrive ends that."""
    told: list[Told] = []
    assert received("events", [found("a"), bad, found("b"), bad], told) == ["a", "b"]
    bad_ones = [each for each in told if isinstance(each, BadInput)]
    assert [(each.source, each.name) for each in bad_ones] == [("message", "events")] * 2
    assert all(each.why for each in bad_ones)


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


class WithoutFairQueues(Queue):
    """SQS before it had fair queues: it refuses each message of a group, and each whose body is bad."""

    takes_groups = True

    def __init__(self, *, whole: bool) -> None:
        super().__init__([])
        self._whole = whole  # by one code for the whole call
        self.sent: list[tuple[str, bool]] = []  # the body, and whether it came with a group

    async def call(self, operation: str, **given: Any) -> dict[str, Any]:
        if operation == "GetQueueUrl":
            return await super().call(operation)
        self.sent += [(entry["MessageBody"], "MessageGroupId" in entry) for entry in given["Entries"]]
        bad = [each for each in given["Entries"] if "MessageGroupId" in each or each["MessageBody"] == "bad"]
        if bad and self._whole:
            raise SqsError("not valid for this queue type", "InvalidParameterValue", 400)
        return {"Failed": [{"Id": each["Id"], "Code": "InvalidParameterValue"} for each in bad]}


@pytest.mark.parametrize("whole", [False, True])
def test_where_groups_are_refused_messages_go_without_and_it_is_told_once(whole: bool) -> None:
    """No message is lost or sent twice by it; a second queue of the same service is not tried with a group at all."""
    server, told = WithoutFairQueues(whole=whole), list[Told]()
    client = cast("Any", server)
    drafts = [Draft("a", group_id="g"), Draft("b"), Draft("c", group_id="h")]
    assert run(SqsSource("hold-0", client, client, told.append).send(drafts)) == []
    assert {body for body, grouped_ in server.sent if not grouped_} == {"a", "b", "c"}
    del server.sent[:]
    assert run(SqsSource("hold-1", client, client, told.append).send(drafts)) == []
    assert server.sent == [("a", False), ("b", False), ("c", False)]
    assert told == [GroupsRefused("hold-0", server.endpoint_url)]


@pytest.mark.parametrize("whole", [False, True])
def test_a_message_that_is_bad_in_itself_is_no_proof_against_groups(whole: bool) -> None:
    """The same code says so; what is refused without a group too was not refused for it."""
    server, told = WithoutFairQueues(whole=whole), list[Told]()
    client = cast("Any", server)
    assert run(SqsSource("hold", client, client, told.append).send([Draft("bad", group_id="g"), Draft("b")])) == [0]
    assert (server.takes_groups, told) == (True, [])


def test_groups_of_a_fifo_queue_are_never_left_out() -> None:
    """They are its order."""
    server = WithoutFairQueues(whole=False)
    server.takes_groups = False
    client = cast("Any", server)
    assert run(SqsSource("events.fifo", client, client).send([Draft("a", group_id="g", dedup_id="d")])) == [0]
    assert server.sent == [("a", True)]
