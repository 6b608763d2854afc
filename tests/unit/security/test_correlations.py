"""Correlations within one log object: they count records by group and time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cell_worker.handlers.security.correlation import MAX_KEY_CHARS, _key
from cell_worker.handlers.security.sigma import Match, load_rules

BASE = {
    "title": "base",
    "id": "00000001-2222-4333-8444-555555555555",
    "name": "base",
    "logsource": {"product": "aws", "service": "cloudtrail"},
    "detection": {"s": {"eventName": "Read"}, "condition": "s"},
}
OTHER = BASE | {
    "title": "other",
    "id": "00000002-2222-4333-8444-555555555555",
    "name": "other",
    "detection": {"s": {"eventName": "Write"}, "condition": "s"},
}


def evaluate(folder: Path, records: list[dict[str, Any]], **correlation: Any) -> list[Match]:
    """The matches of the two rules above and of a correlation that counts them."""
    body = {"type": "event_count", "rules": ["base"], "timespan": "1m", "group-by": ["user"], "condition": {"gte": 3}}
    counted = {"title": "counted", "id": "00000003-2222-4333-8444-555555555555", "correlation": body | correlation}
    (folder / "rules.yml").write_text(yaml.safe_dump_all([BASE, OTHER, counted]))
    rules = load_rules(folder)
    assert rules.skipped == []
    return rules.evaluate(records)


def counts(matches: list[Match]) -> list[tuple[tuple[str, ...], int, int]]:
    """The group, the count and the number of records of each window."""
    return [(match.window.group, match.window.count, len(match.window.hits)) for match in matches if match.window]


def at(second: int, user: str = "u", name: str = "Read", **more: Any) -> dict[str, Any]:
    """A record this many seconds after noon."""
    return {
        "eventName": name,
        "user": user,
        "eventTime": f"2026-01-05T12:{second // 60:02d}:{second % 60:02d}Z",
        **more,
    }


def test_event_count_needs_enough_in_the_window(tmp_path: Path) -> None:
    """Three records in a minute are one finding with the whole window. Spread over more time they are none."""
    assert counts(evaluate(tmp_path, [at(0), at(30), at(60), at(61)])) == [(('["u"]',), 3, 3)]
    assert counts(evaluate(tmp_path, [at(0), at(31), at(62), at(93)])) == []


def test_windows_do_not_overlap(tmp_path: Path) -> None:
    """A long burst is one finding for each timespan, not one for each record."""
    assert counts(evaluate(tmp_path, [at(10 * number) for number in range(12)])) == [
        (('["u"]',), 7, 7),
        (('["u"]',), 5, 5),
    ]


def test_the_order_of_records_does_not_matter(tmp_path: Path) -> None:
    """CloudTrail does not sort its records, so only their times count."""
    records = [at(0), at(200), at(20), at(220), at(40), at(240)]
    assert counts(evaluate(tmp_path, records)) == counts(evaluate(tmp_path, records[::-1])) == [(('["u"]',), 3, 3)] * 2


def test_groups_are_counted_apart(tmp_path: Path) -> None:
    """Two users with two records each are no user with three. Records without the field form a group."""
    assert counts(evaluate(tmp_path, [at(0, "a"), at(1, "a"), at(2, "b"), at(3, "b")])) == []
    nobody = [{key: value for key, value in at(second).items() if key != "user"} for second in range(3)]
    assert counts(evaluate(tmp_path, nobody)) == [(("[]",), 3, 3)]


def test_value_count_counts_different_values(tmp_path: Path) -> None:
    """The same secret read ten times is one secret. A record without a secret counts for nothing."""
    condition = {"field": "p.secret", "gte": 3}
    same = [at(second, p={"secret": "s"}) for second in range(10)]
    different = [at(second, p={"secret": f"s{second % 3}"}) for second in range(6)]
    missing = [at(0, p={"secret": "a"}), at(1, p={"secret": "b"}), at(2)]
    assert counts(evaluate(tmp_path, same, type="value_count", condition=condition)) == []
    assert counts(evaluate(tmp_path, different, type="value_count", condition=condition)) == [(('["u"]',), 3, 6)]
    assert counts(evaluate(tmp_path, missing, type="value_count", condition=condition)) == []


def test_temporal_needs_every_rule(tmp_path: Path) -> None:
    """All rules of the correlation must match within the window, in any order."""
    change = {"type": "temporal", "rules": ["base", "other"], "condition": {"gte": 2}}
    assert counts(evaluate(tmp_path, [at(5), at(0, name="Write")], **change)) == [(('["u"]',), 2, 2)]
    assert counts(evaluate(tmp_path, [at(5), at(6)], **change)) == []
    assert counts(evaluate(tmp_path, [at(0), at(61, name="Write")], **change)) == []


def test_aliases_name_a_group_by_another_field_in_each_rule(tmp_path: Path) -> None:
    """A group-by that is an alias reads the field that the alias has for the record's rule."""
    change = {
        "type": "temporal",
        "rules": ["base", "other"],
        "condition": {"gte": 2},
        "group-by": ["who"],
        "aliases": {"who": {"base": "reader", "other": "writer"}},
    }
    assert len(evaluate(tmp_path, [at(0, reader="x"), at(1, name="Write", writer="x")], **change)) == 1
    assert evaluate(tmp_path, [at(0, reader="x"), at(1, name="Write", writer="y")], **change) == []


