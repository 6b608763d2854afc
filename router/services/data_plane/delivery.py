"""One event on its way through the router."""

from __future__ import annotations

from dataclasses import dataclass

from router.core.models import Event
from router.services.data_plane.inbox import Held, Inbox


@dataclass(slots=True, eq=False)
class Delivery:
    """An event, and the message and queue that it came in."""

    event: Event
    held: Held
    inbox: Inbox
    from_hold: bool
    suspect: bool = False  # sent alone
    sent_at: float = 0.0  # monotonic seconds, when its batch left
    generation: int = 0  # of the instance that it was sent to

    @property
    def size(self) -> int:
        """Bytes that it occupies, nearly."""
        return len(self.event.body)

    def settle(self) -> None:
        """It is done, or safe elsewhere."""
        self.inbox.settle(self.held)
