"""`cellrouter dlq …` as an operator runs it: the real command on a real queue."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest

from router.adapters.aws.resources import create_queue
from router.adapters.aws.session import AwsConfig, open_client
from router.adapters.aws.sqs import SqsSource
from router.adapters.aws.sqs_client import open_sqs_client
from router.adapters.clock import SystemClock
from router.core.messages import dead_letter
from router.core.messages.parser import Extraction, Parser
from router.core.models import Draft, Event, Message
from tests.support.aio import run, until
from tests.support.keys import SECRET
from tests.support.paths import REPOSITORY

COMMAND = [sys.executable, "-m", "router", "dlq"]
T = TypeVar("T")
pytestmark = pytest.mark.one_kind  # about the command; the contract of sources tests the kinds of queues


@dataclass(frozen=True)
class Queues:
    """The source and the dead-letter queue of one test, and commands on them."""

    endpoint: str
    source: str
    dead: str

    @property
    def environ(self) -> dict[str, str]:
        """Return the environment variables for the command."""
        return {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "COLUMNS": "160",
            "CELLROUTER_SECRET": SECRET,
            "CELLROUTER_AWS_ENDPOINT_URL": self.endpoint,
            "CELLROUTER_SOURCE_QUEUE": self.source,
            "CELLROUTER_SOURCE_DEAD_LETTER_QUEUE": self.dead,
        }

    def dlq(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run the command, which has to end with this exit code and without a traceback."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def listed(self, *filters: str) -> list[dict[str, Any]]:
        """Return the entries that `list --json` prints."""
        return [json.loads(line) for line in self.dlq("list", "--json", *filters).stdout.splitlines()]

    def on(self, name: str, use: Callable[[SqsSource], Awaitable[T]]) -> T:
        """Open a queue, do something with it, and return the result."""

        async def story() -> T:
            async with AsyncExitStack() as stack:
                config = AwsConfig("us-east-1", self.endpoint)
                client = await open_sqs_client(stack, config, connections=2, read_timeout_s=20, clock=SystemClock())
                return await use(SqsSource(name, client, client))

        return run(story())

    async def boto(self, method: str, name: str, **arguments: Any) -> Any:
        """Call SQS directly about a queue."""
        async with AsyncExitStack() as stack:
            client = await open_client(stack, AwsConfig("us-east-1", self.endpoint), "sqs")
            if method == "create_queue":
                return await create_queue(client, name)
            url = (await client.get_queue_url(QueueName=name))["QueueUrl"]
            return await getattr(client, method)(QueueUrl=url, **arguments)

    async def counted(self, *names: str) -> int:
        """Count the messages of the dead-letter queue by its own attributes."""
        attributes = (await self.boto("get_queue_attributes", self.dead, AttributeNames=["All"]))["Attributes"]
        return sum(int(attributes[f"ApproximateNumberOfMessages{name}"]) for name in names)

    def take(self) -> list[Message]:
        """Receive all messages that are visible in the source."""

        async def receive(source: SqsSource) -> list[Message]:
            found: list[Message] = []
            while batch := await source.receive(10, 1, 600):
                found += batch
            return found

        return self.on(self.source, receive)

    def count(self, *, visible: bool = True) -> int:
        """Count the dead letters that are visible, or that are hidden."""
        return run(self.counted("" if visible else "NotVisible"))


EVENT = {"source": "", "error": "ValueError: no rule", "cell_id": "cell-0001", "generation": 3}


@pytest.fixture
def queues(aws_endpoint: str) -> Queues:
    """Make queues with 12 dead events of two keys, a malformed message, and a message that is no dead letter."""
    mark = uuid.uuid4().hex[:8]
    queues = Queues(aws_endpoint, f"dlq-source-{mark}", f"dlq-dead-{mark}")
    letters = [
        dead_letter.of_event(
            Event(f"e{n} ü", f"key-{n % 2}", json.dumps({"n": n}).encode(), 5),
            Message(f"m{n}", "r", "", 1_700_000_000_000, 5),
            reason="max_attempts",
            dead_at_ms=1_700_000_000_000 + n,
            **(EVENT | {"source": queues.source}),
        )
        for n in range(12)
    ]
    malformed = Message("m-bad", "r", "not \u202e JSON", 1, 1, {"trace": "t-1"})
    error = "the body is \x1b[31mnot JSON"
    letters.append(
        dead_letter.of_message(malformed, reason="malformed", error=error, source=queues.source, dead_at_ms=1)
    )

    async def prepare(queue: SqsSource) -> None:
        for name in (queues.source, queues.dead):
            await queues.boto("create_queue", name)
        drafts = [draft for letter in letters for draft in dead_letter.to_drafts(letter)]
        drafts.append(Draft('{"tenant": "t"}', {"kind": "foreign"}))
        assert await queue.send(drafts[:10]) == await queue.send(drafts[10:]) == []

    queues.on(queues.dead, prepare)
    return queues


def test_list_shows_what_there_is_and_leaves_it(queues: Queues) -> None:
    """Lines and JSON, whole and filtered: the second list equals the first, and all is visible between them."""
    first, second = queues.listed(), queues.listed()
    assert sorted(e["entry_id"] for e in first) == sorted(e["entry_id"] for e in second)
    assert {e["event_id"] for e in first if e["reason"] == "foreign"} == {""}
    assert sorted(e["reason"] for e in first) == ["foreign", "malformed", *["max_attempts"] * 12]
    assert (queues.count(), queues.count(visible=False)) == (14, 0)
    assert not any("body" in entry for entry in first)
    assert len(queues.listed("--error", "no rule", "--cell", "cell-0001", "--limit", "5")) == 5
    assert [e["reason"] for e in queues.listed("--newer-than", "1h")] == ["foreign"]
    found = queues.listed("--older-than", "1h", "--source", queues.source, "--key", "key-1", "--event", "e7 ü")
    assert [e["event_id"] for e in found] == ["e7 ü"]
    lines = queues.dlq("list", "--reason", "max_attempts").stdout.splitlines()
    assert len(lines) == 12
    expected = ["max_attempts", "e7 ü", "key-1", "cell-0001", "5", "ValueError: no rule"]
    assert expected in [line.split("\t")[1:] for line in lines]


def test_show_prints_all_of_an_entry(queues: Queues) -> None:
    """The body is whole and indented, and nothing that others have sent steers the terminal."""
    text = queues.dlq("show", "e7 ü").stdout
    assert 'body:\n{\n  "n": 7\n}\n' in text
    for field in ("max_attempts", "ValueError: no rule", "cell-0001", "key-1", queues.source, "2023-11-14T22:13:20Z"):
        assert field in text
    raw = queues.dlq("show", "m-bad").stdout
    assert r"\x1b[31mnot JSON" in raw
    assert r"not \u202e JSON" in raw
    assert not {"\x1b", "\u202e"} & set(raw)
    shown = json.loads(queues.dlq("show", "m-bad", "--json").stdout)
    assert (shown["body"], shown["attributes"]) == ("not \u202e JSON", {"trace": "t-1"})
    assert "no-such-id" in queues.dlq("show", "no-such-id", code=1).stderr


def test_redrive_brings_the_same_events_to_the_source(queues: Queues) -> None:
    """A dry run changes nothing; a real one keeps ids, keys, bodies and attributes."""
    dry = queues.dlq("redrive", "--key", "key-1", "--dry-run").stdout
    assert dry.count(f"to {queues.source}") == 6
    assert "6 would be redriven, 0 failed, 14 left" in dry
    assert (queues.count(), queues.take()) == (14, [])
    done = queues.dlq("redrive", "--key", "key-1", "--rate", "50")
    assert "6 redriven, 0 failed, 8 left (8 don't match)" in done.stdout
    events = [event for message in queues.take() for event in Parser(Extraction()).parse(message)]
    bodies = {f"e{n} ü": json.dumps({"n": n}).encode() for n in range(1, 12, 2)}
    assert {e.event_id: e.body for e in events} == bodies
    assert {(e.partition_key, e.attempt) for e in events} == {("key-1", 1)}
    assert "8 redriven, 0 failed, 0 left" in queues.dlq("redrive", "--all").stdout
    arrived = {message.body: message.attributes for message in queues.take()}
    assert len(arrived) == 8
    assert arrived['{"tenant": "t"}'] == {"kind": "foreign"}
    assert (queues.count(), queues.count(visible=False)) == (0, 0)


def test_a_fifo_source_takes_what_is_redriven(queues: Queues) -> None:
    """Events go into their groups, and whole messages are taken too."""
    fifo = replace(queues, source=f"{queues.source}.fifo")
    foreign = queues.listed("--reason", "foreign")[0]["entry_id"]

    async def bury(queue: SqsSource) -> None:
        await queues.boto("create_queue", fifo.source)
        letter = dead_letter.of_event(
            Event("on fifo", "key ü", b"{}", 5),
            Message("m", "r", "", 1, 5),
            reason="rejected",
            dead_at_ms=1,
            **(EVENT | {"source": fifo.source}),
        )
        await queue.send(dead_letter.to_drafts(letter))

    queues.on(queues.dead, bury)
    for where in (("--source", fifo.source), ("--reason", "foreign")):
        assert "1 redriven, 0 failed" in fifo.dlq("redrive", *where).stdout
    arrived = {message.body: message for message in fifo.take()}
    (event,) = Parser(Extraction()).parse(arrived["{}"])
    assert (event.event_id, event.partition_key) == ("on fifo", "key ü")
    assert arrived['{"tenant": "t"}'].group_id == foreign


def test_drop_deletes_what_matches(queues: Queues) -> None:
    """It deletes nothing else, and sends nothing."""
    assert "1 would be dropped" in queues.dlq("drop", "--reason", "malformed", "--dry-run").stdout
    assert queues.count() == 14
    assert "1 dropped, 0 failed, 13 left" in queues.dlq("drop", "--reason", "malformed", "--yes").stdout
    assert (queues.count(), queues.take()) == (13, [])
    assert queues.listed("--reason", "malformed") == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["redrive"], "--all"),
        (["drop", "--yes"], "--all"),
        (["redrive", "--all", "--key", "k"], "--all is every entry"),
        (["drop", "--all"], "--yes"),
        (["redrive", "--older-than", "2 days"], "write 90s"),
    ],
)
def test_unclear_commands_are_refused(queues: Queues, arguments: list[str], says: str) -> None:
    """A change needs a filter or --all, drop needs a confirmation, and a wrong duration is refused."""
    assert says in " ".join(queues.dlq(*arguments, code=2).stderr.split())
    assert (queues.count(), queues.take()) == (14, [])


def test_a_redrive_that_fails_says_so(queues: Queues) -> None:
    """When the source is gone, each entry is named, all stay visible, and the exit code is 1."""
    run(queues.boto("delete_queue", queues.source))
    done = queues.dlq("redrive", "--reason", "max_attempts", code=1)
    assert "0 redriven, 12 failed, 14 left" in done.stdout
    assert "failed: e7 ü: " in done.stderr
    assert (queues.count(), queues.count(visible=False)) == (14, 0)


def test_a_missing_queue_is_named(queues: Queues) -> None:
    """The command ends at once, and one line names the queue."""
    done = Queues(queues.endpoint, queues.source, "no-such-queue").dlq("list", code=1)
    assert "queue no-such-queue" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_makes_all_visible_again(queues: Queues, number: int) -> None:
    """A signal during a redrive leaves sent entries deleted and the others visible, and the summary counts both."""
    command = [*COMMAND, "redrive", "--all", "--rate", "0.1"]
    with subprocess.Popen(
        command, env=queues.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:

        async def one_is_gone() -> bool:
            return await queues.counted("", "NotVisible") == 13

        run(until(one_is_gone, "the first is redriven"))
        child.send_signal(number)
        out, err = child.communicate(timeout=30)
    assert child.returncode == 130, err
    assert "1 redriven, 0 failed, " in out
    assert (queues.count(), queues.count(visible=False), len(queues.take())) == (13, 0, 1)


def test_a_reader_that_goes_away_leaves_nothing_hidden(queues: Queues) -> None:
    """A closed pipe, as in `cellrouter dlq list | head -1`, makes all messages visible again."""
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, "list"], env=queues.environ, stdout=pipe, stderr=pipe) as child:
        assert child.stdout is not None
        child.stdout.close()
        _, err = child.communicate(timeout=30)
    assert b"Traceback" not in err
    assert (queues.count(), queues.count(visible=False)) == (14, 0)


@contextmanager
def on_terminal(queues: Queues, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run the command with a terminal for stdin, stdout and stderr; yield the process and our end of the terminal."""
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [*COMMAND, *arguments], env=queues.environ | {"TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs
        ) as child:
            os.close(theirs)
            yield child, ours
    finally:
        os.close(ours)


def read_until_closed(terminal: int) -> str:
    """Read all that is written to a terminal until its last writer closes it."""
    text = b""
    try:
        while part := os.read(terminal, 65536):
            text += part
    except OSError:  # on Linux, when nobody has the other end open any more
        pass
    return text.decode()


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, 14), ("y", 0, 13)])
def test_on_a_terminal_drop_asks(queues: Queues, answer: str, code: int, left: int) -> None:
    """It says what it would delete, and after a no it deletes nothing."""
    with on_terminal(queues, "drop", "--reason", "foreign") as (child, terminal):
        os.write(terminal, f"{answer}\n".encode())
        text = " ".join(read_until_closed(terminal).split())
        assert child.wait(30) == code
    assert f"Delete for good from {queues.dead}: reason 'foreign'?" in text
    assert queues.count() == left


def test_on_a_terminal_list_is_a_table(queues: Queues) -> None:
    """The table has one header, and a row for each entry."""
    with on_terminal(queues, "list") as (child, terminal):
        text = read_until_closed(terminal)
        assert child.wait(30) == 0
    assert text.count("event or entry") == 1
    assert text.count("max_attempts") == 12
    assert "14 of 14 entries seen match" in text
