"""What an environment has left, and why it must not be destroyed yet. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from router.core.models import Reason


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What there is of an environment: events that wait anywhere, and processes that would make things anew."""

    queues: Mapping[str, int]  # messages in each queue that there is, also those that are hidden or delayed
    dead_letters: str  # the name of the dead-letter queue
    outboxes: Mapping[str, Reason]  # by cell: what waits in its outbox, or why that is not known
    processes: Sequence[str] = ()  # routers and controllers that live


def why_not_destroyed(left: Leftovers, *, dead_letters_too: bool, unknown_outboxes_too: bool) -> Iterator[Reason]:
    """Say, a sentence each, what speaks against destroying all of it now."""
    for queue, count in sorted(left.queues.items()):
        if not count or (queue == left.dead_letters and dead_letters_too):
            continue
        what = f"queue {queue} has {count} message{'s' if count > 1 else ''}"
        if queue == left.dead_letters:
            yield f"{what}: cellrouter dlq shows and redrives them; --with-dead-letters gives them up"
        else:
            yield f"{what}: let routers and cells finish them, or take them out"
    if not unknown_outboxes_too:
        for cell_id, why in sorted(left.outboxes.items()):
            yield f"the outbox of {cell_id} may have lines for its sink: {why}; --with-outboxes gives them up"
    if left.processes:
        yield f"these still run, and would make things anew: {', '.join(left.processes)}. Stop them first"
