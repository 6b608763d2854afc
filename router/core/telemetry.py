"""The records that services give to an Observer, so that they depend on no metrics or logging library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from router.core.models import DeadLetterReason, Depth, HoldCause, Outcome, Reason


@dataclass(frozen=True, slots=True)
class MessagesReceived:
    """A receive call on a queue returned, perhaps without messages."""

    source: str
    count: int
    duplicates: int  # messages of these that were in flight here already
    waits_s: Sequence[float]  # how long those waited that were received for the first time
    oldest_s: float  # how long ago the oldest of all was sent; 0.0 for none


@dataclass(frozen=True, slots=True)
class MessagesDeleted:
    """A delete call on a queue returned."""

    source: str
    count: int  # messages deleted
    failed: int  # messages that are tried again


@dataclass(frozen=True, slots=True)
class QueueFaulty:
    """A queue can't be used. Told once, and again only when the fault is another one."""

    queue: str
    missing: bool  # False: it exists, or that is not known
    why: Reason
    denied: bool = False  # AWS refuses us


@dataclass(frozen=True, slots=True)
class QueueWell:
    """A queue that could not be used works again."""

    queue: str


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """How many messages a queue has, roughly."""

    queue: str
    depth: Depth


class EventAnswered(msgspec.Struct, frozen=True, gc=False):
    """One event was answered by its cell, or was not and has the outcome `retry`."""

    cell_id: str
    outcome: Outcome
    latency_s: float  # seconds from dispatch to result
    duplicate: bool
    other_body: bool  # a duplicate by its key and id, with another body than the one that was processed
    age_s: float | None  # seconds since it was first sent, where it is done and that is known


class EventTimed(msgspec.Struct, frozen=True, gc=False):
    """An event with the mark of a stress run was answered by its cell; beside EventAnswered."""

    cell_id: str
    key: str
    mark: str  # as it came, from anybody
    at_ms: int
    outcome: Outcome
    duplicate: bool


@dataclass(frozen=True, slots=True)
class BodyDiffers:
    """An event was dropped as a duplicate though its body is another one. Told from time to time, not of each."""

    cell_id: str
    key: str
    event_id: str


@dataclass(frozen=True, slots=True)
class BatchSent:
    """A batch was sent to a cell."""

    cell_id: str
    events: int
    waits_s: Sequence[float]  # for each event, from its receive to the batch


@dataclass(frozen=True, slots=True)
class EventHeld:
    """An event was written to its cell's hold queue, or to the quarantine queue."""

    cell_id: str
    cause: HoldCause  # QUARANTINE: it went to the quarantine queue instead


@dataclass(frozen=True, slots=True)
class EventDeadLettered:
    """An event, or a whole message, was written to the dead-letter queue."""

    reason: DeadLetterReason


@dataclass(frozen=True, slots=True)
class ObjectArchived:
    """The archive has taken an object."""

    events: int
    size: int  # bytes, compressed


class ArchiveLoss(StrEnum):
    """Why events are not in the archive."""

    FULL = "full"  # what waits for the archive fills all the memory that it may have
    REFUSED = "refused"  # the bucket did not take them in time
    UNWRITTEN = "unwritten"  # an error that nobody foresaw


@dataclass(frozen=True, slots=True)
class ArchiveDropped:
    """Events will not be in the archive; they were routed as all others."""

    cause: ArchiveLoss
    events: int
    tell: int  # so many were dropped since it was told last; 0: not to be told now


@dataclass(frozen=True, slots=True)
class ArchiveFaulty:
    """The archive's bucket takes nothing, or (None) it does again. Told once each."""

    why: Reason | None


@dataclass(frozen=True, slots=True)
class SetupMessageSeen:
    """A message came that S3 or CloudTrail sends when a notification is set up; it is deleted. Told once a queue."""

    queue: str


@dataclass(frozen=True, slots=True)
class SubscriptionUnconfirmed:
    """SNS asks about a subscription, which people answer; the message goes to the dead-letter queue."""

    queue: str
    why: Reason


@dataclass(frozen=True, slots=True)
class LaneFailed:
    """A batch failed, and the lane to its cell was shut."""

    cell_id: str
    error: str


@dataclass(frozen=True, slots=True)
class KeyQuarantined:
    """This router put a key into quarantine."""

    cell_id: str
    key: str
    why: Reason


@dataclass(frozen=True, slots=True)
class PolicyApplied:
    """A router goes by another policy from now on."""

    quarantined: int  # keys in quarantine
    limits: int  # keys with a limit of their own


