"""Loading a folder of Sigma rules: an error names every faulty file, and unsupported rules are listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cell_worker.handlers.security.sigma import RuleError, compile_rules, load_rules

IDS = [f"0000000{number}-2222-4333-8444-555555555555" for number in range(9)]


def write(folder: Path, stem: str, number: int = 0, /, **changes: Any) -> str:
    """Write a valid rule with these changes (None removes a key), and return its path."""
    rule: dict[str, Any] = {
        "title": stem,
        "id": IDS[number],
        "logsource": {"product": "aws", "service": "cloudtrail"},
        "detection": {"selection": {"eventName": "A"}, "condition": "selection"},
        "level": "high",
    }
    rule = {key: value for key, value in (rule | changes).items() if value is not None}
    path = folder / f"{stem}.yml"
    path.write_text(yaml.safe_dump(rule))
    return str(path)


def correlation(kind: str = "event_count", **changes: Any) -> dict[str, Any]:
    """The changes that make `write` write a correlation of the rule named `base`."""
    body = {"type": kind, "rules": ["base"], "timespan": "5m", "group-by": ["user"], "condition": {"gte": 3}}
    return {"correlation": body | changes, "logsource": None, "detection": None}


def skipped_reason(folder: Path) -> str:
    """The one reason for which a rule of the folder is skipped."""
    ((_, reason),) = load_rules(folder).skipped
    return reason


def test_every_bad_file_is_named(tmp_path: Path) -> None:
    """One error names all bad files with their faults, and not the good file."""
    good = write(tmp_path, "good")
    broken = tmp_path / "broken.yml"
    broken.write_text("title: [\n")
    bad = {
        str(broken): "while parsing",
        write(tmp_path, "no_title", 1, title=None): "must have a title",
        write(tmp_path, "no_id", 1, id=None): "has no id",
        write(tmp_path, "bad_id", id="seven"): "is no UUID",
        write(tmp_path, "no_detection", 2, detection=None): "must have a detection",
        write(tmp_path, "no_logsource", 3, logsource=None): "must have a log source",
        write(tmp_path, "bad_level", 4, level="dire"): "not a valid Sigma rule level",
        write(
            tmp_path, "bad_modifier", 5, detection={"s": {"a|near": "x"}, "condition": "s"}
        ): "Unknown modifier 'near'",
        write(tmp_path, "bad_condition", 6, detection={"s": {"a": "x"}, "condition": "s and ("}): "Expected",
        write(tmp_path, "bad_name", 7, detection={"s": {"a": "x"}, "condition": "s and t"}): "'t' not defined",
        write(tmp_path, "bad_re", 8, detection={"s": {"a|re": "("}, "condition": "s"}): "missing )",
    }
    with pytest.raises(RuleError) as caught:
        load_rules(tmp_path)
    lines = dict(line.split(": ", 1) for line in str(caught.value).splitlines())
    assert lines.keys() == bad.keys()
    assert {path for path, part in bad.items() if part not in lines[path]} == set()
    assert good not in str(caught.value)


@pytest.mark.parametrize(("number", "name", "key"), [(0, None, "id"), (1, "same", "name")])
def test_two_rules_of_one_id_or_name_are_an_error_naming_both(
    number: int, name: str | None, key: str, tmp_path: Path
) -> None:
    """Findings name their rule by id, and correlations by name, so neither may be ambiguous."""
    first = write(tmp_path, "first", 0, name=name)
    second = write(tmp_path, "second", number, name=name)
    with pytest.raises(RuleError, match=f"{key} .* is used by") as caught:
        load_rules(tmp_path)
    assert first in str(caught.value)
    assert second in str(caught.value)


def test_an_obsolete_rule_beside_its_successor_is_an_error_naming_both(tmp_path: Path) -> None:
    """Both rules would find the same thing."""
    old = write(tmp_path, "old", 0)
    new = write(tmp_path, "new", 1, related=[{"id": IDS[0], "type": "obsolete"}])
    with pytest.raises(RuleError) as caught:
        load_rules(tmp_path)
    assert old in str(caught.value)
    assert new in str(caught.value)


def test_a_folder_without_rules_is_an_error(tmp_path: Path) -> None:
    """A cell without rules is a mistake, and so is a folder that does not exist."""
    with pytest.raises(RuleError, match=r"no \*\.yml"):
        load_rules(tmp_path)
    with pytest.raises(RuleError, match="not a folder"):
        load_rules(tmp_path / "missing")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"logsource": {"product": "windows", "service": "sysmon"}},
            "not for CloudTrail: its logsource product is windows",
        ),
        (
            {"logsource": {"product": "aws", "service": "route53"}},
            "not for CloudTrail: its logsource service",
        ),
        ({"logsource": {"category": "proxy"}}, "not for CloudTrail: its logsource category is proxy"),
        ({"status": "deprecated"}, "its status is deprecated"),
        ({"detection": {"s": {"a": "x"}, "condition": "s | near t"}}, "the aggregation '| near t' is not supported"),
        ({"detection": {"s": {"a": "x"}, "condition": "s | sum(b) by c > 5"}}, "the aggregation '| sum(b) by c > 5'"),
        ({"detection": {"s": {"a": "x"}, "condition": "s | count() < 5"}}, "detection.condition: < is not supported"),
        ({"detection": {"s": {"a": "x"}, "condition": ["s", "s | count() > 5"]}}, "beside other conditions"),
        (
            {"detection": {"s": {"a": ["x", "y"]}, "condition": "s | count(a) > 2"}},
            "its search allows 2 values of a and it asks for 3 different ones",
        ),
        ({"detection": {"s": {"a|expand": "%admins%"}, "condition": "s"}}, "the placeholder %admins%"),
        ({"detection": {"s": {"a|re|startswith": "x"}, "condition": "s"}}, "re together with startswith"),
    ],
)
def test_rules_that_are_not_for_us_are_listed(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    """A valid rule that can't be used is skipped with a reason, and the other rules load."""
    write(tmp_path, "other", 1)
    path = write(tmp_path, "skipped", **changes)
    rules = load_rules(tmp_path)
    ((skipped, why),) = rules.skipped
    assert (skipped, len(rules)) == (path, 1)
    assert reason in why


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("value_sum", {"condition": {"gte": 3, "field": "a"}}, "correlation.type: value_sum is not supported: write"),
        ("temporal_ordered", {}, "it could never match: there are only 1 rules"),
        (
            "event_count",
            {"condition": {"lt": 3}},
            "correlation.condition: lt is not supported: that there were no more",
        ),
        ("temporal", {"condition": "base and not base"}, "correlation.condition: extended conditions"),
        ("event_count", {"rules": ["base", "foreign"]}, "correlation.rules: foreign is not supported"),
        ("event_count", {"rules": ["count_of_base"]}, "correlation.rules: count_of_base is itself a correlation"),
        ("temporal", {"rules": ["base", "count_of_base"]}, "write the rules that it counts (base), or look for both"),
        ("event_count", {"rules": ["counted"]}, "correlation.rules: counted is itself a correlation"),
        ("event_count", {"rules": ["old_count"]}, "correlation.rules: old_count is not supported, or counts itself"),
    ],
)
def test_correlations_that_cant_be_evaluated_are_listed(
    kind: str, changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    """They are skipped with a reason, and the rules that they count report by themselves."""
    write(tmp_path, "base", 1, name="base")
    write(tmp_path, "foreign", 2, name="foreign", logsource={"product": "gcp"})
    write(tmp_path, "count_of_base", 3, name="count_of_base", **correlation(generate=True))
    piped = {"s": {"eventName": "A"}, "condition": "s | count() > 5"}
    write(tmp_path, "old_count", 4, name="old_count", detection=piped)
    write(tmp_path, "counted", name="counted", **correlation(kind, **changes))
    rules = load_rules(tmp_path)
    assert any(reason in why for path, why in rules.skipped if path.endswith("counted.yml"))
    assert [match.rule.title for match in rules.evaluate([{"eventName": "A"}])] == ["base"]
    assert "count_of_base" in {rule.title for rule in rules.all()}


def test_a_correlation_of_a_missing_rule_is_an_error(tmp_path: Path) -> None:
    """The error names the file that refers to the missing rule."""
    write(tmp_path, "other", 1)
    path = write(tmp_path, "counted", **correlation())
    with pytest.raises(RuleError, match="base") as caught:
        load_rules(tmp_path)
    assert path in str(caught.value)


def test_remedies_must_exist(tmp_path: Path) -> None:
    """A rule keeps its remedy. An unknown remedy is an error that lists the known ones."""
    path = write(tmp_path, "rule", remedy="tidy-up")
    assert load_rules(tmp_path, remedies={"tidy-up"}).rules[0].rule.remedy == "tidy-up"
    with pytest.raises(RuleError, match=r"no such remedy: 'tidy-up' \(there are: other\)") as caught:
        load_rules(tmp_path, remedies={"other"})
    assert path in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        correlation(),
        {"detection": {"s": {"a": "x"}, "condition": "s | count() > 5"}},
    ],
)
def test_what_counts_records_has_no_remedy(changes: dict[str, Any], tmp_path: Path) -> None:
    """A remedy is about one record, so it is an error in a correlation or an aggregation."""
    write(tmp_path, "base", 1, name="base")
    path = write(tmp_path, "counted", remedy="tidy-up", **changes)
    with pytest.raises(RuleError, match="about several records") as caught:
        load_rules(tmp_path, remedies={"tidy-up"})
    assert path in str(caught.value)


