"""What reads the shapes of messages, each fed with examples in which one member after the other is something else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from router.core.errors import MalformedMessageError
from router.core.messages.parser import MAX_KEY_BYTES, Extraction, Parser
from router.core.models import Event, Message
from tests.support.aws_messages import CLOUD_EVENT, SHAPES, SUBSCRIPTION, by_sns

_MOST: Final = 20_000  # bytes in each of some hundred places: more only takes time
_PARSER: Final = Parser(Extraction())


def a_shape(raw: bytes) -> int:
    """Read each known shape with this in the place of each of its members, directly and by SNS."""
    return sum(
        _count(body) for shape in SHAPES.values() for text in _changed(shape, raw) for body in (text, by_sns(text))
    )


def attributes_of_a_cloud_event(raw: bytes) -> int:
    """Read a CloudEvent in attributes, with this in the place of each."""
    text, names = raw.decode("utf-8", "replace"), ("specversion", "type", "source", "id", "partitionkey")
    attributes = {f"ce-{name}": str(CLOUD_EVENT[name]) for name in names}
    return sum(_count('{"tenant":"t"}', **attributes | {name: text}) for name in attributes)


def question_of_sns(raw: bytes) -> int:
    """Read SNS' question about a subscription, with this in the place of each of its members."""
    return sum(map(_count, _changed(SUBSCRIPTION, raw)))


def _changed(document: Any, raw: bytes) -> Iterator[str]:
    value = raw[:_MOST].decode("utf-8", "replace")
    with suppress(ValueError, RecursionError):
        value = json.loads(value)
    for changed in _with_member(document, value):
        with suppress(ValueError, RecursionError):  # what can't be written can't be sent
            yield json.dumps(changed)


def _with_member(document: Any, value: Any) -> Iterator[Any]:
    yield value
    if isinstance(document, dict):
        for name, part in document.items():
            yield from ({**document, name: changed} for changed in _with_member(part, value))
    elif isinstance(document, list):
        for at, part in enumerate(document):
            yield from ([*document[:at], changed, *document[at + 1 :]] for changed in _with_member(part, value))


def _count(body: str, **attributes: str) -> int:
    """Count the events in a message, and check of each what all that comes after relies on."""
    events: list[Event] = []
    with suppress(MalformedMessageError):
        events = _PARSER.parse(Message("id", "receipt", body, 0, 1, attributes))
    assert all(0 < len(event.partition_key.encode()) <= MAX_KEY_BYTES and event.event_id for event in events)
    assert all(isinstance(json.loads(event.body), dict) for event in events)
    return len(events)
