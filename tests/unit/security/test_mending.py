"""What people often write in rules is said with its file, its field and how to mend it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cell_worker.handlers.security.sigma import RuleError, load_rules

RULE: dict[str, Any] = {
    "title": "Reads a secret",
    "id": "00000001-2222-4333-8444-555555555555",
    "logsource": {"product": "aws", "service": "cloudtrail"},
    "detection": {"s": {"eventName": "A"}, "t": {"b": 1}, "condition": "s"},
}
CORRELATION: dict[str, Any] = {
    "title": "Reads many",
    "id": "00000002-2222-4333-8444-555555555555",
    "correlation": {
        "type": "event_count",
        "rules": [RULE["id"]],
        "timespan": "1m",
        "group-by": ["user"],
        "condition": {"gte": 3},
    },
}


def said(folder: Path, *documents: dict[str, Any]) -> str:
    """What is said of a file with these documents, after its name."""
    path = folder / "rule.yml"
    path.write_text(yaml.safe_dump_all(documents))
    with pytest.raises(RuleError) as caught:
        load_rules(folder)
    start, _, rest = str(caught.value).partition(": ")
    assert start == str(path)
    return rest


def condition(text: Any) -> dict[str, Any]:
    """The rule with another condition."""
    return RULE | {"detection": RULE["detection"] | {"condition": text}}


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("s AND t", "s and t"),
        ("s OR NOT t", "s or not t"),
        ("1 OF them and s", "1 of them and s"),
        ("ALL of THEM", "all of them"),
        (["s", "s And t"], "s and t"),
        ("s && !t", "s and not t"),
        ("s || t", "s or t"),
    ],
)
def test_words_of_conditions_are_lower_case(text: Any, mended: str, tmp_path: Path) -> None:
    """The condition is quoted as it should be, and what is quoted loads."""
    words = said(tmp_path, condition(text))
    assert words.startswith("detection.condition: ")
    assert f"write {mended!r}" in " ".join(words.split())
    (tmp_path / "rule.yml").write_text(yaml.safe_dump(condition(mended)))
    assert len(load_rules(tmp_path)) == 1


def test_a_selection_may_be_called_like_a_word(tmp_path: Path) -> None:
    """A name of the rule's own in upper case is no mistake."""
    detection = {"AND": {"eventName": "A"}, "ALL": {"b": 1}, "condition": "AND and not ALL"}
    (tmp_path / "rule.yml").write_text(yaml.safe_dump(RULE | {"detection": detection}))
    assert load_rules(tmp_path).evaluate([{"eventName": "A"}])


@pytest.mark.parametrize("text", ["count(s) > 5", "s and COUNT(a) by b > 5", "near(s)"])
def test_an_aggregation_needs_a_pipe(text: str, tmp_path: Path) -> None:
    """A count in the middle of a condition is of no language; both ways to count are named."""
    words = said(tmp_path, condition(text))
    assert words.startswith("detection.condition: ")
    assert "write 'selection | count(field) by group > 5', or a correlation rule" in words


@pytest.mark.parametrize(
    ("aggregation", "mend"),
    [
        ("COUNT() > 5", "write '| count() > 5'"),
        ("Count(a) BY b >= 5", "write '| count(a) by b >= 5'"),
        ("near t", "write a correlation rule of type temporal"),
        ("sum(a) > 5", "only count is, as in '| count(field) by group > 5'"),
    ],
)
def test_old_aggregations_are_listed_with_what_to_write(aggregation: str, mend: str, tmp_path: Path) -> None:
    """A rule with an aggregation that can't be used is listed, and its reason says what to write instead."""
    (tmp_path / "rule.yml").write_text(yaml.safe_dump(condition(f"s | {aggregation}")))
    ((_, reason),) = load_rules(tmp_path).skipped
    assert reason.startswith("detection.condition: ")
    assert mend in reason


@pytest.mark.parametrize("identity", ["seven", {"a": 1}, ["x"], 5, True, "", 1.5])
def test_an_id_must_be_a_uuid(identity: Any, tmp_path: Path) -> None:
    """Whatever else stands there is quoted, and where to get a UUID is said."""
    words = said(tmp_path, RULE | {"id": identity})
    assert words.startswith("id: ")
    assert "is no UUID" in words
    assert "write a new one, as uuidgen prints" in words


def test_a_rule_is_not_referred_to_by_its_title(tmp_path: Path) -> None:
    """The id of the rule that has the title is what to write, and the file that it is in is named."""
    words = said(tmp_path, RULE, CORRELATION | {"correlation": CORRELATION["correlation"] | {"rules": [RULE["title"]]}})
    assert words.startswith("correlation.rules: no rule has the id or name 'Reads a secret'")
    assert f"that is the title of {tmp_path / 'rule.yml'}, so write {RULE['id']}" in words


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": {"a": 1}}, "name"),
        ({"remedy": {"a": 1}}, "remedy"),
        ({"detection": {"s": {5: "x"}, "condition": "s"}}, "detection.s.5"),
        ({"detection": {"s": [{"a": {"b": 1}}], "condition": "s"}}, "detection.s.a"),
        ({"detection": {"s": {"a": "x"}, "condition": {"s": 1}}}, "detection.condition"),
        ({"detection": {"s": {"a": "x"}, "condition": None}}, "detection.condition"),
    ],
)
def test_a_shape_that_a_rule_cant_have_is_said_with_its_field(change: Any, field: str, tmp_path: Path) -> None:
    """No error of the parser's inside is shown, and none ends the worker."""
    words = said(tmp_path, RULE | change)
    assert words.startswith(f"{field}: ")
    assert "write" in words


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"rules": [{"id": 1}]}, "correlation.rules"),
        ({"rules": [None]}, "correlation.rules"),
        ({"rules": [5]}, "correlation.rules"),
        ({"rules": []}, "correlation.rules"),
        ({"rules": ["no such rule"]}, "correlation.rules"),
        ({"type": 5}, "correlation.type"),
        ({"aliases": {"x": {5: "f"}}}, "correlation.aliases"),
        ({"aliases": {"x": {RULE["id"]: 5}}}, "correlation.aliases"),
        ({"aliases": {"x": {"no such rule": "f"}}}, "correlation.aliases"),
        ({"type": "temporal", "condition": "a AND b"}, "correlation.condition"),
    ],
)
def test_so_is_one_that_a_correlation_cant_have(change: Any, field: str, tmp_path: Path) -> None:
    """The first two ended the worker with a traceback."""
    words = said(tmp_path, RULE, CORRELATION | {"correlation": CORRELATION["correlation"] | change})
    assert words.startswith(f"{field}: ")
    assert "write" in words