def test_prose_where_a_list_belongs_is_no_fault(tmp_path: Path) -> None:
    """Public rules have their false positives as one text, which is only for people."""
    write(tmp_path, "rule", falsepositives="Backups", references="a book", fields="eventName")
    rules = load_rules(tmp_path)
    assert (len(rules), rules.skipped) == (1, [])


@pytest.mark.parametrize("timeframe", ["soon", "0m", 5])
def test_an_unreadable_timeframe_is_an_error(timeframe: Any, tmp_path: Path) -> None:
    """A timeframe that can't be read is an error that names the file."""
    path = write(tmp_path, "counted", timeframe=timeframe, detection={"s": {"a": "x"}, "condition": "s | count() > 5"})
    with pytest.raises(RuleError, match="Timespan") as caught:
        load_rules(tmp_path)
    assert path in str(caught.value)


def test_several_rules_in_one_file(tmp_path: Path) -> None:
    """Each YAML document of a file is a rule of its own."""
    first, second = write(tmp_path, "first", 0), write(tmp_path, "second", 1)
    text = "\n---\n".join(Path(path).read_text() for path in (first, second))
    Path(second).unlink()
    Path(first).write_text(text)
    assert len(load_rules(tmp_path)) == 2


def test_good_rules_load_beside_bad_ones_when_asked(tmp_path: Path) -> None:
    """Each bad file is listed with its faults, with what refers to its rules, and the others find what they find."""
    good = write(tmp_path, "good", 0)
    write(tmp_path, "foreign", 1, logsource={"product": "gcp"})
    bad = [
        write(tmp_path, "no_id", 2, id=None),
        write(tmp_path, "upper", 3, name="base", detection={"s": {"a": "x"}, "condition": "s AND s"}),
        write(tmp_path, "counts_upper", 4, **correlation()),
        write(tmp_path, "same_id", 0, title="good too"),
    ]
    (tmp_path / "latin.yml").write_bytes(b"title: caf\xe9\n")
    same, first = sorted((good, bad.pop()))[::-1]
    rules = load_rules(tmp_path, skip_bad=True)
    assert sorted(path for path, _ in rules.bad) == sorted([*bad, same, str(tmp_path / "latin.yml")])
    assert [path.rsplit("/", 1)[-1] for path, _ in rules.skipped] == ["foreign.yml"]
    assert [match.rule.path for match in rules.evaluate([{"eventName": "A"}])] == [first]
    with pytest.raises(RuleError) as caught:
        load_rules(tmp_path)
    assert {line.split(": ", 1)[0] for line in str(caught.value).splitlines()} == {path for path, _ in rules.bad}
    assert compile_rules(rules.texts).evaluate([{"eventName": "A"}]) == rules.evaluate([{"eventName": "A"}])


def test_of_an_obsolete_rule_and_its_successor_the_successor_is_used(tmp_path: Path) -> None:
    """When bad files are left out, the old rule is the bad one."""
    old = write(tmp_path, "old", 0)
    new = write(tmp_path, "new", 1, related=[{"id": IDS[0], "type": "obsolete"}])
    rules = load_rules(tmp_path, skip_bad=True)
    assert [path for path, _ in rules.bad] == [old]
    assert [each.rule.path for each in rules.rules] == [new]


def test_a_folder_without_a_good_rule_is_an_error_all_the_same(tmp_path: Path) -> None:
    """A cell without rules is a mistake, whatever is asked for."""
    path = write(tmp_path, "bad", id="seven")
    with pytest.raises(RuleError, match="is no UUID") as caught:
        load_rules(tmp_path, skip_bad=True)
    assert path in str(caught.value)
