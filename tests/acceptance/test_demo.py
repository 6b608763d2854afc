"""`cellrouter demo` as a user starts it: the main job, whole, with all its processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from router.demo.cloudtrail import generate
from router.demo.ledger import total
from tests.support.aio import run, until
from tests.support.paths import REPOSITORY

CLOUDTRAIL = REPOSITORY.parent / "shared" / "data" / "cloudtrail"
LIMIT_S = 240
SEED = 7  # the demo uses the same


def demo(directory: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> tuple[int, str, dict[str, Any]]:
    """Run the demo to its end; return its exit code, output and ledger."""
    ledger = directory / "ledger.json"
    done = subprocess.run(
        [sys.executable, "-m", "router", "demo", "--json", str(ledger), *arguments],
        env={**os.environ, **(environ or {})},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    output = done.stdout + done.stderr
    assert ledger.exists(), output
    return done.returncode, output, json.loads(ledger.read_text())


def processes_with(marker: str) -> list[psutil.Process]:
    """List the processes whose environment has the marker: all that one demo has started."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("DEMO_TEST_MARKER") == marker:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.alone
def test_generated_files_a_cell_killed_another_slow_and_a_clean_ledger(tmp_path: Path) -> None:
    """Each file is processed once, findings are the expected ones, no key moves, and no process is left."""
    marker = str(tmp_path)
    code, output, ledger = demo(
        tmp_path, "--files", "120", "--accounts", "20", "--seconds", "8", environ={"DEMO_TEST_MARKER": marker}
    )
    assert code == 0, output
    assert {key: ledger[key] for key in ("sent", "processed", "duplicates", "dead_lettered", "lost", "keys_moved")} == {
        "sent": 120,
        "processed": 120,
        "duplicates": 0,
        "dead_lettered": 0,
        "lost": 0,
        "keys_moved": 0,
    }
    assert ledger["findings"] == total(log_file.expected for log_file in generate(120, 20, SEED))
    assert ledger["replaced_in_s"] > 0
    assert ledger["slow_replaced_in_s"] > ledger["replaced_in_s"]
    assert ledger["first_event_s"] > 0
    assert "SIGKILL to cell-" in output
    assert not processes_with(marker)


def test_real_files_have_the_same_findings_in_every_run(tmp_path: Path) -> None:
    """Real logs give the same findings over other accounts, and a corrupt one is dead-lettered with its reason."""
    if not CLOUDTRAIL.is_dir():
        message = f"the real log files are not there: {CLOUDTRAIL}"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    data = tmp_path / "data"
    data.mkdir()
    for path in sorted(CLOUDTRAIL.glob("*.json"))[:10]:
        (data / path.name).write_bytes(path.read_bytes())
    (data / "corrupt.json.gz").write_bytes(b"\x1f\x8bno gzip at all")
    count = len(list(data.iterdir()))
    common = ("--data", str(data), "--cells", "2", "--seconds", "3")
    runs = [
        demo(tmp_path, *common, "--files", str(count * repeats), "--accounts", accounts)
        for repeats, accounts in ((1, "3"), (2, "7"))
    ]
    for repeats, (code, output, ledger) in enumerate(runs, start=1):
        assert code == 0, output
        assert (ledger["lost"], ledger["duplicates"], ledger["keys_moved"]) == (0, 0, 0)
        assert (ledger["processed"], ledger["dead_lettered"]) == ((count - 1) * repeats, repeats)
        assert "corrupt" in output
    once, twice = (ledger["findings"] for _, _, ledger in runs)
    assert once
    assert twice == {rule: 2 * findings for rule, findings in once.items()}


BROKEN_ACK_ORDER = '''
"""Imported by every Python process of the demo: acknowledges before the cell has confirmed."""
import sys

if sys.argv[0].endswith("router/__main__.py") or "router" in sys.argv:
    from router.services.data_plane import dispatcher
    from router.services.data_plane import lane_runner

    _send = lane_runner.LaneRunner._send

    async def send(self, target, batch):
        for delivery in batch:
            delivery.settle()
        await _send(self, target, batch)

    lane_runner.LaneRunner._send = send
    dispatcher.Dispatcher._on_result = lambda self, lane, delivery, result: None
'''


def test_a_router_that_acknowledges_too_early_is_caught_by_the_ledger(tmp_path: Path) -> None:
    """With the order broken on purpose, the killed cell's events are lost, and the demo says so and fails."""
    (tmp_path / "sitecustomize.py").write_text(BROKEN_ACK_ORDER)
    environ = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"}
    code, output, ledger = demo(
        tmp_path, "--files", "200", "--accounts", "40", "--cells", "2", "--seconds", "4", environ=environ
    )
    assert ledger["lost"] > 0, output
    assert ledger["lost"] == ledger["sent"] - ledger["processed"]
    assert code == 1
    assert "LOST s3://" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_every_process(tmp_path: Path, number: signal.Signals) -> None:
    """In the middle of a run, Ctrl-C gives exit code 130 and SIGTERM 143, and no process is left."""
    marker = f"{tmp_path}-{number}"
    with subprocess.Popen(
        [sys.executable, "-m", "router", "demo", "--files", "1000", "--seconds", "100"],
        env={**os.environ, "DEMO_TEST_MARKER": marker},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "first event is processed" in line:
                break
        assert len(processes_with(marker)) >= 8, said  # the demo, Valkey, MiniStack, controller, router, 4 workers
        process.send_signal(number)
        rest = process.stdout.read()
        assert process.wait(60) == 128 + number, rest
    assert not processes_with(marker)


@pytest.mark.parametrize("started", [2, 4, 5, 7])
def test_a_signal_while_it_starts_ends_every_process(tmp_path: Path, started: int) -> None:
    """Whatever has started by then ends; the signal comes once that many processes run."""
    marker = f"{tmp_path}-{started}"
    with subprocess.Popen(
        [sys.executable, "-m", "router", "demo"],
        env={**os.environ, "DEMO_TEST_MARKER": marker},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:

        async def are_there() -> bool:
            return len(processes_with(marker)) >= started

        run(until(are_there, f"{started} processes"))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 128 + signal.SIGINT
    assert not processes_with(marker)


def test_wrong_options_are_explained() -> None:
    """The error says what is wrong and which options there are, without a traceback."""
    for arguments, words in (
        (["demo", "--fils", "3"], "--files"),
        (["demo", "--files", "0"], "greater than or equal to 1"),
        (["demo", "--data", "/no/such/folder"], "/no/such/folder"),
        (["nonsense"], "No such command"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "router", *arguments], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode in {1, 2}, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