@pytest.mark.parametrize(("generate", "expected"), [(False, ["counted"]), (True, ["base", "base", "base", "counted"])])
def test_generate_keeps_the_rules_own_findings(generate: bool, expected: list[str], tmp_path: Path) -> None:
    """A correlation's findings replace those of the rules that it counts, unless it says `generate`."""
    matches = evaluate(tmp_path, [at(0), at(1), at(2)], generate=generate)
    assert [match.rule.title for match in matches] == expected


@pytest.mark.parametrize("time", [None, "noon", 12, "2026-01-05T12:00:00"])
def test_records_without_a_time_are_not_counted(time: Any, tmp_path: Path) -> None:
    """A record whose time can't be read belongs to no window."""
    assert evaluate(tmp_path, [at(0), at(1), at(2) | {"eventTime": time}]) == []


def test_gt_is_one_more_than_gte(tmp_path: Path) -> None:
    """Both bounds are exact: gt 2 means three or more."""
    three = [at(0), at(1), at(2)]
    assert len(evaluate(tmp_path, three, condition={"gt": 2})) == 1
    assert evaluate(tmp_path, three, condition={"gt": 3}) == []


def aggregate(folder: Path, records: list[dict[str, Any]], condition: str, **more: Any) -> list[Match]:
    """The matches of one rule with an aggregation in its condition."""
    detection = {"s": {"eventName": "Read"}, "bot": {"user": "bot"}, "condition": condition}
    (folder / "rule.yml").write_text(yaml.safe_dump(BASE | {"detection": detection | more.pop("also", {})} | more))
    rules = load_rules(folder)
    assert (rules.skipped, len(rules)) == ([], 1)
    return rules.evaluate(records)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("s | count() > 3", [((), 4, 4)]),
        ("s | count() >= 5", []),
        ("s | count() by user > 1", [(('["a"]',), 3, 3)]),
        ("s and not bot | count() by user >= 1", [(('["a"]',), 3, 3)]),
        ("s | count( p.id ) > 1", [((), 2, 4)]),
        ("s | count(p.id) by user, p.kind >= 2", [(('["a"]', "[]"), 2, 3)]),
        ("1 of them | count() by user>2", [(('["a"]',), 3, 3)]),
    ],
)
def test_the_old_aggregation_syntax_is_a_correlation(condition: str, expected: list[Any], tmp_path: Path) -> None:
    """count() counts records, count(field) its different values. The rule reports only the count."""
    records = [at(0, "a", p={"id": 1}), at(10, "a", p={"id": 2}), at(20, "a", p={"id": 1}), at(30, "bot", p={"id": 1})]
    matches = aggregate(tmp_path, records, condition, timeframe="1m")
    assert counts(matches) == expected
    assert len(matches) == len(expected)
    assert {match.rule.rule_id for match in matches} <= {BASE["id"]}


def test_the_timeframe_stands_in_the_rule_or_in_its_detection(tmp_path: Path) -> None:
    """Public rules have it in both places. Without one, the whole log object counts."""
    records = [at(0), at(30), at(100)]
    for place in ({"timeframe": "1m"}, {"also": {"timeframe": "1m"}}):
        assert counts(aggregate(tmp_path, records, "s | count() > 1", **place)) == [((), 2, 2)]
    assert counts(aggregate(tmp_path, records, "s | count() > 1")) == [((), 3, 3)]


def test_a_timeframe_in_the_detection_is_no_part_of_the_condition(tmp_path: Path) -> None:
    """`all of them` means the selections and not the timeframe."""
    records = [at(0, "bot")]
    assert len(aggregate(tmp_path, records, "all of them", also={"timeframe": "1m"})) == 1


def test_a_timespan_beyond_all_times_is_just_long(tmp_path: Path) -> None:
    """Loading a rule does not fail, however long its timespan is."""
    assert len(evaluate(tmp_path, [at(0), at(1), at(2)], timespan="99999999999y")) == 1


@pytest.mark.parametrize("kind", ["value_count", "event_count", "temporal", "temporal_ordered"])
def test_each_record_is_counted_once(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice as many records of one secret are twice the keys. They were four times: 4000 records took 10 s of CPU."""
    asked = 0

    def counting(values: Any) -> str:
        nonlocal asked
        asked += 1
        return _key(values)

    monkeypatch.setattr("cell_worker.handlers.security.correlation._key", counting)
    change: dict[str, Any] = {"type": kind, "condition": {"gte": 3} | ({"field": "v"} if kind == "value_count" else {})}
    change |= {"rules": ["base", "other"], "condition": {"gte": 2}} if kind.startswith("temporal") else {}
    used = []
    for number in (200, 400):
        asked = 0
        evaluate(tmp_path, [at(0, v="same") for _ in range(number)], timespan="1h", **change)
        used.append(asked)
    assert used == ([400, 800] if kind == "value_count" else [200, 400])


def test_long_values_are_counted_by_their_digests(tmp_path: Path) -> None:
    """A text of any length is a key of bounded length, and two of them are still different."""
    long = "x" * 100_000
    assert len(_key([long])) <= MAX_KEY_CHARS
    condition = {"field": "v", "gte": 3}
    records = [at(second, user=long, v=long + str(second)) for second in range(3)]
    ((_, count, size),) = counts(evaluate(tmp_path, records, type="value_count", condition=condition))
    assert (count, size) == (3, 3)
