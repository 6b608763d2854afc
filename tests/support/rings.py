"""Runs every test, as `script/test` without arguments and CI do: two phases, and once more what failed in them.

First come the tests that may run side by side. Then come those that measure how soon something is done, or that need a
whole Docker engine, one after the other. A test that runs real processes and fails is run once more at the end, alone.
When it passes then, the run goes on and names it under `flaky:`. A test of the unit ring is never run again: it is
pure, or on virtual time, so its failure is a bug.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

SIDE_BY_SIDE: Final = max(3, min(os.cpu_count() or 1, 8))
"""How many tests run at once. Most of them wait for other processes most of the time: even two cores are kept busy."""
SLOWEST: Final = ("--durations=40", "--durations-min=5")
"""Says where the time goes: the whole run has to end within an hour."""
PHASES: Final = (
    # One by one in their order, the long ones first: the last to end is short.
    (*SLOWEST, "-m", "not alone", "--numprocesses", str(SIDE_BY_SIDE), "--dist", "load", "--maxschedchunk", "1"),
    # One after the other: on a machine with little left to give, healthy cells look sick.
    (*SLOWEST, "-m", "alone"),
)
MOST_AGAIN: Final = 8
"""More failures than this are a bug, and not caused by a busy machine."""
TESTS_FAILED: Final = 1
"""Pytest's exit code for failed tests; with a higher one, pytest itself was stopped or is broken."""
UNIT_RING: Final = "tests/unit/"

Pytest = Callable[[Sequence[str]], int]
"""Runs pytest with these arguments; returns its exit code."""


def run_all(pytest: Pytest, notes: Path) -> int:
    """Run both phases, and once more what failed in them; returns the exit code of the whole."""
    codes = [pytest((f"--note-failures={notes}", *phase)) for phase in PHASES]
    failed = noted(notes)
    if not any(codes):
        return 0
    if max(codes) > TESTS_FAILED or not failed:
        return max(codes)
    if why := why_not_again(failed):
        print(f"\nNo test is run again: {why}.")
        return TESTS_FAILED
    print(f"\n{len(failed)} failed and run once more, alone:")
    if code := pytest(failed):
        return code
    print("\nflaky:", *failed, sep="\n  ", flush=True)
    return 0


def noted(notes: Path) -> list[str]:
    """List the names of the tests that failed, each once, in their order."""
    return list(dict.fromkeys(notes.read_text().splitlines())) if notes.exists() else []


def why_not_again(failed: Sequence[str]) -> str | None:
    """Say why these failures stand without another try; None when a busy machine may have caused them."""
    if unit := [name for name in failed if name.startswith(UNIT_RING)]:
        return f"{unit[0]} runs no processes, so its failure is a bug"
    if len(failed) > MOST_AGAIN:
        return f"{len(failed)} failed, and more than {MOST_AGAIN} at once are no accident"
    return None


def _pytest(arguments: Sequence[str]) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], check=False).returncode


def main() -> None:
    """Run all tests of this checkout and exit with their code."""
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(run_all(_pytest, Path(folder) / "failed"))


if __name__ == "__main__":
    main()
