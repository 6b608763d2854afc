"""Which S3 pointers are followed, and what becomes of the message."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.core.errors import MalformedMessageError, SourceUnavailableError
from router.core.messages.parser import Extraction, Parser, held_draft
from router.core.messages.pointers import S3Pointer, pointer_of
from router.core.models import Message
from router.services.data_plane.payloads import MAX_READS, PayloadConfig, Payloads
from tests.support.aio import run
from tests.support.memory_payloads import MemoryPayloads

JAVA = '["software.amazon.payloadoffloading.PayloadS3Pointer",{"s3BucketName":"payloads","s3Key":"k"}]'
PYTHON = '["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName": "payloads", "s3Key": "k"}]'
LEGACY = '["com.amazon.sqs.javamessaging.MessageS3Pointer",{"s3BucketName":"payloads","s3Key":"k"}]'
SHADED = '["v2.repackaged.software.amazon.payloadoffloading.PayloadS3Pointer",{"s3BucketName":"payloads","s3Key":"k"}]'
CONFIG = PayloadConfig("payloads", 1000)


def message(body: str, **attributes: str) -> Message:
    """A message with this body."""
    return Message("m", "r", body, 0, 1, attributes)


def pointer(bucket: str = "payloads", key: str = "k") -> str:
    """A body that points there."""
    return json.dumps(["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName": bucket, "s3Key": key}])


def resolved(body: str, store: MemoryPayloads, config: PayloadConfig = CONFIG) -> Message:
    """Resolve the message: return it after its pointer was followed."""
    return run(Payloads(config, store).resolve(message(body)))


def holding(payload: bytes, key: str = "k") -> MemoryPayloads:
    """A store with one payload."""
    store = MemoryPayloads()
    store.objects["payloads", key] = payload
    return store


@pytest.mark.parametrize("body", [JAVA, PYTHON, LEGACY, SHADED, "\n " + JAVA, pointer()])
def test_the_pointers_of_every_library_are_known(body: str) -> None:
    """Pointers are known with or without the attribute beside them, which held messages have lost."""
    assert pointer_of(message(body)) == S3Pointer("payloads", "k")
    assert pointer_of(message(body, ExtendedPayloadSize="9")) == S3Pointer("payloads", "k")


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{}",
        "[]",
        '["a"]',
        '["a", {"s3BucketName": "b", "s3Key": "k"}]',
        '{"x": ["software.amazon.payloadoffloading.PayloadS3Pointer"]}',
        '[["software.amazon.payloadoffloading.PayloadS3Pointer"]]',
        json.dumps(JAVA),
    ],
)
def test_other_bodies_are_no_pointers(body: str) -> None:
    """This holds also with the attribute beside them: a redriven message may have its payload again."""
    store = MemoryPayloads()
    assert pointer_of(message(body, ExtendedPayloadSize="9")) is None
    unresolved = message(body)
    assert run(Payloads(CONFIG, store).resolve(unresolved)) is unresolved
    assert store.reads == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (JAVA[:-1], "the S3 pointer is not JSON"),
        ('["x.PayloadS3Pointer"]', "names no object"),
        ('["x.PayloadS3Pointer", {"s3BucketName": "payloads"}]', "names no object"),
        ('["x.PayloadS3Pointer", {"s3BucketName": "payloads", "s3Key": ""}]', "names no object"),
        ('["x.PayloadS3Pointer", {"s3BucketName": "payloads", "s3Key": 5}]', "names no object"),
        ('["x.PayloadS3Pointer", {"s3BucketName": "payloads", "s3Key": "k"}, 1]', "names no object"),
        ('["x.PayloadS3Pointer", {"s3BucketName": "a", "s3BucketName": "payloads", "s3Key": "k"}]', "ambiguous"),
        ('["x.PayloadS3Pointer", {"s3BucketName": "payloads", "s3Key": "\\ud800"}]', "half of a surrogate"),
        (pointer(key="k" * 20_000), "has 20.* bytes, more than 16384"),
        (pointer(key="k") + " " * 20_000, "more than 16384"),
        (JAVA[:-1] + "," + "[" * 1500, "too deeply"),
        (pointer("others"), "leads out of source.payload_bucket, which is payloads"),
        (pointer("payloads "), "leads out of source.payload_bucket"),
        (pointer("Payloads"), "leads out of source.payload_bucket"),
        (pointer("payloads/x"), "leads out of source.payload_bucket"),
        (pointer(key="é" * 513), "has a key of over 1024 bytes"),
        (pointer(key="../others/k"), "has a dot for a part"),
        (pointer(key="a/./k"), "has a dot for a part"),
    ],
)
def test_a_pointer_that_may_not_be_followed_is_not(body: str, reason: str) -> None:
    """Such a pointer is refused with a reason, and nothing is read."""
    store = holding(b"{}")
    with pytest.raises(MalformedMessageError, match=reason) as caught:
        resolved(body, store)
    assert store.reads == []
    assert len(str(caught.value)) < 500


def test_without_a_bucket_no_pointer_is_accepted() -> None:
    """The reason says which setting would accept it."""
    with pytest.raises(MalformedMessageError, match=r"s3://payloads/k: set source\.payload_bucket"):
        resolved(JAVA, holding(b"{}"), PayloadConfig())


def test_the_payload_becomes_the_body_and_the_pointer_is_remembered() -> None:
    """The rest of the message stays; its event travels as the pointer, and has its body again when it comes back."""
    payload = '{"tenant": "é", "text": "' + "x" * 500 + '"}'
    store = holding(payload.encode())
    found = resolved(PYTHON, store)
    assert (found.body, found.pointer, found.message_id, found.receipt) == (payload, PYTHON, "m", "r")
    assert store.reads == [("payloads", "k")]
    parser = Parser(Extraction())
    (event,) = parser.parse(found)
    draft = held_draft(event, 0)
    assert draft.body == PYTHON
    assert "x" * 500 not in str(draft)
    held = Message("h", "r", draft.body, 0, 1, draft.attributes)
    assert parser.parse(run(Payloads(CONFIG, store).resolve(held))) == [event]


def test_a_pointer_in_a_payload_is_not_followed() -> None:
    """Only one pointer is followed; otherwise a sender could make the router read for ever."""
    with pytest.raises(MalformedMessageError, match="an S3 pointer, not resolved"):
        Parser(Extraction()).parse(resolved(JAVA, holding(JAVA.encode())))


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (None, r"leads to s3://payloads/k, and that is not there: no k in payloads"),
        (b"x" * 1001, "leads to s3://payloads/k, and that is too large: 1001 bytes, more than 1000"),
        (b"\xff\xfe{}", "leads to s3://payloads/k, and that is not UTF-8: "),
        (b"\x1f\x8b\x08\x00", "not UTF-8"),
    ],
)
def test_a_payload_that_is_none_has_a_reason(payload: bytes | None, reason: str) -> None:
    """The reason names the object."""
    store = MemoryPayloads() if payload is None else holding(payload)
    with pytest.raises(MalformedMessageError, match=reason):
        resolved(JAVA, store)


def test_a_store_that_fails_is_no_fault_of_the_message() -> None:
    """The message is given back and comes again."""
    store = holding(b"{}")
    store.failure = SourceUnavailableError("AccessDenied")
    with pytest.raises(SourceUnavailableError, match="AccessDenied"):
        resolved(JAVA, store)


def test_only_so_many_payloads_are_read_at_once() -> None:
    """Memory is bounded before anyone has counted their bytes; a failure frees its place."""

    class Slow(MemoryPayloads):
        now = most = 0

        async def read(self, bucket: str, key: str, max_bytes: int) -> bytes:
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop
                return await super().read(bucket, key, max_bytes)
            finally:
                self.now -= 1

    async def story() -> int:
        store = Slow()
        store.objects["payloads", "k"] = b"{}"
        payloads = Payloads(CONFIG, store)
        bodies = [JAVA, pointer(key="missing")] * 40
        found = await asyncio.gather(*(payloads.resolve(message(body)) for body in bodies), return_exceptions=True)
        assert [isinstance(each, MalformedMessageError) for each in found] == [False, True] * 40
        return store.most

    assert run(story()) == MAX_READS


pointer_like = st.tuples(
    st.just("x.PayloadS3Pointer"), st.dictionaries(st.sampled_from(["s3Key", "s3BucketName"]), st.text())
)


@given(st.text(st.characters(exclude_categories=[])) | pointer_like.map(json.dumps) | st.builds(pointer, key=st.text()))
@example('["\ud800.PayloadS3Pointer"]')
@example("[.PayloadS3Pointer")
def test_any_body_is_resolved_or_malformed(body: str) -> None:
    """No body has another effect, and nothing is read but the one bucket."""
    store = MemoryPayloads()
    with contextlib.suppress(MalformedMessageError):
        assert resolved(body, store).body == body
    assert {bucket for bucket, _ in store.reads} <= {"payloads"}
