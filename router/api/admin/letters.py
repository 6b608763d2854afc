"""The dead-letter queue by the Admin API: what lies there, sending it back, deleting it. One walk at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, Final

import msgspec

from router.api.admin.bodies import LetterLine, Letters, LettersBody, LettersDone, LetterWhole
from router.api.admin.problems import problem
from router.api.admin.surface import Asked, Operation, Parameter
from router.core.callers import Role
from router.core.messages.dead_letter import Entry, Filter
from router.services.dead_letters import DeadLetters, EntryReport, Tally
from router.services.operations import Operations

OpenLetters = Callable[[], AbstractAsyncContextManager[DeadLetters]]
"""Opens the dead-letter queue for one walk."""

WITHIN_S: Final = 20.0
"""A walk ends after this time, whatever is left: no client and no proxy waits much longer."""
MOST_LISTED: Final = 100
MOST_TOLD: Final = 20  # entries that were not done, or would be, and are named
_MOST_TEXT: Final = 1000  # characters of a filter
WHERE: Final = tuple(
    Parameter(name, about, example, most=_MOST_TEXT)
    for name, about, example in (
        ("reason", "malformed, rejected, max_attempts, killed_cell, foreign or incomplete.", "rejected"),
        ("key", "The partition key.", "acme"),
        ("cell", "The cell that it died in.", "cell-0003"),
        ("event", "The event id.", "order-17"),
        ("source", "The queue that it came from.", "cellrouter-live-events"),
        ("error", "A text that its error has in it.", "timeout"),
    )
)
AGES: Final = (
    Parameter("older_than_s", "Died longer ago than so many seconds.", 3600, whole=True, most=10**9),
    Parameter("newer_than_s", "Died in the last so many seconds.", 7200, whole=True, most=10**9),
)
LIMIT: Final = Parameter("limit", "The most entries.", 50, whole=True, least=1, most=MOST_LISTED, default=50)
ID: Final = Parameter(
    "id", "The event's id, the entry's, or the original message's.", "order-17", least=1, most=_MOST_TEXT, required=True
)


class LetterDesk:
    """Does what callers want with dead letters. `opened` is None where a process has no rights to the queue."""

    def __init__(self, opened: OpenLetters | None, operations_of: Callable[[str], Operations]) -> None:
        self._opened = opened
        self._operations_of = operations_of
        self._walking = asyncio.Lock()  # two walks at once would see a part each

    def operations(self) -> Iterator[Operation]:
        """List what can be asked."""
        yield Operation(
            *("GET", "/dead-letters", "dead-letters", "List dead letters, without their bodies."),
            *(Role.VIEW, Letters, self.listed, [*WHERE, *AGES, LIMIT]),
            faults=[404, 502],
        )
        yield Operation(
            *("GET", "/dead-letters/{id}", "dead-letter", "Show all of a dead letter, its body too."),
            *(Role.OPERATE, LetterWhole, self.shown, [ID]),
            faults=[404, 502],
        )
        examples = {
            "of a key": {"where": {"key": "acme"}, "why": "the handler is mended"},
            "of two hours, a trial": {"where": {"newer_than_s": 7200}, "why": "to see", "dry_run": True},
            "all": {"where": {}, "all": True, "why": "the database is back", "limit": 500},
        }
        for path, name, about, act in (
            (
                "/redrives",
                "redrive",
                "Send dead letters back to where they came from, under the same ids.",
                self.redriven,
            ),
            ("/drops", "drop", "Delete dead letters for good.", self.dropped),
        ):
            yield Operation(
                *("POST", f"/dead-letters{path}", name, about, Role.OPERATE, LettersDone, act),
                body=LettersBody,
                body_examples=examples,
                faults=[404, 502],
            )

    async def listed(self, asked: Asked) -> Letters:
        """List entries without their bodies."""
        values, found, tally = dict(asked.values), list[LetterLine](), Tally()
        where = Filter(**values)
        whole = await self._walk(lambda letters: letters.look(where, tally, lambda entry: found.append(_line(entry))))
        return Letters(found, tally.other, tally.left, whole and not tally.full)

    async def shown(self, asked: Asked) -> LetterWhole:
        """Show one entry with its body."""
        name, found = asked.values["id"], list[Entry]()
        where = Filter(any_id=name, limit=1)
        await self._walk(lambda letters: letters.look(where, Tally(), found.append))
        if not found:
            raise problem("not-found", "no dead letter has this id; GET /v1/dead-letters lists those that there are")
        letter = found[0].letter
        attributes = {_text(name): _text(value) for name, value in letter.attributes.items()}
        return LetterWhole(_line(found[0]), attributes, _text(letter.original))

    async def redriven(self, asked: Asked) -> LettersDone:
        """Send entries back to their queues."""
        body: LettersBody = asked.body
        return await self._changed(
            asked,
            "redrive",
            lambda letters, where, tally, tell: letters.redrive(where, tally, tell, dry_run=body.dry_run),
        )

    async def dropped(self, asked: Asked) -> LettersDone:
        """Delete entries for good."""
        body: LettersBody = asked.body
        return await self._changed(
            asked, "drop", lambda letters, where, tally, tell: letters.drop(where, tally, tell, dry_run=body.dry_run)
        )

    async def _changed(
        self,
        asked: Asked,
        action: str,
        act: Callable[[DeadLetters, Filter, Tally, Callable[[EntryReport], None]], Awaitable[None]],
    ) -> LettersDone:
        body: LettersBody = asked.body
        where = Filter(**msgspec.structs.asdict(body.where))
        if where.is_empty is not body.all:
            raise problem(
                "bad-values", 'say which by `where`, or give `"all": true` with an empty one for every letter'
            )
        where, told, tally = replace(where, limit=body.limit), list[str](), Tally()

        def tell(step: EntryReport) -> None:
            if step.kind != "done" and len(told) < MOST_TOLD:
                told.append(f"{step.kind}: {_text(step.entry.name)}: {_text(step.detail)}".removesuffix(": "))

        if not body.dry_run:  # what is done is in the audit before it is done, whatever happens meanwhile
            await self._operations_of(asked.caller.who).note(action, f"dead letters: {where}", body.why)
        whole = await self._walk(lambda letters: act(letters, where, tally, tell))
        return LettersDone(tally.done, tally.failed, tally.left, whole and not tally.full, told)

    async def _walk(self, work: Callable[[DeadLetters], Awaitable[None]]) -> bool:
        """Do some work on the queue, and return whether it came to its end in time."""
        if self._opened is None:
            raise problem("not-found", "ask a router: a controller has no rights to the dead-letter queue")
        if self._walking.locked():
            raise problem("busy", "somebody walks through the dead-letter queue now: ask again in a moment")
        async with self._walking, self._opened() as letters:
            try:
                async with asyncio.timeout(WITHIN_S):
                    await work(letters)
            except TimeoutError:
                return False
        return True


def _line(entry: Entry) -> LetterLine:
    letter = entry.letter
    return LetterLine(
        entry_id=_text(entry.message.message_id),
        event_id=_text(letter.event_id),
        reason=_text(letter.reason),
        error=_text(letter.error),
        source=_text(letter.source),
        partition_key=_text(letter.partition_key),
        cell_id=_text(letter.cell_id),
        attempts=letter.attempts,
        dead_at_ms=letter.dead_at_ms,
        body_bytes=len(letter.body.encode("utf-8", "surrogatepass")),
    )


def _text(text: Any) -> str:
    """Return a text that JSON can hold: half a character is written out as its escape."""
    return str(text).encode("utf-8", "backslashreplace").decode()
