"""A cell's stack as CloudFormation describes it, and what each of its states means here. Makes no calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from router.core.models import Reason

LABEL: Final = "cellrouter:"
_STACK: Final = "AWS::CloudFormation::Stack"
_BEGINNINGS: Final = frozenset({"CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS"})
_CANCELLED: Final = "cancelled"  # what CloudFormation says of resources that another one's failure has stopped

GHOSTS: Final = frozenset({"CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED"})
"""States of a stack that never came to be: all that can be done is to delete it and to make it anew."""
UPDATABLE: Final = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"})
COMPLETE: Final = UPDATABLE | {"UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS"}
"""States in which a stack's outputs are those of its parameters."""
USABLE: Final = COMPLETE | {"UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_FAILED"}
"""States of a stack whose resources are all there."""


@dataclass(frozen=True, slots=True)
class CellStack:
    """A cell's stack at one moment."""

    stack_id: str
    name: str
    status: str
    tags: Mapping[str, str]
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]

    @property
    def under_way(self) -> bool:
        """Return whether something is being done to the stack, so that nothing else can be."""
        return self.status.endswith("_IN_PROGRESS")

    def why_foreign(self, tags: Mapping[str, str]) -> Reason | None:
        """Say why the stack is not that of the cell with these tags; None when it is."""
        if tags.items() <= self.tags.items():
            return None
        wanted = ", ".join(f"{name}={value}" for name, value in tags.items())
        return (
            f"there is a stack {self.name} that is not this installation's, so it is left alone: delete it, take "
            f"another aws.prefix, or, if it is the cell's, tag it {wanted}"
        )


def tags_of(prefix: str, environment: str, cell_id: str) -> dict[str, str]:
    """Return the tags by which the stack of a cell is known."""
    names = {"prefix": prefix, "environment": environment, "cell": cell_id}
    return {f"{LABEL}{name}": value for name, value in names.items()}


def read_stack(found: Mapping[str, Any]) -> CellStack:
    """Read a stack from an answer of DescribeStacks."""
    return CellStack(
        stack_id=str(found.get("StackId", "")),
        name=str(found.get("StackName", "")),
        status=str(found.get("StackStatus", "")),
        tags=_pairs(found.get("Tags"), "Key", "Value"),
        parameters=_pairs(found.get("Parameters"), "ParameterKey", "ParameterValue"),
        outputs=_pairs(found.get("Outputs"), "OutputKey", "OutputValue"),
    )


def why_failed(events: Iterable[Mapping[str, Any]]) -> Reason:
    """Say what failed first in the last thing that was done to a stack; `events` are its newest first."""
    why = "its events do not say why"
    for event in events:
        status, reason = str(event.get("ResourceStatus", "")), str(event.get("ResourceStatusReason") or "")
        is_stack = event.get("ResourceType") == _STACK
        if is_stack and status in _BEGINNINGS:
            return why
        if status.endswith("_FAILED") and not is_stack and _CANCELLED not in reason.lower():
            why = f"{event.get('LogicalResourceId')} ({event.get('ResourceType')}): {reason or status}"
    return why


def as_list(values: Mapping[str, str], key: str, value: str) -> Sequence[Mapping[str, str]]:
    """Write pairs as AWS takes tags and parameters: a list of records with a key and a value."""
    return [{key: name, value: text} for name, text in values.items()]


def _pairs(found: Any, key: str, value: str) -> dict[str, str]:
    return {str(pair.get(key, "")): str(pair.get(value, "")) for pair in found or ()}
