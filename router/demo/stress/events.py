"""The events of a stress run: made up, or taken from an archive."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from router.core.errors import CellRouterError, MalformedMessageError
from router.core.load.marks import ATTRIBUTE, Mark
from router.core.load.profiles import Shot
from router.core.messages.parser import Extraction, Parser
from router.core.models import Draft, Message

MAX_ARCHIVE_BYTES: Final = 256 * 1024 * 1024


class StressError(CellRouterError):
    """A stress run can't begin or go on; the text says why."""


@dataclass(frozen=True, slots=True)
class StressMessage:
    """A message of a run without its mark, the key that it is of, and how many events are in it."""

    draft: Draft
    key: str
    events: int = 1


Source = Callable[[Shot, int], StressMessage]
"""Makes the message of a shot, which is the run's n-th."""


def made_up(run: str, work_ms: float, size: int) -> Source:
    """Make events of tenants that there are not, for `cell_worker.handlers.load:handle`, of so many bytes or more."""
    pad = "x" * size

    def message(shot: Shot, number: int) -> StressMessage:
        tenant = name_of(shot.tenant)
        body = {"tenant": tenant, "n": number, "work_ms": round(work_ms * shot.work, 3), "pad": pad}
        return StressMessage(Draft(json.dumps(body), {"partition_key": tenant, "event_id": f"{run}-{number}"}), tenant)

    return message


def archived(run: str, archive: Sequence[StressMessage]) -> Source:
    """Take the messages of an archive in their order, and again from its start, each with an id of its own."""

    def message(_: Shot, number: int) -> StressMessage:
        found = archive[number % len(archive)]
        own_id = {"event_id": f"{run}-{number}"} if found.events == 1 else {}  # else each has its own
        return replace(found, draft=Draft(found.draft.body, own_id))

    return message


def name_of(tenant: int) -> str:
    """Return a made-up tenant's name."""
    return f"tenant-{tenant:05d}"


def marked(message: StressMessage, mark: Mark, *, fifo: bool) -> Draft:
    """Return the message with its mark, and what a FIFO queue needs."""
    draft = message.draft
    draft = msgspec.structs.replace(draft, attributes={**draft.attributes, ATTRIBUTE: mark.text})
    if not fifo:
        return draft
    return msgspec.structs.replace(
        draft, group_id=message.key[:128], dedup_id=mark.text + message.draft.attributes.get("event_id", "")
    )


def read_archive(path: Path, extraction: Extraction) -> list[StressMessage]:
    """Read an archive: JSON, one message a line. Raises StressError for the first that no router could understand."""
    try:
        if path.stat().st_size > MAX_ARCHIVE_BYTES:
            raise StressError(f"{path}: has more than {MAX_ARCHIVE_BYTES // 2**20} MiB: give a part of it")
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StressError(f"{path}: can't be read: {error}") from error
    parser, found = Parser(extraction), list[StressMessage]()
    for number, body in enumerate(lines, start=1):
        if not body.strip():
            continue
        try:
            events = parser.parse(Message("m", "", body, 0, 1))
        except MalformedMessageError as error:
            raise StressError(f"{path}: line {number}: {error}") from error
        if events:
            found.append(StressMessage(Draft(body), events[0].partition_key, len(events)))
    if not found:
        raise StressError(f"{path}: has no event")
    return found
