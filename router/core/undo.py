"""What `undo` takes back of the policy: a person's changes, one by one or back to a version. Pure.

A change is taken back by itself: what routers and the leader have decided since stays. What was taken back stands in
the audit entry of the undo, so each further one goes further back, and a new change begins anew from where one is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from router.core.models import Reason
from router.core.policy import Policy
from router.core.registry import DrillAction, PolicyVersion, RouterAction, ScalingAction
from router.core.release import Release, ReleaseAction

NOTED: Final = frozenset({"redrive", "drop", *DrillAction})
"""What people do with no policy, which has a version only so that the audit has it, and what drills do."""
AUTOMATIC: Final = frozenset({*ScalingAction, *RouterAction, *ReleaseAction, *NOTED})
"""What the leader and routers do with the policy by themselves, or what is none of it: `undo` passes over it."""
_LEADERS: Final = frozenset({"version", "image"})  # fields that are the leader's alone
_WORDS: Final = {"limits": "the limit of key", "quarantined": "the quarantine of key", "pins": "the pin of key"} | {
    "fairness": "the turns of key",
    "weights": "the weight of",
    "to_replace": "the order to replace",
    "to_evict": "the order to evict",
    "homes": "the cell of slot",
}


@dataclass(frozen=True, slots=True)
class Undone:
    """What an undo comes to: the policy that it wants, and what it could not take back."""

    policy: Policy
    kept: tuple[Reason, ...]  # what stays as it is, because it was changed again since


def taken_back(versions: Sequence[PolicyVersion]) -> frozenset[int]:
    """Return the versions whose changes are taken back; `versions` are the history, oldest first."""
    made = {version.policy.version for version in _of_people(versions)}
    gone: set[int] = set()
    for version in reversed(versions):
        number, back_to = version.policy.version, version.audit.back_to
        if back_to is not None and number not in gone:
            gone |= {each for each in made if back_to < each < number}
    return frozenset(gone)


def to_undo(versions: Sequence[PolicyVersion], to: int | None = None) -> list[PolicyVersion]:
    """Return what the next undo takes back, newest first: the last change that stands, or all since version `to`."""
    made = _of_people(versions)[::-1]
    if to is not None:
        return [version for version in made if version.policy.version > to]
    gone = taken_back(versions)
    standing = [v for v in made if v.audit.back_to is None and v.policy.version not in gone]
    return standing[:1]


def why_not_undone(versions: Sequence[PolicyVersion], chosen: Sequence[PolicyVersion]) -> Reason | None:
    """Say why these changes can't be taken back; None when they can."""
    if not chosen:
        return "No change of a person is left to take back; cellrouter policy history lists what was decided"
    known = {0} | {version.policy.version for version in versions}
    if unknown := [version.policy.version for version in chosen if version.policy.version - 1 not in known]:
        return f"How it was before version {unknown[0]} is not known any more: the history does not reach so far back"
    return None


def undone(now: Policy, versions: Sequence[PolicyVersion], chosen: Sequence[PolicyVersion]) -> Undone:
    """Take these changes back, in this order, from the policy as it is now."""
    known = {0: Policy()} | {version.policy.version: version.policy for version in versions}
    policy, kept = now, list[Reason]()
    for version in chosen:
        policy = _without(policy, known[version.policy.version - 1], version.policy, kept)
    return Undone(policy, tuple(kept))


def _of_people(versions: Sequence[PolicyVersion]) -> list[PolicyVersion]:
    return [version for version in versions if version.audit.action not in AUTOMATIC]


def _without(now: Policy, before: Policy, after: Policy, kept: list[Reason]) -> Policy:
    """Return the policy without what a change from `before` to `after` did to it."""
    back: dict[str, Any] = {}
    for name in (each.name for each in fields(Policy) if each.name not in _LEADERS):
        was, made, is_now = (getattr(policy, name) for policy in (before, after, now))
        if isinstance(made, Mapping):
            back[name] = _entries(name, is_now, was, made, kept)
        elif isinstance(made, frozenset):
            back[name] = is_now - (made - was) | (was - made)
        elif was != made and (is_now == made or _same_release(is_now, made)):
            back[name] = was
    return replace(now, **back)


def _entries(
    name: str, now: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any], kept: list[Reason]
) -> dict[str, Any]:
    """Take a change of some entries back; an entry that has changed again since stays, and is noted in `kept`."""
    found = dict(now)
    for key in sorted(_changed(before, after)):
        if now.get(key) == after.get(key):
            found.pop(key, None)
            found |= {key: before[key]} if key in before else {}
        elif now.get(key) != before.get(key):
            kept.append(f"{_WORDS[name]} {key!r}, which was changed again since")
    return found


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> Collection[str]:
    return {key for key in {*before, *after} if before.get(key) != after.get(key)}


def _same_release(one: Any, other: Any) -> bool:
    """Whether both are the same release, however far the leader has come with it."""
    return isinstance(one, Release) and isinstance(other, Release) and one.number == other.number
