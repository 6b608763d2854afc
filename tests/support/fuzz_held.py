"""Readers for the fuzz of what lies packed in messages: in those of hold queues, and in parts of dead letters."""

from __future__ import annotations

import gzip
import json
import zlib
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress

from router.core.errors import MalformedMessageError
from router.core.messages import dead_letter, proofs
from router.core.messages.origin import BODY, ORIGIN, origin_of
from router.core.messages.parser import ATTEMPT, Extraction, Parser
from router.core.messages.parts import Parts
from router.core.messages.proofs import DEATH, PROOF
from router.core.models import Message
from tests.support.attribute_keys import KEYS

HELD = {ATTEMPT: "1", "event_id": "e", "partition_key": "k"}


def _held(binaries: Mapping[str, bytes]) -> None:
    """Read a held message as a router does."""
    message = Message("id", "receipt", "{}", 0, 1, HELD, binaries=binaries)
    with suppress(MalformedMessageError):
        origin_of(message)
    with suppress(MalformedMessageError):
        Parser(Extraction()).parse(message)


def origin_in(raw: bytes) -> None:
    """Read what should be packed and is not."""
    _held({ORIGIN: raw, BODY: raw})
    _held({DEATH: raw})


def packed_message(raw: bytes) -> None:
    """Read what is packed rightly, and is perhaps nothing of ours."""
    _held({ORIGIN: zlib.compress(raw), BODY: zlib.compress(raw)})
    _held({DEATH: zlib.compress(raw)})


def part_of_a_letter(raw: bytes) -> None:
    """Read parts of an envelope: damaged ones, and whole ones of something else."""
    text = raw.decode("utf-8", "replace")
    packed = b64encode(gzip.compress(raw)).decode()
    whole = [f'{{"part":1,"parts":1,"letter":"{"0" * 32}","data":{json.dumps(data)}}}' for data in (text, packed)]
    messages = [Message("id", "receipt", body, 0, 1) for body in (text, f'{{"part":{text}', *whole)]
    parts = Parts()
    assert len(dead_letter.entries(messages, parts)) + len(dead_letter.incomplete(parts)) == len(messages)


def unproven(raw: bytes) -> object:
    """Read a message whose attributes say that it comes from a hold queue, without our proof."""
    text = raw.decode("utf-8", "replace")
    given = {ATTEMPT: text, PROOF: text, text: text, "event_id": "e", "partition_key": "k"}
    found = proofs.believed(Message("id", "receipt", text, 0, 1, given), KEYS)
    assert PROOF not in found.attributes
    assert found.attributes[ATTEMPT] == "1"
    return Parser(Extraction()).parse(found)
