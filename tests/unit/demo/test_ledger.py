"""The ledger is only as good as what it can see, so each kind of failure must show in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from router.demo.ledger import Evidence, differences, total


def receipt(location: str, cell: str = "cell-0000", run: str = "run-1") -> dict[str, Any]:
    """Make the receipt of an object, as a sink has it."""
    return {"type": "receipt", "object": location, "cell_id": cell, "processing_id": run}


def finding(location: str, number: int, rule: str = "rule-1") -> dict[str, Any]:
    """Make a finding about an object, as a sink has it."""
    return {"type": "finding", "object": location, "id": f"f{number}", "rule_id": rule, "rule": "A rule"}


def evidence(*locations: str) -> Evidence:
    """Return evidence of a run that sent these objects, all of one account."""
    return Evidence(sent=dict.fromkeys(locations, "account-1"))


def ledger_of(found: Evidence) -> tuple[int, int, int, int, int]:
    """Return the counts: processed, duplicates, dead-lettered, lost, keys moved."""
    ledger = found.ledger()
    return ledger.processed, ledger.duplicates, ledger.dead_lettered, ledger.lost, ledger.keys_moved


def test_what_has_neither_receipt_nor_dead_letter_is_lost() -> None:
    """The lost object is counted and named."""
    found = evidence("a", "b", "c")
    found.add_line(receipt("a"))
    found.add_dead_letter("b", "rejected: corrupt")
    assert ledger_of(found) == (1, 0, 1, 1, 0)
    assert found.missing() == ["c"]


def test_the_same_line_twice_is_no_duplicate_but_a_second_processing_is() -> None:
    """A sink may deliver a line twice; an effect committed twice has two processing ids."""
    found = evidence("a")
    found.add_line(receipt("a"))
    found.add_line(receipt("a"))
    assert ledger_of(found) == (1, 0, 0, 0, 0)
    found.add_line(receipt("a", run="run-2"))
    assert ledger_of(found) == (1, 1, 0, 0, 0)


def test_a_key_that_two_cells_processed_has_moved() -> None:
    """Moved keys are found by the receipts, not by the slot map."""
    found = evidence("a", "b")
    found.add_line(receipt("a", "cell-0000"))
    found.add_line(receipt("b", "cell-0001", "run-2"))
    assert ledger_of(found) == (2, 0, 0, 0, 1)


def test_other_runs_lines_and_dead_letters_do_not_count() -> None:
    """A system that was used before gives no wrong figures."""
    found = evidence("a")
    found.add_line(receipt("old"))
    found.add_line(finding("old", 1))
    found.add_line({"type": "other"})
    found.add_dead_letter("old", "x")
    assert ledger_of(found) == (0, 0, 0, 1, 0)


def test_findings_are_counted_once_by_their_id() -> None:
    """Findings are counted by rule, and compared with the expected numbers."""
    found = evidence("a")
    for number, rule in ((1, "r1"), (1, "r1"), (2, "r1"), (3, "r2")):
        found.add_line(finding("a", number, rule))
    findings = found.ledger().findings
    assert findings == {"r1": 2, "r2": 1}
    assert differences({"r1": 2, "r2": 1}, findings) == []
    assert differences({"r1": 2, "r3": 1}, findings) == [
        "r2: 1 findings, 0 expected",
        "r3: 0 findings, 1 expected",
    ]


def test_one_file_without_known_findings_makes_the_total_unknown() -> None:
    """That is so with real files, of which nobody knows the findings."""
    assert total([{"a": 1}, {"a": 2, "b": 1}]) == {"a": 3, "b": 1}
    assert total([{"a": 1}, None]) is None


def test_a_dead_letter_is_told_by_the_name_of_the_users_own_file() -> None:
    """Copies of one file are one line. A generated file has no other name than its object's."""
    found = Evidence(
        sent=dict.fromkeys(("s3://b/1", "s3://b/2", "s3://b/3", "s3://b/4"), "k"),
        files={"s3://b/1": Path("logs/bad.json"), "s3://b/2": Path("logs/bad.json"), "s3://b/3": Path("logs/x.json")},
    )
    for location in found.sent:
        found.add_dead_letter(location, f"rejected: {location} is not JSON")
    assert found.told_dead_letters() == [
        "dead-lettered logs/bad.json (2 copies): rejected: s3://b/1 is not JSON",
        "dead-lettered logs/x.json: rejected: s3://b/3 is not JSON",
        "dead-lettered s3://b/4: rejected: s3://b/4 is not JSON",
    ]
