"""Event ids: what a producer, S3 or the queue calls an event, so that no other event of the same key is called so.

An id has to be of the event, not of the thing that it is about: five updates of order-7 are five events. That is why a
member `id` of a body is never taken for one unless the configuration says so.
"""

from __future__ import annotations

import hashlib

from router.core.models import Message


def part_of(index: int, count: int) -> str:
    """Return what is added to the id of a message with several events, so that each has one of its own."""
    return f"#{index}" if count > 1 else ""


def of_cloud_event(source: object, event_id: object) -> str | None:
    """Return a CloudEvent's id, which counts within its source. None when one of the two is missing."""
    if isinstance(source, str) and isinstance(event_id, str) and source and event_id:
        return _within(source, event_id)
    return None


def of_message(message: Message, body: bytes) -> str:
    """Return the name by which the queue knows the message.

    A deduplication id that SQS or SNS made of the body names no event: two equal messages an hour apart are two events.
    """
    if message.dedup_id is None:
        return message.message_id
    for hashed in ((message.pointer or message.body).encode(), body):
        if hashlib.sha256(hashed).hexdigest() == message.dedup_id:
            return message.message_id
    return _within(message.group_id or "", message.dedup_id)


def _within(scope: str, name: str) -> str:
    """Put two names together so that no other two make the same text: the first `#` ends the first name."""
    return f"{scope.replace('%', '%25').replace('#', '%23')}#{name}"