@dataclass(frozen=True, slots=True)
class LeadershipChanged:
    """This controller took the leadership, or lost it."""

    leads: bool
    epoch: int  # of its leadership; 0 when it lost it


@dataclass(frozen=True, slots=True)
class LeadGoesOn:
    """This controller still leads: it says so each minute, so that a log in which nobody does is one of no leader."""

    epoch: int
    cells: int
    suspended_by: str  # what suspends automation; empty when nothing does


@dataclass(frozen=True, slots=True)
class ActionTaken:
    """The controller did something to a cell, or to all of them (empty id)."""

    cell_id: str
    action: str
    why: str


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """An error that nobody foresaw has ended one attempt of a part (a lane's batch, a report); the part goes on."""

    part: str
    error: Exception
    tell: bool  # False: an error of this kind was told of a short while ago


@dataclass(frozen=True, slots=True)
class TaskDied:
    """A background task ended before it was told to, so its process ends too."""

    task: str
    error: BaseException | None  # None: it returned


class LeaseRefusal(StrEnum):
    """Why a lease is not trusted."""

    GARBAGE = "garbage"  # it can't be decoded
    UNSIGNED = "unsigned"  # its signature or proof is wrong
    FOREIGN = "foreign"  # it is of another environment
    MISPLACED = "misplaced"  # it lies in another instance's field
    IMPOSSIBLE = "impossible"  # its generation or its fence is higher than there can be
    NETWORK = "network"  # its address is outside the cells' networks
    REPLAYED = "replayed"  # its heartbeat is not newer than the last one
    UNKNOWN = "unknown"  # the provisioner never started such an instance
    ADDRESS = "address"  # the provisioner has put the instance somewhere else


@dataclass(frozen=True, slots=True)
class LeaseRefused:
    """A lease in the registry is not trusted."""

    instance: str  # cell/generation, as the lease's place in the registry names it
    reason: LeaseRefusal


@dataclass(frozen=True, slots=True)
class RegistryFaulty:
    """The registry can't be read, or takes no writes. Told once, and again only when the fault is another one."""

    fault: str  # in the fewest words
    why: Reason


@dataclass(frozen=True, slots=True)
class RegistryWell:
    """The registry answers again, and takes writes."""


@dataclass(frozen=True, slots=True)
class LeasesDoubted:
    """Leases have ended that say nothing about their instances, or (None) leases count again. Told once each."""

    why: Reason | None


@dataclass(frozen=True, slots=True)
class AccessDenied:
    """AWS denies many events what they need, which is no event's fault, or (None) no more. Told once each."""

    why: Reason | None


class Distrust(StrEnum):
    """Who does not trust whom between this process and a cell."""

    CALL = "call"  # the cell takes none of our calls: its secret or its clock is another one
    ANSWER = "answer"  # what answers does not prove that it is the cell


@dataclass(frozen=True, slots=True)
class DistrustedCall:
    """A call to a cell came to nothing, since one of the two does not trust the other."""

    cell_id: str
    what: Distrust
    why: Reason
    tell: bool  # False: told of already, and not well since


@dataclass(frozen=True, slots=True)
class CellTrusted:
    """A cell that was distrusted, or distrusted us, answers with proof again."""

    cell_id: str


@dataclass(frozen=True, slots=True)
class GroupsRefused:
    """What answers as SQS takes no message group on a standard queue, so messages go without one from now on."""

    queue: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class BadInput:
    """Something that came from outside can't be read and is passed over. Told once, until it has another content."""

    source: str  # what should have been read, such as `cell record`
    name: str  # of the entry
    why: Reason


Record = (
    MessagesReceived
    | MessagesDeleted
    | QueueFaulty
    | QueueWell
    | QueueDepth
    | EventAnswered
    | EventTimed
    | BodyDiffers
    | BatchSent
    | EventHeld
    | EventDeadLettered
    | ObjectArchived
    | ArchiveDropped
    | ArchiveFaulty
    | SetupMessageSeen
    | SubscriptionUnconfirmed
    | LaneFailed
    | KeyQuarantined
    | PolicyApplied
    | LeadershipChanged
    | LeadGoesOn
    | ActionTaken
    | AttemptFailed
    | TaskDied
    | LeaseRefused
    | RegistryFaulty
    | RegistryWell
    | LeasesDoubted
    | AccessDenied
    | GroupsRefused
    | BadInput
    | DistrustedCall
    | CellTrusted
)
