"""Numbers of logs and rules are compared as they are written: no float rounds them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cell_worker.handlers.security.evaluation.analysis import analyse
from cell_worker.handlers.security.logs import LogObject
from cell_worker.handlers.security.sigma import load_rules

RULE = """
title: exact
id: 00000001-2222-4333-8444-555555555555
logsource: {{product: aws, service: cloudtrail}}
detection:
  small: {{other: [1, 2, 3]}}
  s: {{{field}: {value}}}
  condition: s
"""


def found(folder: Path, field: str, value: str, literal: str) -> bool:
    """Whether a rule with this field and value, as YAML writes it, finds a log's number, as JSON writes it."""
    (folder / "rule.yml").write_text(RULE.format(field=field, value=value))
    log = f'{{"Records":[{{"p":{{"n":{literal}}}}}]}}'.encode()
    return bool(analyse([log], LogObject("b", "k", None), 1024 * 1024, load_rules(folder)).sightings)


@pytest.mark.parametrize(
    ("field", "value", "literal", "expected"),
    [
        ("p.n", "9007199254740993", "9007199254740993", True),
        ("p.n", "9007199254740993", "9007199254740992", False),
        ("p.n", "9007199254740993", "9007199254740993.0", True),
        ("p.n", "9007199254740993", "9007199254740992.0", False),
        ("p.n", "9007199254740993.5", "9007199254740993.5", True),
        ("p.n", "9007199254740993.5", "9007199254740993.25", False),
        ("p.n|gt", "9007199254740992", "9007199254740992.5", True),
        ("p.n|lt", "0.12345678901234567891", "0.12345678901234567890", True),
        ("p.n|lt", "0.12345678901234567890", "0.12345678901234567891", False),
        ("p.n|gte", "123456789012345678901234567891", "123456789012345678901234567890", False),
        ("p.n", "0.1", "0.1", True),
        ("p.n", "0.1", "1e-1", True),
        ("p.n", "100000", "1E5", True),
        ("p.n|gt", "5", "1e400", True),
        ("p.n|gt", "5", "1e99999999999999999999", False),
        ("p.n|contains", "'0.25'", "0.25", True),
        ("p|contains", "'\"n\":0.25'", "0.25", True),
    ],
)
def test_numbers_are_exact(field: str, value: str, literal: str, expected: bool, tmp_path: Path) -> None:
    """What is beyond 2^53, or has more decimals than a float, is equal to nothing but itself."""
    assert found(tmp_path, field, value, literal) is expected


def test_each_rule_of_a_file_keeps_its_own_numbers(tmp_path: Path) -> None:
    """Two rules of one file whose numbers have one float find each its own."""
    first = RULE.format(field="p.n", value=2**60 + 1)
    second = RULE.format(field="p.n", value=2**60 + 2).replace("00000001", "00000002")
    (tmp_path / "rules.yml").write_text(f"{first}---{second}")
    rules = load_rules(tmp_path)
    ids = [[match.rule.rule_id[7] for match in rules.evaluate([{"p": {"n": 2**60 + more}}])] for more in range(4)]
    assert ids == [[], ["1"], ["2"], []]


def test_a_record_is_quoted_with_its_numbers(tmp_path: Path) -> None:
    """A map that a finding quotes has the numbers as the log has them."""
    (tmp_path / "rule.yml").write_text(RULE.format(field="p.n", value="1"))
    log = b'{"Records":[{"p":{"n":1},"sourceIPAddress":{"n":0.5}}]}'
    (sighting,) = analyse([log], LogObject("b", "k", None), 1024, load_rules(tmp_path)).sightings
    assert json.loads(sighting.record["sourceIPAddress"]) == {"n": 0.5}
