"""Which keys become suspects, for how long, and which are found to be the cause."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.lanes import poison
from router.core.lanes.poison import DEATHS, LONGEST_S, Poison, quarantine_s


def deaths(poison: Poison, generation: int, key: str = "k", unanswered: tuple[int, ...] = ()) -> int:
    """How many instances before that generation died with the key, or this event of it, in flight."""
    return len(poison.deaths(key, unanswered, generation)[0])


def suspect(poison: Poison, key: str = "k", unanswered: tuple[int, ...] = ()) -> bool:
    """Whether an event of the key, with that history, is a suspect."""
    assert poison.has_history(unanswered) or not poison.deaths(key, unanswered, 100)[1]
    return poison.deaths(key, unanswered, 100)[1]


def test_nobody_is_a_suspect_at_first() -> None:
    """As long as nothing fails, there is no history to look up."""
    found = Poison()
    found.answered("k", 1)
    found.succeeded("k")
    assert not found.has_history(())
    assert not suspect(found)
    assert not [*found._unanswered, *found._cleared, *found._failures]


def test_a_key_in_flight_at_a_death_is_a_suspect_and_at_the_next_one_the_cause() -> None:
    """One death may be a coincidence, and a death counts once there is another instance."""
    found = Poison()
    found.unanswered("k", 3)
    assert suspect(found)
    assert not suspect(found, "other")
    assert [deaths(found, generation) for generation in (3, 4)] == [0, 1]
    found.unanswered("k", 4)
    assert [deaths(found, generation) for generation in (4, 5)] == [1, DEATHS]


def test_many_events_of_a_key_at_one_death_are_one_death() -> None:
    """A key with many events in flight at one death is no more suspect than a key with one."""
    found = Poison()
    for _ in range(50):
        found.unanswered("k", 3)
    assert deaths(found, 9) == 1


def test_an_answer_clears_the_key() -> None:
    """An instance that answers has survived the key, so the next death is the first one again."""
    found = Poison()
    found.unanswered("k", 3)
    found.unanswered("other", 3)
    found.answered("k", 4)
    assert not suspect(found)
    assert suspect(found, "other")
    found.unanswered("k", 4)
    assert deaths(found, 5) == 1


def test_an_answer_to_another_event_does_not_clear_the_event() -> None:
    """An event carries its own history, which an answer to another event does not clear."""
    found = Poison()
    found.unanswered("k", 3)
    found.answered("k", 4)
    assert suspect(found, unanswered=(3,))
    assert deaths(found, 5, unanswered=(3, 4)) == DEATHS


def test_an_events_history_and_its_keys_are_not_added_up() -> None:
    """The event's history and the key's tell of the same deaths, and are not added up."""
    found = Poison()
    found.unanswered("k", 3)
    assert deaths(found, 9, unanswered=(3,)) == 1
    assert deaths(found, 9, unanswered=(2,)) == 1
    assert deaths(found, 9, unanswered=(1, 2)) == 2


def test_what_another_router_saw_counts() -> None:
    """The history comes with each event of the key; a death that is told twice counts once."""
    found = Poison()
    found.heard("k", (3,))
    found.heard("k", (3,))
    assert deaths(found, 9) == 1
    found.unanswered("k", 4)
    assert deaths(found, 9) == 2


def test_what_was_answered_since_is_not_heard_again() -> None:
    """Events that were in flight together come back one by one, some of them long after the first was answered."""
    found = Poison()
    found.unanswered("k", 3)
    found.answered("k", 4)
    found.heard("k", (2, 3, 4))
    assert not suspect(found)
    found.answered("other", 4)
    found.answered("k", 4)
    found.heard("k", (3,))
    assert not suspect(found)
    found.unanswered("k", 4)
    found.heard("k", (3,))
    assert deaths(found, 5) == 1
    found.heard("k", (5,))
    assert deaths(found, 6) == 2


def test_an_answer_counts_also_when_nobody_is_a_suspect_any_more() -> None:
    """Another router may still tell of an instance that has been answered for since."""
    found = Poison()
    found.unanswered("k", 3)
    found.answered("k", 4)
    found.answered("k", 6)
    found.heard("k", (5,))
    assert not suspect(found)


def test_a_late_answer_of_an_old_instance_takes_no_later_one_back() -> None:
    """An instance that drains may still answer when its successor has."""
    found = Poison()
    found.unanswered("k", 3)
    found.unanswered("other", 3)
    found.answered("k", 5)
    found.answered("k", 2)
    found.heard("k", (4,))
    assert not suspect(found)


def test_after_its_quarantine_a_key_begins_anew() -> None:
    """After a quarantine, deaths and failures are counted from zero again."""
    found = Poison()
    for generation in (1, 2):
        found.unanswered("k", generation)
        found.unanswered("other", generation)
        found.failed("k", f"event-{generation}", generation)
    found.forget("k")
    found.forget("unknown")
    assert not suspect(found)
    assert deaths(found, 9, "other") == 2
    assert found.failed("k", "event-3", 9) == 0
    assert found.failed("k", "event-4", 10) == 2


def test_a_key_whose_events_all_fail_while_others_succeed_is_broken() -> None:
    """The count is of failures in a row, from the first one on."""
    found = Poison()
    assert [found.failed("k", event_id, 10 + number) for number, event_id in enumerate("abcab")] == [0, 2, 3, 4, 5]


def test_each_kill_doubles_the_quarantine_up_to_six_hours_or_the_configured_length() -> None:
    """None doubles it before the key is found to be the cause; a quarantine without end stays so."""
    assert [quarantine_s(900, range(kills)) for kills in (0, 2, 3, 4, 6, 7, 16)] == [900, 900, 1800, 3600, 14400] + [
        LONGEST_S
    ] * 2
    assert quarantine_s(86400, range(9)) == 86400
    assert quarantine_s(0, range(9)) == 0


def test_a_success_ends_the_row() -> None:
    """A success of the key ends its row of failures; a success of another key does not."""
    found = Poison()
    found.failed("k", "a", 1)
    found.succeeded("other")
    assert found.failed("k", "b", 2) == 2
    found.succeeded("k")
    assert found.failed("k", "a", 3) == 0
    assert found.failed("k", "b", 4) == 2


def test_when_nobody_succeeds_the_cell_is_to_blame() -> None:
    """While nothing of the cell succeeds no key is blamed; after one success of another key all failures count."""
    found = Poison()
    assert [found.failed("k", f"event-{number}", 10) for number in range(50)] == [0] * 50
    assert found.failed("k", "next", 11) == 51


def test_when_one_event_fails_again_and_again_it_is_to_blame_itself() -> None:
    """One bad event goes to the dead-letter queue alone, and its key goes on."""
    found = Poison()
    assert [found.failed("k", "same", successes) for successes in range(20)] == [0] * 20
    assert found.failed("k", "another", 20) == 21


def test_keys_fail_each_for_itself() -> None:
    """Each key has its own row of failures."""
    found = Poison()
    found.failed("a", "1", 1)
    found.failed("b", "2", 1)
    assert found.failed("a", "3", 2) == 2
    found.succeeded("a")
    assert found.failed("b", "4", 2) == 2


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["died", "heard", "answered"]))))
def test_only_deaths_with_no_answer_in_between_make_a_key_guilty(history: list[tuple[str, str]]) -> None:
    """Each entry is an instance that died with the key in flight, here or elsewhere, or that answered it."""
    found = Poison()
    expected = dict.fromkeys("abc", 0)
    for generation, (key, what) in enumerate(history, start=1):
        if what == "died":
            found.unanswered(key, generation)
        elif what == "heard":
            found.heard(key, (generation,))
        else:
            found.answered(key, generation)
        expected[key] = 0 if what == "answered" else expected[key] + 1
        for each, count in expected.items():
            assert deaths(found, generation + 1, each) == count
            assert suspect(found, each) == bool(count)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ever new keys the oldest is forgotten first, and a known key does not push out another."""
    monkeypatch.setattr(poison, "MAX_KEYS", 10)
    found = Poison()
    for number in range(100):
        found.unanswered(f"key-{number}", 1)
        found.unanswered("key-0" if number < 10 else f"key-{number}", 2)
        found.failed(f"key-{number}", "e", 1)
        assert max(len(found._unanswered), len(found._failures)) <= 10
    assert [suspect(found, f"key-{number}") for number in (89, 90, 99)] == [False, True, True]
    for number in range(100):
        found.answered(f"other-{number}", 2)
        assert len(found._cleared) <= 10
    assert deaths(found, 3, "key-99") == 2


def test_what_was_cleared_pushes_out_nobody_by_being_cleared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is answered again and again takes one entry."""
    monkeypatch.setattr(poison, "MAX_KEYS", 2)
    found = Poison()
    found.unanswered("always a suspect", 1)
    found.answered("a", 4)
    for _ in range(5):
        found.answered("b", 4)
    found.heard("a", (3,))
    assert not suspect(found, "a")
