"""The forms in which public Sigma rules for CloudTrail are written, on records that match and that don't."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cell_worker.handlers.security.sigma import RuleSet, load_rules

RULE_ID = "11111111-2222-4333-8444-555555555555"


def rule_set(folder: Path, detection: Any, **extra: Any) -> RuleSet:
    """A rule set of one rule with this detection (YAML text or a map)."""
    parsed = yaml.safe_load(detection) if isinstance(detection, str) else detection
    rule = {"title": "T", "id": RULE_ID, "logsource": {"product": "aws", "service": "cloudtrail"}, "detection": parsed}
    (folder / "rule.yml").write_text(yaml.safe_dump(rule | extra, sort_keys=False))
    return load_rules(folder)


def fires(folder: Path, detection: Any, record: dict[str, Any]) -> bool:
    """Whether a rule with this detection matches the record."""
    rules = rule_set(folder, detection)
    assert rules.skipped == []
    return bool(rules.evaluate([record]))


def selection(**fields: Any) -> dict[str, Any]:
    """A detection of one selection."""
    return {"selection": fields, "condition": "selection"}


CASES: list[tuple[str, dict[str, Any], dict[str, Any], bool]] = [
    ("case is ignored", {"eventName": "stoplogging"}, {"eventName": "StopLogging"}, True),
    ("cased is not", {"eventName|cased": "stoplogging"}, {"eventName": "StopLogging"}, False),
    ("cased and equal", {"eventName|cased": "StopLogging"}, {"eventName": "StopLogging"}, True),
    ("cased contains", {"eventName|cased|contains": "log"}, {"eventName": "StopLogging"}, False),
    ("star", {"eventName": "Put*Policy"}, {"eventName": "PutRolePolicy"}, True),
    ("star matches nothing too", {"eventName": "Put*Policy"}, {"eventName": "PutPolicy"}, True),
    ("star, not whole", {"eventName": "Put*Policy"}, {"eventName": "PutRolePolicyX"}, False),
    ("pieces must not overlap", {"eventName": "aba*aba"}, {"eventName": "ababa"}, False),
    ("question mark", {"eventName": "Put?ole"}, {"eventName": "PutRole"}, True),
    ("question mark is one", {"eventName": "Put?ole"}, {"eventName": "Putole"}, False),
    ("escaped star", {"principal": r"\*"}, {"principal": "*"}, True),
    ("escaped star is no wildcard", {"principal": r"\*"}, {"principal": "arn"}, False),
    ("a lone star is any value", {"a.b": "*"}, {"a": {"b": "x"}}, True),
    ("but not null", {"a.b": "*"}, {"a": {"b": None}}, False),
    ("list of values is or", {"eventName": ["A", "B"]}, {"eventName": "B"}, True),
    ("fields are and", {"eventName": "A", "eventSource": "s"}, {"eventName": "A", "eventSource": "t"}, False),
    ("nested", {"a.b.c": "x"}, {"a": {"b": {"c": "X"}}}, True),
    (
        "through a list",
        {"a.items.cidr": "0.0.0.0/0"},
        {"a": {"items": [{"cidr": "10/8"}, {"cidr": "0.0.0.0/0"}]}},
        True,
    ),
    ("list of lists", {"a": "x"}, {"a": [["y"], ["x"]]}, True),
    ("a key with dots", {"a.b.c": "x"}, {"a": {"b.c": "x"}}, True),
    ("a key with dots beside its first part", {"a.b.c": "x"}, {"a": {"z": 1}, "a.b.c": "x"}, True),
    ("a key with dots beside its first part, a text", {"a.b.c": "x"}, {"a": "z", "a.b.c": "x"}, True),
    ("a key with dots beside its first parts", {"a.b.c": "x"}, {"a": {"b": {}, "b.c": "x"}}, True),
    ("a way that begins with a key with dots", {"a.b.c": "x"}, {"a": {"b": 1}, "a.b": {"c": "x"}}, True),
    ("a way beside a key with dots", {"a.b.c": "x"}, {"a": {"b": {"c": "x"}}, "a.b.c": "y"}, True),
    ("a key with dots is not null", {"a.b": None}, {"a": {"b": None}, "a.b": "x"}, False),
    ("a key with dots exists", {"a.b.c|exists": True}, {"a": {}, "a.b": {"c": None}}, True),
    ("a key with dots that has another end", {"a.b.c": "x"}, {"a": {"z": 1}, "a.b.d": "x"}, False),
    ("a scalar on the way", {"a.b.c": "x"}, {"a": "b"}, False),
    ("contains", {"a|contains": "oo"}, {"a": "FOOD"}, True),
    ("contains all", {"a|contains|all": ["x", "y"]}, {"a": "y and x"}, True),
    ("contains all, one missing", {"a|contains|all": ["x", "z"]}, {"a": "y and x"}, False),
    ("startswith", {"a|startswith": "fo"}, {"a": "food"}, True),
    ("startswith elsewhere", {"a|startswith": "oo"}, {"a": "food"}, False),
    ("endswith", {"a|endswith": "OD"}, {"a": "food"}, True),
    ("re", {"a|re": r"^i-[0-9a-f]+$"}, {"a": "i-0ab1"}, True),
    ("re is cased", {"a|re": "^food$"}, {"a": "Food"}, False),
    ("re with i", {"a|re|i": "^food$"}, {"a": "Food"}, True),
    ("re finds anywhere", {"a|re": "oo"}, {"a": "food"}, True),
    ("re dot and line breaks", {"a|re": "a.b"}, {"a": "a\nb"}, False),
    ("re with s", {"a|re|s": "a.b"}, {"a": "a\nb"}, True),
    ("re with m", {"a|re|m": "^b$"}, {"a": "a\nb"}, True),
    ("cidr", {"ip|cidr": "10.0.0.0/8"}, {"ip": "10.1.2.3"}, True),
    ("cidr, v6", {"ip|cidr": "fd00::/8"}, {"ip": "fd12::1"}, True),
    ("cidr, outside", {"ip|cidr": "10.0.0.0/8"}, {"ip": "11.1.2.3"}, False),
    ("cidr, no address", {"ip|cidr": "10.0.0.0/8"}, {"ip": "ec2.amazonaws.com"}, False),
    ("exists", {"a.b|exists": True}, {"a": {"b": None}}, True),
    ("exists, missing", {"a.b|exists": True}, {"a": {}}, False),
    ("exists not", {"a.b|exists": False}, {"a": {}}, True),
    ("null when missing", {"errorCode": None}, {}, True),
    ("null when null", {"errorCode": None}, {"errorCode": None}, True),
    ("null when given", {"errorCode": None}, {"errorCode": "AccessDenied"}, False),
    ("empty list is null", {"a.b": None}, {"a": {"b": []}}, True),
    ("number", {"a": 22}, {"a": 22}, True),
    ("number as text", {"a": 22}, {"a": "22"}, True),
    ("text for a number", {"a": "22"}, {"a": 22}, True),
    ("another number", {"a": 22}, {"a": 220}, False),
    ("a boolean is no number", {"a": 1}, {"a": True}, False),
    ("lt", {"a|lt": 10}, {"a": 9}, True),
    ("lt, equal", {"a|lt": 10}, {"a": 10}, False),
    ("lte on text", {"a|lte": 10}, {"a": "10"}, True),
    ("gt", {"a|gt": 10}, {"a": 11}, True),
    ("gte, not a number", {"a|gte": 10}, {"a": "many"}, False),
    ("beyond 2^53", {"a": 2**53 + 1}, {"a": 2**53 + 1}, True),
    ("beyond 2^53, one less", {"a": 2**53 + 1}, {"a": 2**53}, False),
    ("beyond 2^53 as text", {"a": 2**53 + 1}, {"a": "9007199254740993"}, True),
    ("beyond 2^53 as text, one less", {"a": 2**53 + 1}, {"a": "9007199254740992"}, False),
    ("gt beyond 2^53", {"a|gt": 2**53}, {"a": 2**53 + 1}, True),
    ("gt beyond 2^53, equal", {"a|gt": 2**53 + 1}, {"a": 2**53 + 1}, False),
    ("lte beyond 2^53 in a list", {"a|lte": [5, 2**63 + 1]}, {"a": "9223372036854775809"}, True),
    ("gt on what is no finite number", {"a|gt": 1}, {"a": "inf"}, False),
    ("lt on what is no number at all", {"a|lt": 1}, {"a": "nan"}, False),
    ("decimal", {"a": 0.1}, {"a": 0.1}, True),
    ("decimal as text", {"a|gte": 0.1}, {"a": "0.1"}, True),
    ("boolean", {"a": True}, {"a": True}, True),
    ("boolean as text", {"a": True}, {"a": "true"}, True),
    ("text for a boolean", {"a": "true"}, {"a": True}, True),
    ("the other boolean", {"a": False}, {"a": True}, False),
    ("base64", {"a|base64": "curl"}, {"a": "Y3VybA=="}, True),
    ("base64offset contains", {"a|base64offset|contains": "curl http"}, {"a": "eGN1cmwgaHR0cHh4"}, True),
    ("windash", {"a|windash|contains": " -enc"}, {"a": "x /enc"}, True),
    ("fieldref", {"a|fieldref": "u.name"}, {"a": "Bob", "u": {"name": "bob"}}, True),
    ("fieldref, other", {"a|fieldref": "u.name"}, {"a": "bob", "u": {"name": "eve"}}, False),
    ("fieldref, both missing", {"a|fieldref": "u.name"}, {}, False),
    ("fieldref contains", {"a|fieldref|contains": "id"}, {"a": "arn:1234:role", "id": "1234"}, True),
    ("fieldref startswith", {"a|fieldref|startswith": "b"}, {"a": "xyz", "b": "xy"}, True),
    ("neq", {"a|neq": "x"}, {"a": "y"}, True),
    ("a map as JSON text", {"r|contains": '"b":"c"'}, {"r": {"a": {"b": "c"}}}, True),
    ("a document in a map", {"r|contains": '"b":"c"'}, {"r": {"doc": '{"b":"c"}'}}, True),
    ("hour of a time", {"eventTime|hour": 3}, {"eventTime": "2023-07-10T03:28:24Z"}, True),
    ("hour of no time", {"eventTime|hour": 3}, {"eventTime": "yesterday"}, False),
]


@pytest.mark.parametrize(
    ("fields", "record", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_field_conditions(fields: dict[str, Any], record: dict[str, Any], expected: bool, tmp_path: Path) -> None:
    """A selection matches the records that Sigma's specification says, and no others."""
    assert fires(tmp_path, selection(**fields), record) is expected


