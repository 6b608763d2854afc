"""The demo says in words for everybody what the controller has done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.core.control.records import admitted, put_on_rung
from router.core.detection.assessment import Verdict
from router.core.detection.trial import Finding, TrialResult
from router.core.models import CellRecord, Rung, Treatment
from router.demo.news import told

CELL = "cell-0001"
TREATMENT = Treatment(Rung.MENDING, 1_000, 1, Verdict.SLOW, "its canary takes 503 ms")
RECORD = CellRecord(CELL, generation=1, launching=2, treatment=TREATMENT)


def test_a_trial_ends_with_both_latencies() -> None:
    """As the audit has them, without what only its readers need."""
    shown = str(TrialResult(Finding.SLOWER, 0.503, 0.003, 12, 2))
    done = admitted(RECORD, 2, "a:1", 9_000, shown)
    assert told(done.action, CELL, done.why) == f"{CELL}: 503 ms, its twin 3 ms: replaced by generation 2"


def test_a_treatment_is_told_once() -> None:
    """Its next rung has the same reason."""
    first = put_on_rung(RECORD, TREATMENT, 9_000)
    assert told(first.action, CELL, first.why) == f"{CELL} is sick: its canary takes 503 ms"
    second = put_on_rung(RECORD, replace(TREATMENT, rung=Rung.REPLACING), 9_000)
    assert told(second.action, CELL, second.why) is None


@pytest.mark.parametrize(
    ("action", "why", "text"),
    [
        ("launch", "generation 2: generation 1 is slow: late", f"{CELL}: generation 2 is launched beside it, as its "),
        ("launch", "generation 2: generation 1 exited: 9", f"launch {CELL}: generation 2: generation 1 exited: 9"),
        ("end", "generation 1 ended; its last words:\nlong", f"end {CELL}: generation 1 ended"),
    ],
)
def test_other_actions_keep_their_reasons(action: str, why: str, text: str) -> None:
    """An instance's last words are left out."""
    assert (told(action, CELL, why) or "").startswith(text)
