"""Messages of every kind that SQS takes, and what has to hold of each on its ways out: held, dead, sent back.

A message is made as the entry of a SendMessageBatch, and goes through the adapter's own code in both directions;
`strict_sqs` says whether SQS would take what the router sends.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from random import Random  # noqa: TID251 - seeded by the test
from typing import Any, Final

from msgspec.structs import replace

from router.adapters.aws.sqs import _message
from router.core.errors import MalformedMessageError
from router.core.messages.dead_letter import (
    DEDUP_MS,
    MAX_ERROR_CHARS,
    DeadLetter,
    entries,
    of_event,
    of_message,
    redrive_draft,
    to_drafts,
)
from router.core.messages.origin import origin_of
from router.core.messages.parser import Extraction, Parser, can_be_held, held_draft
from router.core.messages.parts import Parts
from router.core.messages.proofs import ATTEMPT, believed
from router.core.messages.sqs_text import group_of
from router.core.models import DeadLetterReason, Death, Event, Message
from tests.support.attribute_keys import KEYS
from tests.support.strict_sqs import check_entry, delivered, entry_of

Entry = dict[str, Any]
KIB: Final = 1024
LIMITS: Final = (256 * KIB, 1024 * KIB)
PARSER: Final = Parser(Extraction())
DEATH_MS: Final = 1_700_000_000_000
_ASCII: Final = bytes(range(0x20, 0x7F))
_TABLES: Final = [
    bytes(alphabet[i % len(alphabet)] for i in range(256))
    for alphabet in (_ASCII, b'"', b'"\\', b"\t\n\r ", b"\x7f{}[]", b"0123456789abcdef", b"x")
]
_REFUSED: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_BLOCKS: Final = ((0x80, 0x9F), (0xA0, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFD), (0x10000, 0x10FFFF))
_EVERYTHING: Final = ((0, 0x10FFFF), (0xD800, 0xDFFF), (0xFFFE, 0xFFFF), (0, 0x1F))


def text(chance: Random, size: int) -> str:
    """A text that SQS takes, of up to `size` bytes, all of one class of characters or of several."""
    if chance.random() < 0.5:
        return chance.randbytes(size).translate(chance.choice(_TABLES)).decode()
    if chance.random() < 0.3:  # no two characters alike: what compresses worst
        found = chance.randbytes(size // 3 * 2).decode("utf-16-le", "ignore")
        return _REFUSED.sub("", found)[: size // 3]
    some = "".join(map(chr, (chance.randint(*chance.choice(_BLOCKS)) for _ in range(min(size, 100)))))
    return (some * (size // len(some.encode() or b"x") + 1)).encode()[:size].decode("utf-8", "ignore")


def anything(chance: Random, chars: int) -> str:
    """A text of any code points, which SQS would refuse."""
    return "".join(chr(chance.randint(*chance.choice(_EVERYTHING))) for _ in range(chars))


def message(chance: Random, limit: int, *, fifo: bool = False) -> Entry:
    """A message as a producer sends it, of 1 byte to `limit` bytes, that SQS takes."""
    size = limit - chance.randrange(3000) if chance.random() < 0.05 else round(limit ** chance.random())
    attributes: dict[str, Any] = {}
    left = max(0, size - 1)
    for number in range(chance.choice((0, 0, 0, 1, 2, 10))):
        name, value = _attribute(chance, number, round(left * chance.random() ** 3))
        used = check_entry({"MessageBody": "x", "MessageAttributes": {name: value}}) - 1
        if used <= left:
            attributes[name], left = value, left - used
    entry = {"Id": "0", "MessageBody": _body(chance, left + 1) or "x", "MessageAttributes": attributes}
    if fifo or chance.random() < 0.3:
        entry["MessageGroupId"] = f"group-{chance.randrange(9)}!~"
    if fifo:
        entry["MessageDeduplicationId"] = chance.randbytes(16).hex()
    if chance.random() < 0.3:
        trace = f"Root=1-{chance.randbytes(4).hex()}-{chance.randbytes(12).hex()};Sampled=1"
        entry["MessageSystemAttributes"] = {"AWSTraceHeader": {"DataType": "String", "StringValue": trace}}
    check_entry(entry, max_bytes=limit, fifo=fifo)
    return entry


def _attribute(chance: Random, number: int, size: int) -> tuple[str, Entry]:
    label = chance.choice(("", "", ".int", ".png", ".a-b_c.d"))
    kind = chance.choice(("String", "Number", "Binary"))
    name = chance.choice(("traceparent", f"x{number}", f"A_b-{number}.c"))
    if kind == "Binary":
        return name, {"DataType": kind + label, "BinaryValue": chance.randbytes(max(1, size))}
    value = (
        f"{chance.choice(('', '-'))}{chance.randrange(10**12)}.50" if kind == "Number" else text(chance, size) or "t"
    )
    return name, {"DataType": kind + label, "StringValue": value}


def _body(chance: Random, size: int) -> str:
    """A body of up to so many bytes: any text, or an event whose text is any, also one inside an SNS notification."""
    kind = chance.random()
    if kind < 0.3:
        return text(chance, size)
    key = _REFUSED.sub("k", anything(chance, 5)) + "\ufffe" if chance.random() < 0.5 else "tenant"
    event = {"tenant": key, "id": "an-id"} if chance.random() < 0.5 else {"tenant": key}
    whole = json.dumps(event | {"text": text(chance, size // 2)}, ensure_ascii=chance.random() < 0.5)
    if kind < 0.45:
        # As SNS wraps it: its JSON needs no escape for what SQS refuses, once the wrapping is taken off.
        inner = json.dumps(event | {"text": "\uffff" + text(chance, size // 4)}, ensure_ascii=False)
        whole = json.dumps({"TopicArn": "t", "Message": inner})
    elif kind < 0.6:  # as long as may be
        short = json.dumps({"tenant": "t", "text": ""})
        filling = chance.randbytes(max(0, size - len(short))).translate(_TABLES[5] if kind < 0.5 else _TABLES[0])
        whole = short[:-2] + filling.replace(b'"', b"'").replace(b"\\", b"/").decode() + '"}'
    whole = re.sub("[\ufffe\uffff]", lambda found: f"\\u{ord(found[0]):04x}", whole)
    return whole if len(whole.encode()) <= size else text(chance, size)


class WaysOut:
    """Sends messages on every way out, and counts what became of them; a way that loses something raises."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.counts: Counter[str] = Counter()

    def try_one(self) -> None:
        """Make a message; dead-letter and redrive it, and an event of it, and hold that event in between."""
        source, dead, hold = (self.chance.choice(LIMITS) for _ in range(3))
        fifo = self.chance.random() < 0.3
        sent = message(self.chance, source, fifo=fifo)
        self.counts["messages"] += 1
        self.counts["bytes"] += check_entry(sent, max_bytes=source, fifo=fifo)
        came = received(sent)
        queue = "q.fifo" if fifo else "q"
        letter = of_message(came, reason="malformed", error=self._error(), source=queue, dead_at_ms=DEATH_MS)
        same(self._redriven(letter, queue, dead, source), sent)
        try:
            found = PARSER.parse(came)
        except MalformedMessageError:
            return
        for event in found[:1]:
            self._event(replace(event, origin=origin_of(came, found), attempt=3), came, sent, (source, dead, hold))

    def _event(self, event: Event, came: Message, sent: Entry, limits: tuple[int, int, int]) -> None:
        source, dead, hold = limits
        fifo = came.dedup_id is not None
        self.counts["events"] += 1
        error = self._error()[:MAX_ERROR_CHARS]
        dead_event = replace(event, death=Death(DeadLetterReason.MAX_ATTEMPTS, error, "cell-0000", 7, DEATH_MS))
        for each in (event, dead_event) if not fifo else ():
            if can_be_held(each, hold):
                entry = entry_of(held_draft(each, 3, KEYS, hold))
                check_entry(entry, max_bytes=hold)
                again = read_again(entry)
                assert replace(again, death=None) == event
                assert (again.death is None) == (each.death is None)
                self.counts["held" if each is event else "held with their death"] += 1
        death = {"reason": "max_attempts", "error": self._error(), "source": "q", "dead_at_ms": DEATH_MS}
        queue = "q.fifo" if fifo else "q"
        back = self._redriven(of_event(event, came, **death), queue, dead, source)
        if ATTEMPT not in back["MessageAttributes"]:
            same(back, sent)
            self.counts["redriven without attributes of ours"] += 1
            return
        assert read_again(back) == replace(event, attempt=1)
        if event.origin is not None and event.origin.whole:
            beside = {"MessageGroupId": group_of(event.partition_key), **sent}
            assert [back.get(name) for name in _BESIDE] == [beside.get(name) for name in _BESIDE]

    def _redriven(self, letter: DeadLetter, queue: str, dead: int, source: int) -> Entry:
        drafts = to_drafts(letter, dead)
        sent = [entry_of(draft) for draft in drafts]
        for entry in sent:
            check_entry(entry, max_bytes=dead)
        self.counts["dead letters"] += 1
        self.counts["dead letters in parts"] += len(sent) > 1
        self.chance.shuffle(sent)
        (found,) = entries([received(entry, f"d{number}") for number, entry in enumerate(sent)], Parts())
        assert len(found.messages) == len(sent)
        back = entry_of(redrive_draft(found, queue, KEYS, DEATH_MS + DEDUP_MS, source), queue)
        check_entry(back, max_bytes=source, fifo=queue.endswith(".fifo"))
        self.counts["redriven"] += 1
        return back

    def _error(self) -> str:
        return anything(self.chance, self.chance.choice((0, *[20] * 30, 5000)))


_BESIDE: Final = ("MessageGroupId", "MessageDeduplicationId", "MessageSystemAttributes")


def received(entry: Mapping[str, Any], name: str = "m") -> Message:
    """The message as the adapter receives it."""
    return _message(delivered(entry, name))


def read_again(entry: Mapping[str, Any]) -> Event:
    """The one event of a message, as a router reads it from a queue."""
    came = believed(received(entry, "held"), KEYS)
    (event,) = PARSER.parse(came)
    return replace(event, origin=origin_of(came, [event]))


def same(back: Entry, sent: Entry) -> None:
    """A message came back exactly as it was sent."""
    names = ("MessageBody", "MessageAttributes", *_BESIDE)
    assert [back.get(name) for name in names] == [sent.get(name) for name in names]