CONDITIONS = """
selection_a: {eventName: A}
selection_b: {eventSource: b}
filter_ok: {userAgent|contains: terraform}
filter_root: {userIdentity.type: Root}
condition: %s
"""


@pytest.mark.parametrize(
    ("condition", "record", "expected"),
    [
        ("1 of selection_*", {"eventName": "A"}, True),
        ("1 of selection_*", {"eventName": "B"}, False),
        ("all of selection_*", {"eventName": "A"}, False),
        ("all of selection_*", {"eventName": "A", "eventSource": "b"}, True),
        ("any of selection_*", {"eventSource": "b"}, True),
        ("all of them", {"eventName": "A", "eventSource": "b"}, False),
        ("selection_a and not 1 of filter_*", {"eventName": "A"}, True),
        ("selection_a and not 1 of filter_*", {"eventName": "A", "userAgent": "HashiCorp Terraform"}, False),
        ("selection_a and not (filter_ok and filter_root)", {"eventName": "A", "userAgent": "terraform"}, True),
        ("selection_a or selection_b and filter_ok", {"eventName": "A"}, True),
        ("(selection_a or selection_b) and filter_ok", {"eventName": "A"}, False),
        ("not selection_a", {}, True),
    ],
)
def test_conditions(condition: str, record: dict[str, Any], expected: bool, tmp_path: Path) -> None:
    """Quantifiers, brackets and the precedence of not, and, or are those of Sigma."""
    assert fires(tmp_path, CONDITIONS % condition, record) is expected


