"""What can be changed by the Admin API, and what a change would move: each is audited with who asked for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from router.api.admin.bodies import EXAMPLES, ChangeBody, PlanBody, UndoBody
from router.api.admin.surface import Asked, Operation
from router.core.callers import Role
from router.core.edits.decided import EditOutcome
from router.core.edits.plan import Plan
from router.core.edits.undoing import Undoing, UndoPlan
from router.services.operations import Operations


class Writes:
    """Has the leader make what callers want."""

    def __init__(self, operations_of: Callable[[str], Operations]) -> None:
        self._operations_of = operations_of

    def operations(self) -> Iterator[Operation]:
        """List what can be asked."""
        view, operate, post = Role.VIEW, Role.OPERATE, "POST"
        yield Operation(
            *(post, "/plans", "plan", "Show what a change would move, before it is made. It changes nothing."),
            *(view, Plan, self.plan),
            body=PlanBody,
            body_examples=EXAMPLES,
            faults=[404, 409],
        )
        yield Operation(
            *(post, "/changes", "change", "Make a change. The leader does it; an undo takes it back."),
            *(operate, EditOutcome, self.change),
            body=ChangeBody,
            body_examples=EXAMPLES,
            faults=[404, 409],
        )
        yield Operation(
            *("GET", "/undo", "undo-plan", "Show what the next undo would take back, and what that would move."),
            *(view, UndoPlan, self.undo_plan),
            faults=[409],
        )
        yield Operation(
            *(post, "/undo", "undo", "Take back the last change of a person; again, the one before it, and so on."),
            *(operate, Undoing, self.undo),
            body=UndoBody,
            body_examples={
                "the last": {"why": "it was wrong"},
                "the last, if it is that one": {"why": "it was wrong", "agreed": 8},
                "since version 7": {"why": "all wrong", "to": 7},
            },
            faults=[409],
        )

    async def plan(self, asked: Asked) -> Plan:
        """Say what an edit would do."""
        return await self._operations_of(asked.caller.who).plan(asked.body.change)

    async def change(self, asked: Asked) -> EditOutcome:
        """Make an edit in the caller's name."""
        body: ChangeBody = asked.body
        return await self._operations_of(asked.caller.who).change(body.change, body.why, agreed=body.agreed)

    async def undo_plan(self, asked: Asked) -> UndoPlan:
        """Say what the next undo would do."""
        return await self._operations_of(asked.caller.who).undo_plan()

    async def undo(self, asked: Asked) -> Undoing:
        """Take changes back in the caller's name."""
        body: UndoBody = asked.body
        return await self._operations_of(asked.caller.who).undo(body.to, body.why, body.agreed)
