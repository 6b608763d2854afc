"""What is believed of messages that speak in a router's name: anybody who may send can write such attributes."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from hashlib import shake_256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from router.adapters.keyring import Keyring
from router.core.messages.parser import KILLED, UNANSWERED, Extraction, Parser, can_be_held, held_draft
from router.core.messages.proofs import ATTEMPT, DEATH, PROOF, believed
from router.core.models import MAX_MESSAGE_BYTES, DeadLetterReason, Death, Event, Message, Origin
from tests.support.attribute_keys import KEYS

PARSER = Parser(Extraction())
TRIED = Event("an id", "a key", b'{"a": 1}', 3, (4, 5), (1, 2))
SQS_ATTRIBUTES = 10  # of one message, at most
UNTRIED = Event("an id", "a key", b'{"a": 1}')
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50)


def held(event: Event = TRIED, keys: Keyring = KEYS) -> Message:
    """Make the message in which a hold queue delivers the event."""
    draft = held_draft(event, 0, keys)
    return Message("m", "r", draft.body, 0, 1, draft.attributes)


def read(message: Message, keys: Keyring = KEYS) -> Event:
    """Return the one event of a message, as a router takes it in."""
    (event,) = PARSER.parse(believed(message, keys))
    return event


def test_what_a_router_signed_is_believed_and_nothing_else_is() -> None:
    """An event that is tried again keeps its history."""
    assert read(held()) == TRIED
    proof = held().attributes[PROOF]
    assert len(held().attributes) <= SQS_ATTRIBUTES
    for wrong in ("", "x", proof[:-1], proof.upper() + "0", "\ud800", "0" * 32, proof + "0"):
        assert read(replace(held(), attributes={**held().attributes, PROOF: wrong})) == UNTRIED


@pytest.mark.parametrize(
    "forged",
    [
        {ATTEMPT: "9"},
        {UNANSWERED: "1,2,3"},
        {UNANSWERED: ""},
        {KILLED: "1"},
        {"cellrouter.more": "x"},
        {"event_id": "another"},
        {"partition_key": "another"},
    ],
)
def test_a_proof_covers_every_attribute_that_counts(forged: Mapping[str, str]) -> None:
    """Changed, added or taken away."""
    message = replace(held(), attributes={**held().attributes, **forged})
    found = read(message)
    assert (found.attempt, found.unanswered, found.killed) == (1, (), ())
    for name in (ATTEMPT, UNANSWERED, KILLED):
        less = {key: value for key, value in held().attributes.items() if key != name}
        assert (
            believed(replace(held(), attributes=less), KEYS).attributes.keys().isdisjoint({PROOF, UNANSWERED, KILLED})
        )


def test_a_proof_is_of_one_body_in_one_environment() -> None:
    """Moved onto another message it proves nothing; whoever reads an honest one can't make it say more."""
    moved = replace(held(), body='{"a": 2}')
    assert read(moved) == replace(UNTRIED, body=b'{"a": 2}')
    assert read(held(keys=Keyring("stress", ["a-secret-for-tests"]))) == UNTRIED
    assert read(held(keys=Keyring("live", ["another secret of somebody"]))) == UNTRIED


def test_a_new_secret_believes_what_the_old_one_signed_until_it_goes() -> None:
    """Afterwards the event is the same event, tried for the first time: nothing is lost."""
    ring = Keyring("live", ["a new secret that is long", "a-secret-for-tests"])
    assert read(held(), ring) == TRIED
    ring.replace(["a new secret that is long"])
    assert read(held(), ring) == UNTRIED
    odd = Event("ï/%", "k\u00e9y%41", b'{"Event": "s3:TestEvent"}', 3, (4,))
    assert read(held(odd), ring) == replace(odd, attempt=1, unanswered=())


def test_without_names_of_its_own_a_message_is_read_as_any_other() -> None:
    """What begins with cellrouter. is as if it weren't there; a message without such attributes is left as it is."""
    forged = Message("m", "r", '{"tenant": "t", "id": "i"}', 0, 1, {ATTEMPT: "7", UNANSWERED: "x", "mine": "1"})
    assert read(forged) == Event("m", "t", forged.body.encode())
    assert believed(forged, KEYS).attributes == {"mine": "1"}
    for attributes in ({}, {"partition_key": "k", "mine": "1"}):
        plain = replace(forged, attributes=attributes)
        assert believed(plain, KEYS) is plain


@given(st.dictionaries(st.sampled_from([ATTEMPT, UNANSWERED, KILLED, "cellrouter.x"]), TEXTS, min_size=1), TEXTS)
def test_no_forgery_is_believed(forged: dict[str, str], proof: str) -> None:
    """Whatever it says, the event has no history."""
    attributes = {"event_id": "e", "partition_key": "k", **forged, PROOF: proof}
    found = read(Message("m", "r", '{"tenant": "t"}', 0, 1, attributes))
    assert (found.attempt, found.unanswered, found.killed) == (1, (), ())


def test_that_an_event_is_dead_is_believed_of_a_router_alone() -> None:
    """Else whoever may send could have an event dead-lettered that no handler has seen, or change its error."""
    death = Death(DeadLetterReason.MAX_ATTEMPTS, "said \x00 \ufffe 'no'", "cell-0000", 7, 123)
    origin = Origin("m", 5, {"mine": "1"})
    dead = replace(TRIED, death=death, origin=origin, retries=(1, 2), body='{"a": "\uffff"}'.encode())
    draft = held_draft(dead, 0, KEYS)
    assert len(draft.attributes) + len(draft.binaries) == SQS_ATTRIBUTES
    message = Message("m", "r", draft.body, 0, 1, draft.attributes, binaries=draft.binaries)
    assert read(message) == replace(dead, origin=None)
    for forged in ({**draft.binaries, DEATH: b""}, {k: v for k, v in draft.binaries.items() if k != DEATH}):
        assert read(replace(message, binaries=forged)) == replace(UNTRIED, body=dead.body)
    unproven = replace(message, attributes={**draft.attributes, PROOF: ""})
    assert read(unproven) == replace(UNTRIED, body=dead.body)


def test_an_event_that_fits_in_no_message_with_its_proof_can_not_be_held() -> None:
    """The proof takes room as well."""
    room = MAX_MESSAGE_BYTES - held_draft(replace(TRIED, body=b""), 0, KEYS).size
    largest = replace(TRIED, body=b"x" * room)
    assert held_draft(largest, 0, KEYS).size == MAX_MESSAGE_BYTES
    assert can_be_held(largest)
    hardly_compresses = b64encode(shake_256().digest(300_000))
    assert can_be_held(replace(TRIED, body=hardly_compresses))
    assert not can_be_held(replace(TRIED, body=hardly_compresses), 256 * 1024)