@pytest.mark.parametrize(
    ("keywords", "record", "expected"),
    [
        (["trufflehog"], {"userAgent": "TruffleHog/3"}, True),
        (["trufflehog"], {"a": [{"b": "x TRUFFLEHOG"}]}, True),
        (["truffle*g/?"], {"a": "my TruffleHog/3"}, True),
        (["trufflehog"], {"trufflehog": "only a key"}, False),
        ([443], {"a": {"port": 443}}, True),
        ([True], {"a": "x"}, None),
        ({"|all": ["one", "two"]}, {"a": "one", "b": "two"}, True),
        ({"|all": ["one", "two"]}, {"a": "one"}, False),
        ({"|re": "^o.e$"}, {"a": "one"}, True),
    ],
)
def test_keywords(keywords: Any, record: dict[str, Any], expected: bool | None, tmp_path: Path) -> None:
    """A value without a field is searched in every leaf of the record. One that can't be searched is unsupported."""
    rules = rule_set(tmp_path, {"keywords": keywords, "condition": "keywords"})
    assert (None if rules.skipped else bool(rules.evaluate([record]))) is expected


def test_a_list_of_maps_is_or(tmp_path: Path) -> None:
    """A selection that is a list of maps matches when one whole map matches."""
    detection = {"selection": [{"eventName": "A", "eventSource": "a"}, {"eventName": "B"}], "condition": "selection"}
    matched = [
        fires(tmp_path, detection, record)
        for record in ({"eventName": "A", "eventSource": "a"}, {"eventName": "A"}, {"eventName": "B"})
    ]
    assert matched == [True, False, True]


def test_several_conditions_match_once(tmp_path: Path) -> None:
    """A rule with a list of conditions matches a record once, even when several hold."""
    rules = rule_set(tmp_path, {"a": {"eventName": "A"}, "b": {"eventSource": "b"}, "condition": ["a", "b"]})
    assert len(rules.evaluate([{"eventName": "A", "eventSource": "b"}])) == 1


def test_the_index_leaves_nothing_out(tmp_path: Path) -> None:
    """A rule that names an eventName in only one branch is tried on all names, of any case and type."""
    detection = {"a": {"eventName": "A"}, "b": {"userAgent": "x"}, "condition": "a or b"}
    assert fires(tmp_path, detection, {"eventName": "Z", "eventSource": "s", "userAgent": "x"})
    assert fires(tmp_path, selection(eventName="a", eventSource="S"), {"eventName": "A", "eventSource": "s"})
    assert fires(tmp_path, selection(eventName="7"), {"eventName": 7, "eventSource": "s"})
    assert fires(tmp_path, selection(eventName="a"), {"eventName": ["b", "a"], "eventSource": "s"})
