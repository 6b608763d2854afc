"""Properties of the rule engine that hold for any input."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sigma.types import SigmaCasedString, SigmaString

from cell_worker.handlers.security.matching import find
from cell_worker.handlers.security.remedies import REMEDIES
from cell_worker.handlers.security.settings import SHIPPED_RULES
from cell_worker.handlers.security.sigma import RuleError, load_rules
from cell_worker.handlers.security.values import compile_text, compile_value

TEXT = st.text(alphabet="abAB*?.\\[(^$ \n\u00e9", max_size=12)
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=20)
COMMON_KEYS = ["eventName", "eventSource", "eventTime", "requestParameters", "userIdentity", "items", "a"]
KEYS = st.sampled_from(COMMON_KEYS) | st.text(max_size=8)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)
SOURCES = ["ec2.amazonaws.com", "s3.amazonaws.com", "iam.amazonaws.com", "signin.amazonaws.com"]
NAMES = ["PutBucketPolicy", "AuthorizeSecurityGroupIngress", "ConsoleLogin", "CreateAccessKey"]
INTERESTING = {"eventSource": st.sampled_from(SOURCES), "eventName": st.sampled_from(NAMES)}
RECORDS = st.dictionaries(KEYS, JSON, max_size=6) | st.fixed_dictionaries(
    {**INTERESTING, "requestParameters": JSON, "userIdentity": JSON, "eventTime": JSON}
)
SHIPPED = load_rules(SHIPPED_RULES, remedies=REMEDIES.keys())


def simple_glob(parts: list[Any]) -> str:
    """The same pattern as a backtracking regular expression: the plain definition of a wildcard."""
    names = {"WILDCARD_MULTI": ".*", "WILDCARD_SINGLE": "."}
    return "".join(re.escape(part) if isinstance(part, str) else names[part.name] for part in parts)


@given(pattern=TEXT, text=TEXT)
def test_wildcards_mean_what_they_say(pattern: str, text: str) -> None:
    """`*` is any text and `?` any character, a backslash escapes them, and only a cased value heeds case."""
    cased = SigmaCasedString(pattern)
    expected = re.fullmatch(simple_glob(cased.s), text, re.DOTALL) is not None
    assert compile_value(cased)(text) is expected
    lowered = re.fullmatch(simple_glob(SigmaString(pattern.lower()).s), text.lower(), re.DOTALL) is not None
    assert compile_value(SigmaString(pattern))(text) is lowered


@given(pattern=st.text(alphabet="ab*?", max_size=10), text=st.text(alphabet="ab", max_size=12))
def test_wildcards_agree_with_fnmatch(pattern: str, text: str) -> None:
    """Where fnmatch has the same syntax, both agree."""
    assert compile_text(SigmaString(pattern))(text) is fnmatch.fnmatchcase(text, pattern)


@given(value=JSON, path=st.lists(st.sampled_from("abc"), min_size=1, max_size=4))
def test_a_value_is_found_where_it_was_put(value: Any, path: list[str]) -> None:
    """Whatever the path, and with a list at every step, each leaf of the value is found and nothing else."""
    record: Any = value
    for key in reversed(path):
        record = {key: [record, "decoy"]}
    found = list(find(".".join(path))(record))
    flat = list(find("v")({"v": value}))
    assert found == [*flat, "decoy"]


@given(records=st.lists(RECORDS, max_size=4))
def test_evaluation_never_raises(records: list[dict[str, Any]]) -> None:
    """Whatever JSON a log has, the shipped rules give an answer, and the same one every time."""
    decoded = msgspec.json.decode(msgspec.json.encode(records))
    assert SHIPPED.evaluate(decoded) == SHIPPED.evaluate(decoded)


def test_deep_records_are_evaluated() -> None:
    """Lists as deep as the JSON decoder allows don't exhaust the stack."""
    depth = 900
    deep: Any = "0.0.0.0/0"
    for _ in range(depth):
        deep = [deep]
    record = {
        "eventSource": "ec2.amazonaws.com",
        "eventName": "AuthorizeSecurityGroupIngress",
        "requestParameters": {"cidrIp": deep},
    }
    assert [match.rule.title for match in SHIPPED.evaluate([record])] == ["Security group opened to the world"]


YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
RULE_KEYS = [
    "title",
    "id",
    "logsource",
    "detection",
    "level",
    "tags",
    "status",
    "related",
    "correlation",
    "remedy",
    "name",
]


@given(document=st.dictionaries(st.sampled_from(RULE_KEYS), YAML_VALUES, max_size=8))
def test_loading_answers_or_says_what_is_wrong(
    document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any YAML map is a rule, a skipped rule, or a RuleError that names the file."""
    folder = tmp_path_factory.mktemp("rules")
    path = folder / "rule.yml"
    path.write_text(yaml.safe_dump(document))
    check_loads(folder, path)


@given(content=st.binary(max_size=60))
def test_loading_any_bytes(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any bytes in a file are rules, or a RuleError that names the file."""
    folder = tmp_path_factory.mktemp("rules")
    path = folder / "rule.yml"
    path.write_bytes(content)
    check_loads(folder, path)


def check_loads(folder: Path, path: Path) -> None:
    """Load, or fail with the file's name."""
    problem = None
    try:
        rules = load_rules(folder)
    except RuleError as error:
        problem = str(error)
    assert str(path) in problem if problem else len(rules) + len(rules.skipped) >= 1
