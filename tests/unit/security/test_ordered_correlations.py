"""`temporal_ordered`, after Sigma's specification of correlations.

"The temporal_ordered correlation type behaves like temporal and requires in addition that the events appear in the
order provided in the rule attribute." Of temporal it says: "All events defined by the rules referred by the rule field
must occur in the time frame defined by timespan. The values of fields defined in group-by must all have the same
value." And of both conditions: "it specified the count of different event types (Sigma rules matching) in the given
time frame."
"""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from random import Random  # noqa: TID251 - seeded
from typing import Any

import pytest
import yaml

from cell_worker.handlers.security.sigma import Match, RuleSet, load_rules

IDS = {name: f"0000000{number}-2222-4333-8444-555555555555" for number, name in enumerate("ABC")}
RULES = [
    {
        "title": name,
        "id": identity,
        "name": name,
        "logsource": {"product": "aws", "service": "cloudtrail"},
        "detection": {"s": {"eventName|contains": name}, "condition": "s"},
    }
    for name, identity in IDS.items()
]


def ordered(folder: Path, **changes: Any) -> RuleSet:
    """Three rules, each of which matches a letter in the event's name, and a correlation of them in their order."""
    body = {"type": "temporal_ordered", "rules": ["A", "B", "C"], "timespan": "1m", "group-by": ["user"]} | changes
    counted = {"title": "ordered", "id": "00000009-2222-4333-8444-555555555555", "correlation": body}
    (folder / "rules.yml").write_text(yaml.safe_dump_all([*RULES, counted]))
    rules = load_rules(folder)
    assert rules.skipped == []
    return rules


def records(text: str, **more: Any) -> list[dict[str, Any]]:
    """Records from words such as `A@10`: the letters of the rules that match, and the second."""
    words = [word.split("@") for word in text.split()]
    return [
        {"eventName": name, "eventTime": f"2026-01-05T12:{int(at) // 60:02d}:{int(at) % 60:02d}Z", "user": "u"} | more
        for name, at in words
    ]


def windows(matches: list[Match]) -> list[tuple[int, list[int]]]:
    """The count of each window, and the places of its records in the log."""
    return [(match.window.count, [hit.index for hit in match.window.hits]) for match in matches if match.window]


def test_the_events_must_appear_in_the_order_of_the_rules(tmp_path: Path) -> None:
    """Of all orders of three events, only the rules' own is found. `temporal` finds each of them."""
    for kind, expected in (("temporal_ordered", ["ABC"]), ("temporal", ["".join(p) for p in permutations("ABC")])):
        rules = ordered(tmp_path, type=kind)
        orders = ["".join(order) for order in permutations("ABC")]
        texts = {order: " ".join(f"{name}@{10 * at}" for at, name in enumerate(order)) for order in orders}
        assert [order for order in orders if rules.evaluate(records(texts[order]))] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A@0 B@30 C@60", [(3, [0, 1, 2])]),
        ("A@0 B@30 C@61", []),
        ("A@0 B@30", []),
        ("C@0 B@10 A@20 B@30 C@40", [(3, [2, 3, 4])]),
        ("B@0 A@5 C@9 B@10 A@11 C@20", [(3, [1, 2, 3, 4, 5])]),
        ("A@0 A@50 B@70 C@80", [(3, [1, 2, 3])]),
        ("A@0 A@10 B@20 C@30 C@55", [(3, [0, 1, 2, 3, 4])]),
        ("A@0 B@1 C@2 A@100 B@101 C@102", [(3, [0, 1, 2]), (3, [3, 4, 5])]),
        ("A@0 B@1 C@2 B@61 C@62", [(3, [0, 1, 2])]),
        ("A@0 B@40 A@50 C@70 B@90 C@100", [(3, [2, 3, 4, 5])]),
    ],
)
def test_they_must_occur_within_the_timespan(text: str, expected: list[Any], tmp_path: Path) -> None:
    """A window begins with the first event of a sequence that fits into the timespan, and has all records in it."""
    rules = ordered(tmp_path)
    assert windows(rules.evaluate(records(text))) == expected


def test_the_place_in_the_log_is_no_order(tmp_path: Path) -> None:
    """CloudTrail does not sort its records, so only their times tell."""
    rules = ordered(tmp_path)
    assert windows(rules.evaluate(records("C@30 B@20 A@10"))) == [(3, [2, 1, 0])]


def test_records_of_one_second_have_any_order(tmp_path: Path) -> None:
    """CloudTrail tells seconds. That one of two was the later can't be told, so it is not ruled out."""
    rules = ordered(tmp_path)
    assert windows(rules.evaluate(records("C@5 B@5 A@5"))) == [(3, [2, 1, 0])]


def test_an_event_does_not_follow_itself(tmp_path: Path) -> None:
    """A record that two rules match is one event. It takes another one to come after it."""
    rules = ordered(tmp_path, rules=["A", "B"])
    assert windows(rules.evaluate(records("AB@0"))) == []
    assert windows(rules.evaluate(records("AB@0 A@0"))) == [(2, [1, 0, 0])]
    assert windows(rules.evaluate(records("AB@0 AB@9"))) == [(2, [0, 0, 1, 1])]


def test_all_must_have_the_same_group(tmp_path: Path) -> None:
    """A sequence over two users is none, unless an alias says which field names the user in each."""
    rules = ordered(tmp_path, rules=["A", "B"])
    assert rules.evaluate([*records("A@0"), *records("B@1", user="v")]) == []
    aliases = {"who": {"A": "user", "B": "victim"}}
    rules = ordered(tmp_path, rules=["A", "B"], aliases=aliases, **{"group-by": ["who"]})
    assert windows(rules.evaluate([*records("A@0"), *records("B@1", user="v", victim="u")])) == [(2, [0, 1])]


def test_a_condition_counts_the_rules_that_matched_in_order(tmp_path: Path) -> None:
    """With `gte: 2` any two of three in their order are enough, and the count says how many there were."""
    rules = ordered(tmp_path, condition={"gte": 2})
    found = {text: windows(rules.evaluate(records(text))) for text in ("A@0 C@1", "C@0 A@1", "A@0 B@1 C@2", "B@0 B@1")}
    assert found == {
        "A@0 C@1": [(2, [0, 1])],
        "C@0 A@1": [],
        "A@0 B@1 C@2": [(3, [0, 1, 2])],
        "B@0 B@1": [],
    }


def test_a_rule_may_be_named_twice(tmp_path: Path) -> None:
    """The order may come back to a rule: stop, change, stop again."""
    rules = ordered(tmp_path, rules=["A", "B", "A"])
    assert windows(rules.evaluate(records("A@0 B@1"))) == []
    assert windows(rules.evaluate(records("A@0 B@1 A@2"))) == [(3, [0, 1, 2])]


@pytest.mark.parametrize("seed", range(40))
def test_it_finds_what_trying_all_sequences_finds(seed: int, tmp_path: Path) -> None:
    """In random logs, it finds something exactly when three records in order lie within the timespan."""
    random = Random(seed)
    rules = ordered(tmp_path)
    for _ in range(25):
        log = records(" ".join(f"{random.choice('ABC')}@{random.randrange(200)}" for _ in range(random.randrange(9))))
        times = {name: [at["eventTime"] for at in log if at["eventName"] == name] for name in "ABC"}
        seconds = {name: [int(at[14:16]) * 60 + int(at[17:19]) for at in found] for name, found in times.items()}
        wanted = any(a <= b <= c <= a + 60 for a in seconds["A"] for b in seconds["B"] for c in seconds["C"])
        assert bool(rules.evaluate(log)) is wanted
