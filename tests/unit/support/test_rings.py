"""Which failed tests are run again, and which never are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.rings import MOST_AGAIN, PHASES, run_all

REAL = "tests/integration/test_dlq.py::test_list[embedded-a b]"
OTHER = "tests/acceptance/test_demo.py::test_it"
UNIT = "tests/unit/core/test_policy.py::test_it"


class Pytest:
    """A pytest that fails each phase with a code and names of tests, and fails what is run again with another code."""

    def __init__(self, notes: Path, failures: Sequence[tuple[int, Sequence[str]]], again: int = 0) -> None:
        self.notes = notes
        self.failures = list(failures)
        self.again = again
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, arguments: Sequence[str]) -> int:
        self.asked.append(tuple(arguments))
        if not arguments[0].startswith("--note-failures="):
            return self.again
        code, names = self.failures.pop(0)
        with self.notes.open("a") as notes:
            notes.writelines(f"{name}\n" for name in names)
        return code


def test_passing_tests_are_run_once(tmp_path: Path) -> None:
    """Both phases run, and nothing runs after them."""
    pytest_ = Pytest(tmp_path / "failed", [(0, []), (0, [])])
    assert run_all(pytest_, tmp_path / "failed") == 0
    assert [asked[1:] for asked in pytest_.asked] == list(PHASES)


def test_a_real_process_test_that_fails_once_is_flaky(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is run again by its whole name, once, and reported as flaky when it passes."""
    pytest_ = Pytest(tmp_path / "failed", [(1, [REAL, REAL]), (1, [OTHER])])
    assert run_all(pytest_, tmp_path / "failed") == 0
    assert pytest_.asked[-1] == (REAL, OTHER)
    assert capsys.readouterr().out.endswith(f"flaky:\n  {REAL}\n  {OTHER}\n")


def test_a_real_process_test_that_fails_twice_fails_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole run ends with the exit code of the second try."""
    pytest_ = Pytest(tmp_path / "failed", [(1, [REAL]), (0, [])], again=1)
    assert run_all(pytest_, tmp_path / "failed") == 1
    assert "flaky" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "failures",
    [
        [(1, [REAL, UNIT]), (0, [])],
        [(1, [f"{REAL}{number}" for number in range(MOST_AGAIN)]), (1, [OTHER])],
        [(1, []), (0, [])],
        [(2, [REAL]), (0, [])],
        [(0, []), (3, [])],
    ],
    ids=["a unit test among them", "too many", "no test by name", "interrupted", "an error of pytest's own"],
)
def test_no_other_failure_is_run_again(tmp_path: Path, failures: list[tuple[int, Sequence[str]]]) -> None:
    """The run fails with the gravest code."""
    pytest_ = Pytest(tmp_path / "failed", failures)
    assert run_all(pytest_, tmp_path / "failed") == max(code for code, _ in failures)
    assert len(pytest_.asked) == len(PHASES)
