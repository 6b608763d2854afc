"""The envelope keeps all and always fits."""

from __future__ import annotations

import json

from router.core.dead_letter import MAX_ENVELOPE_BYTES, from_body, of_event, of_message, to_draft
from router.core.models import Event, Message

MESSAGE = Message("m", "r", '{"a": "b"}', 5, 1, {"trace": "t"})


def test_an_envelope_keeps_everything() -> None:
    """Reason, error, cell, generation, attempts, times, original body and attributes."""
    letter = of_event(
        Event("e", "k", b'{"x":1}', 4),
        MESSAGE,
        reason="max_attempts",
        error="ValueError: no",
        source="q",
        dead_at_ms=9,
        cell_id="cell-0001",
        generation=2,
    )
    assert from_body(to_draft(letter).body) == letter
    assert (letter.attempts, letter.body, letter.attributes) == (4, '{"x":1}', {"trace": "t"})


def test_a_body_of_a_mebibyte_still_fits() -> None:
    """JSON inside JSON grows; then the body is compressed."""
    body = json.dumps({"text": '"\\' * 260_000})
    letter = of_message(
        Message("m", "r", body, 5, 1), reason="malformed", error="x" * 100_000, source="q", dead_at_ms=9
    )
    draft = to_draft(letter)
    assert len(draft.body.encode()) <= MAX_ENVELOPE_BYTES
    assert json.loads(draft.body)["body_encoding"] == "gzip+base64"
    assert from_body(draft.body).body == body
