"""`undo` takes back what people changed, further back each time, and leaves what routers and the leader decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from router.core.fairness.turns import AS_ALL, Fairness, Priority
from router.core.policy import NO_POLICY, Policy, Quarantine, TenantLimit
from router.core.registry import AuditEntry, PolicyVersion, RouterAction
from router.core.undo import taken_back, to_undo, undone, why_not_undone

CELL = "cell-0001"


class Story:
    """A policy, and the history of how it came to be."""

    def __init__(self) -> None:
        self.now = NO_POLICY
        self.versions: list[PolicyVersion] = []

    def does(self, action: str, make: Callable[[Policy], Policy], back_to: int | None = None) -> None:
        """Put the next version in force."""
        self.now = replace(make(self.now), version=self.now.version + 1)
        self.versions.append(PolicyVersion(self.now, AuditEntry(self.now.version, "p@h", action, "", "why", back_to)))

    def undo(self, to: int | None = None) -> tuple[list[int], tuple[str, ...]]:
        """Take back as the command does; return which versions that were, and what stays."""
        chosen = to_undo(self.versions, to)
        assert why_not_undone(self.versions, chosen) is None
        found, numbers = undone(self.now, self.versions, chosen), [each.policy.version for each in chosen]
        self.does("undo", lambda _: found.policy, numbers[-1] - 1)
        return numbers, found.kept


def contents(policy: Policy) -> Policy:
    """Return a policy without its version."""
    return replace(policy, version=0)


def test_each_undo_goes_further_back_and_a_new_change_begins_anew() -> None:
    """As in an editor: pin, drain, undo, undo; what is changed after an undo is taken back first."""
    story = Story()
    story.does("pin", lambda policy: policy.with_pin("k", CELL))
    story.does("drain", lambda policy: policy.with_cordon(CELL, drain=True))
    story.does("freeze", lambda policy: policy.with_frozen(CELL, frozen=True))
    assert story.undo() == ([3], ())
    assert story.undo() == ([2], ())
    story.does("weight", lambda policy: policy.with_weight(CELL, 2.0))
    assert contents(story.now) == NO_POLICY.with_pin("k", CELL).with_weight(CELL, 2.0)
    assert [story.undo()[0], story.undo()[0]] == [[6], [1]]
    assert contents(story.now) == NO_POLICY
    assert "No change of a person is left" in str(why_not_undone(story.versions, to_undo(story.versions)))
    assert {1, 2, 3, 6} <= taken_back(story.versions)


def test_what_routers_and_the_leader_have_decided_since_stays() -> None:
    """A key that a router has quarantined meanwhile is not let loose, and the leader's own steps are passed over."""
    killer = Quarantine("it killed generation 3", 1, killed=(3,))
    story = Story()
    story.does("scale", lambda policy: policy.with_cells(3, 2))
    story.does("limit", lambda policy: policy.with_limit("k", TenantLimit(5)))
    story.does(RouterAction.QUARANTINE, lambda policy: policy.with_quarantine("bad", killer, 1))
    story.does("end scaling", lambda policy: policy.with_cells(3, 3))
    story.does(RouterAction.ASIDE, lambda policy: replace(policy, aside=frozenset({7})))
    assert story.undo() == ([2], ())
    assert story.undo() == ([1], ())
    assert contents(story.now) == replace(NO_POLICY, quarantined={"bad": killer}, aside=frozenset({7}))


def test_what_was_changed_again_since_stays_and_is_named() -> None:
    """A router's newer quarantine of a released key is not taken for the one that a person had ended."""
    first, second = Quarantine("by hand", 1), Quarantine("it killed generation 3", 2)
    story = Story()
    story.does("quarantine", lambda policy: policy.with_quarantine("k", first, 1))
    story.does("release", lambda policy: policy.with_quarantine("k", None, 1))
    story.does(RouterAction.QUARANTINE, lambda policy: policy.with_quarantine("k", second, 1))
    assert story.undo() == ([2], ("the quarantine of key 'k', which was changed again since",))
    assert story.now.quarantined == {"k": second}


def test_the_turns_of_each_key_are_taken_back_by_themselves() -> None:
    """One key has its turns as before, also none of its own, while another keeps what it was given."""
    story = Story()
    story.does("fairness", lambda policy: policy.with_fairness("k", Fairness(4, Priority.HIGH)))
    story.does("fairness", lambda policy: policy.with_fairness("other", Fairness(2)))
    story.does("fairness", lambda policy: policy.with_fairness("k", AS_ALL))
    assert story.now.fairness == {"other": Fairness(2)}
    assert story.undo() == ([3], ())
    assert story.now.fairness == {"k": Fairness(4, Priority.HIGH), "other": Fairness(2)}
    assert [story.undo()[0], story.undo()[0]] == [[2], [1]]
    assert contents(story.now) == NO_POLICY


def test_one_can_go_back_to_a_version_and_take_that_back_too() -> None:
    """Also to one that an undo had left: what it took back is put back."""
    story = Story()
    story.does("pin", lambda policy: policy.with_pin("a", CELL))
    story.does("pin", lambda policy: policy.with_pin("b", CELL))
    story.undo()
    assert story.undo(to=2) == ([3], ())
    assert story.now.pins == {"a": CELL, "b": CELL}
    assert [version.policy.version for version in to_undo(story.versions)] == [2]  # it stands again
    assert story.undo(to=0) == ([4, 3, 2, 1], ())
    assert contents(story.now) == NO_POLICY
    assert to_undo(story.versions) == []


def test_what_was_before_the_history_is_not_made_up() -> None:
    """The registry keeps so many versions and no more; a forged entry that goes back to the future is passed over."""
    story = Story()
    story.now = replace(NO_POLICY, version=7)
    story.does("pin", lambda policy: policy.with_pin("a", CELL))
    assert "before version 8 is not known any more" in str(why_not_undone(story.versions, to_undo(story.versions)))
    story.does("undo", lambda policy: policy, back_to=99)
    assert taken_back(story.versions) == frozenset()
