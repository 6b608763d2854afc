"""What the services tell an Observer: frozen records, so that nothing above depends on a metrics library."""

from __future__ import annotations

from dataclasses import dataclass

from router.core.models import Outcome


@dataclass(frozen=True, slots=True)
class MessagesReceived:
    """A receive call returned."""

    source: str
    count: int
    duplicates: int  # already in flight here


@dataclass(frozen=True, slots=True)
class MessagesDeleted:
    """A delete call returned."""

    source: str
    count: int
    failed: int


@dataclass(frozen=True, slots=True)
class QueueFaulty:
    """A queue can't be used. Told once, and again only when it is another fault."""

    queue: str
    missing: bool  # False: it is there, or nobody knows
    why: str


@dataclass(frozen=True, slots=True)
class QueueWell:
    """A queue that could not be used can be again."""

    queue: str


@dataclass(frozen=True, slots=True)
class EventAnswered:
    """A cell answered one event, or didn't (`retry`)."""

    cell_id: str
    outcome: Outcome
    latency_s: float  # from dispatch to its result
    duplicate: bool


@dataclass(frozen=True, slots=True)
class BatchSent:
    """A batch left for a cell."""

    cell_id: str
    events: int


@dataclass(frozen=True, slots=True)
class EventHeld:
    """An event went to its cell's hold queue."""

    cell_id: str
    cause: (
        str  # shut, ejected, over share, moving, retry, failed, rate, concurrency; quarantine: to the quarantine queue
    )


@dataclass(frozen=True, slots=True)
class EventDeadLettered:
    """An event or a whole message went to the dead-letter queue."""

    reason: str


@dataclass(frozen=True, slots=True)
class LaneFailed:
    """A lane's path to its cell was shut."""

    cell_id: str
    error: str


@dataclass(frozen=True, slots=True)
class KeyQuarantined:
    """This router put a key in quarantine."""

    cell_id: str
    key: str
    why: str


@dataclass(frozen=True, slots=True)
class PolicyApplied:
    """Another policy is in force."""

    quarantined: int  # keys
    limits: int  # keys with a limit of their own


@dataclass(frozen=True, slots=True)
class LeadershipChanged:
    """This controller leads now, or no longer."""

    leads: bool
    epoch: int


@dataclass(frozen=True, slots=True)
class ActionTaken:
    """The controller did something to a cell."""

    cell_id: str
    action: str
    why: str


@dataclass(frozen=True, slots=True)
class LeaseRefused:
    """A lease in the registry is not believed."""

    field: str  # where it lies
    reason: str  # garbage, unsigned, foreign, misplaced, network, replayed


Record = (
    MessagesReceived
    | MessagesDeleted
    | QueueFaulty
    | QueueWell
    | EventAnswered
    | BatchSent
    | EventHeld
    | EventDeadLettered
    | LaneFailed
    | KeyQuarantined
    | PolicyApplied
    | LeadershipChanged
    | ActionTaken
    | LeaseRefused
)
