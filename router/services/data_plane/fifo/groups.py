"""FIFO sources: the events of a message group go one after the other.

Guarantees: an event goes to its cell only after the event before it in its group was settled (confirmed, or dead and
safe in another queue). When an event is let go, everything behind it in its group is let go too, so that the queue
delivers the group again from that event. Other groups go on.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from msgspec.structs import replace

from router.core.models import Event, Message
from router.services.data_plane.inbox import Delivery, Inbox, Received

_Group = tuple[Inbox, str]
MAX_REMEMBERED: Final = 10_000  # events whose tries are remembered; the oldest is forgotten first


class Groups:
    """Keeps the events that wait behind the one event of their group which is under way; `start` begins an event.

    `note` is told of the head of a group: of its message when that is let go, and None when an event is settled.
    """

    def __init__(self, start: Callable[[Delivery], None], note: Callable[[Inbox, str, Message | None], object]) -> None:
        self._start = start
        self._note = note
        self._behind: dict[_Group, deque[Delivery]] = {}
        self._remembered: OrderedDict[tuple[str, str, str], Event] = OrderedDict()

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Take in the events of one receive, in the order of the queue, and start the first of each idle group."""
        first: dict[_Group, Delivery] = {}
        for delivery in deliveries:
            # No source gives a message without one. In the aside queue, a group's events are others than in the source.
            group = delivery.inbox, delivery.received.message.group_id or ""
            delivery.received.after = partial(self._after, group)
            if group in self._behind:
                self._behind[group].append(delivery)
            else:
                self._behind[group] = deque()
                first[group] = delivery
        # Only now: an event that is let go here must take along what came behind it in the same receive.
        for delivery in first.values():
            self._start(delivery)

    def reminded(self, event: Event, message_id: str) -> Event:
        """The event with what was tried of it before: a message that stays in its queue can't carry that."""
        known = self._remembered.get((message_id, event.partition_key, event.event_id)) if self._remembered else None
        return event if known is None else replace(known, body=event.body, pointer=event.pointer, origin=event.origin)

    def remember(self, event: Event, message_id: str) -> None:
        """Remember what was tried of that event of the message."""
        name = (message_id, event.partition_key, event.event_id)
        self._remembered.pop(name, None)
        self._remembered[name] = replace(event, body=b"", pointer="", origin=None)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def _after(self, group: _Group, received: Received, let_go_s: int | None) -> None:
        behind = self._behind.get(group)
        if behind is None:
            return
        self._note(*group, None if let_go_s is None else received.message)
        if let_go_s is None and behind:
            self._start(behind.popleft())
            return
        del self._behind[group]
        for delivery in behind:
            if delivery.received is not received:
                delivery.received.after = None
                # They come back no sooner than the event before them. SQS itself sees to that; other servers don't.
                delivery.inbox.let_go(delivery.received, let_go_s or 0)
