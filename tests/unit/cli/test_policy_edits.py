"""Numbers that would hurt are refused where a person types them, with what can be typed instead."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from router.cli.policy_edits import commands
from router.core.edits.decided import PolicyEdit
from router.core.edits.kinds import Edit
from router.core.edits.orders import decided
from router.core.fairness.turns import MAX_TURN
from router.core.models import CellRecord
from router.core.policy import MAX_BURST, MAX_CONCURRENCY, MAX_RATE, MIN_RATE, NO_POLICY, FifoHead, Policy, judge
from router.core.registry import Snapshot

CELLS = ("cell-0000", "cell-0001")
NOW_MS = 1_700_000_000_000


def run(*arguments: str) -> tuple[int, str, list[PolicyEdit]]:
    """The exit code and the output of a command, and the edit that it made of its arguments."""
    edits: list[PolicyEdit] = []
    snapshot = Snapshot(NOW_MS, None, {cell_id: CellRecord(cell_id) for cell_id in CELLS}, (), "")

    def do(edit: Edit, why: str) -> None:
        edits.append(decided(edit, snapshot, why))

    app: typer.Typer = commands(do, "Make edits.")
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    return result.exit_code, result.output, edits


@pytest.mark.parametrize("rate", ["1e-310", "5e-324", "1e-7", "1e7", "inf", "nan", "-1"])
def test_a_rate_that_no_router_can_keep_is_refused(rate: str) -> None:
    """The lowest rate of all can't be divided by; a rate that is no number is no limit."""
    code, text, edits = run("limit", "--default", f"--rate={rate}")
    assert (code, edits) == (2, [])
    assert "--rate" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("limit", "k", "--rate=1", f"--burst={MAX_BURST + 1}"),
        ("limit", "k", "--rate=1", "--burst=0"),
        ("limit", "k", f"--concurrency={MAX_CONCURRENCY + 1}"),
        ("limit", "k", "--concurrency=-1"),
        ("fairness", "k", f"--weight={MAX_TURN + 1}"),
        ("fairness", "k", "--weight=0"),
        ("fairness", "k", "--priority=highest"),
        ("weight", "cell-0000", "1e-310"),
        ("weight", "cell-0000", "nan"),
        ("weight", "cell-0000", "inf"),
        ("quarantine", "k", "--for=inf"),
        ("quarantine", "k", "--for=nan"),
        ("quarantine", "k", "--for=1e300"),
    ],
)
def test_every_other_number_has_bounds_too(arguments: tuple[str, ...]) -> None:
    """The message is one for people, and no traceback."""
    code, text, edits = run(*arguments)
    assert (code, edits) == (2, [])
    assert "Traceback" not in text


@pytest.mark.parametrize(
    "arguments",
    [
        ("limit", "k", f"--rate={MIN_RATE}", f"--burst={MAX_BURST}", f"--concurrency={MAX_CONCURRENCY}"),
        ("limit", "--default", f"--rate={MAX_RATE}"),
        ("fairness", "k", f"--weight={MAX_TURN}", "--priority=low"),
        ("weight", "cell-0000", "0.001"),
        ("weight", "cell-0000", "100"),
        ("quarantine", "k", "--for=3153600000"),
    ],
)
def test_what_the_command_takes_the_leader_accepts(arguments: tuple[str, ...]) -> None:
    """The bounds are the same in both places."""
    code, _, (edit,) = run(*arguments)
    wanted = edit.make(NO_POLICY, NOW_MS)
    ruling, _ = judge("p", wanted, NO_POLICY, CELLS, CELLS, can_launch=True, generations={})
    assert (code, ruling.reasons) == (0, ())


def test_what_becomes_of_a_fifo_head_that_kills_is_a_choice_of_two() -> None:
    """The default can be chosen again; there is no third choice."""
    code, _, (edit,) = run("fifo-head", "skip")
    skipping = edit.make(NO_POLICY, NOW_MS)
    assert (code, skipping) == (0, Policy(fifo_head=FifoHead.SKIP))
    assert run("fifo-head", "stop")[2][0].make(skipping, NOW_MS) == NO_POLICY
    assert run("fifo-head", "drop")[0] == 2
