"""A handler that can't be imported is said before anything is launched, with the place in its code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import pytest

from router.bootstrap.handler_check import handler_faults, why_no_handler
from router.settings_sections import CellsSection
from tests.support.aio import run
from tests.support.paths import REPOSITORY


def environ(folder: Path) -> dict[str, str]:
    """The variables of a process that finds modules in this folder."""
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY}"}


def test_a_handler_that_can_be_imported_is_no_fault(tmp_path: Path) -> None:
    """Whatever it prints, and though a thread of its goes on."""
    (tmp_path / "talks.py").write_text(
        "import sys, threading, time\n"
        "print('here'); print('there', file=sys.stderr)\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "async def handle(event, cell): ...\n"
    )
    assert run(why_no_handler("talks:handle", environ(tmp_path))) is None


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import no_such_client", "ModuleNotFoundError: No module named 'no_such_client' ({path}, line 1)"),
        ("def handle(:", "SyntaxError: invalid syntax (broken.py, line 1)"),
        ("import sys; sys.exit('no key')", "SystemExit('no key')"),
        ("import os; os._exit(9)", "its import ends the process, with 9"),
        ("handle = 3", "neither a coroutine function nor a class with an async __call__"),
        ("x = 1", "AttributeError: module 'broken' has no attribute 'handle'"),
    ],
)
def test_the_last_line_of_its_traceback_is_said(tmp_path: Path, code: str, why: str) -> None:
    """On one line, with file and line where the handler's own code has raised."""
    (path := tmp_path / "broken.py").write_text(f"{code}\n")
    assert run(why_no_handler("broken:handle", environ(tmp_path))) == why.format(path=path)


@pytest.mark.parametrize(
    ("provisioner", "certain", "doubtful"), [("subprocess", 1, 0), ("docker", 0, 1), ("external", 0, 0)]
)
def test_what_is_missing_here_is_a_fault_only_where_workers_run_here(
    provisioner: Literal["subprocess", "docker", "external"], certain: int, doubtful: int
) -> None:
    """An image may have what the controller has not; external workers have a handler of their own."""
    cells = CellsSection(handler="no_such_module:handle", provisioner=provisioner)
    faults, doubts = run(handler_faults(cells, os.environ))
    assert (len(faults), len(doubts)) == (certain, doubtful)
    assert all("No module named 'no_such_module'" in text for text in faults + doubts)
