"""Event ids: what a producer or the queue calls an event, so that no other event of the same key is called so.

An id has to be of the event, not of the thing that it is about: five updates of order-7 are five events. That is why a
member `id` of a body is never taken for one unless the configuration says so. Nor is a deduplication id: to SQS it
names a message for five minutes only, and after that another one.
"""

from __future__ import annotations


def part_of(index: int, count: int) -> str:
    """Return what is added to the id of a message with several events, so that each has one of its own."""
    return f"#{index}" if count > 1 else ""


def of_cloud_event(source: object, event_id: object) -> str | None:
    """Return a CloudEvent's id, which counts within its source. None when one of the two is missing.

    No other two make the same text: the first `#` ends the source.
    """
    if isinstance(source, str) and isinstance(event_id, str) and source and event_id:
        return f"{source.replace('%', '%25').replace('#', '%23')}#{event_id}"
    return None
