"""`cellrouter chaos …` as a person runs it: the real command on a real registry and a real worker."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.keys import SECRET
from tests.support.paths import REPOSITORY
from tests.support.worker_process import WorkerProcess, body, outcomes, post

pytestmark = pytest.mark.one_kind  # about the command, which is the same on all servers


def chaos(worker: WorkerProcess, *arguments: str, code: int = 0) -> str:
    """Run the command, which has to end with this exit code and no traceback; return all that it prints."""
    environ = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "COLUMNS": "200",
        "CELLROUTER_SECRET": SECRET,
        "CELLROUTER_ENVIRONMENT": worker.environment,
        "CELLROUTER_REDIS_URL": worker.redis_url,
    }
    done = subprocess.run(
        [sys.executable, "-m", "router", "chaos", *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def worker(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """Run the admitted instance of cell-0000."""
    with WorkerProcess(redis_url, tmp_path_factory.mktemp("chaos"), chaos=True) as made:
        made.ready()
        made.admit(1)
        yield made


@pytest.mark.parametrize(
    ("arguments", "said", "shown"),
    [
        (["slow", "--ms", "300", "--factor", "2"], "slow: 300 ms more for every event and handlers take x2", "slow"),
        (["slow", "--factor", "9", "--rate", "0.3"], "slow: handlers take x9, for 30% of them", "x9, rate 0.3)"),
        (["hang"], "hangs: no event and no canary gets an answer", "hang"),
        (["errors", "--rate", "0.5"], "50% of its events fail", "errors (rate 0.5)"),
        (["garbage"], "answers garbage", "garbage"),
    ],
    ids=["slow", "slow in part", "hang", "errors", "garbage"],
)
def test_the_command_says_what_it_did_and_when_the_fault_ends(
    worker: WorkerProcess, arguments: list[str], said: str, shown: str
) -> None:
    """The instance has the fault. It ends by itself after its time, or immediately with --for 0."""
    url = worker.url()
    kind = arguments[0]
    text = chaos(worker, kind, "cell-0000", *arguments[1:], "--for", "300")
    assert text.startswith(f"cell-0000, generation 1 at {url.removeprefix('http://')}: {said}. ")
    assert re.search(r"ends this by itself after 300 s, at \d\d:\d\d:\d\dZ; --for 0 ends it now", text)
    assert shown in worker.components(url)["worker"][1]
    assert f"{kind} is over" in chaos(worker, kind, "cell-0000", "--for", "0")
    assert worker.components(url)["worker"] == (True, "takes events")


def test_a_component_fault_takes_the_name_of_a_component(worker: WorkerProcess) -> None:
    """The answer to an unknown name lists the names of the components."""
    url = worker.url()
    said = chaos(worker, "component", "cell-0000", "store", "--for", "60")
    assert "its component store fails, until that is restarted. " in said
    assert not worker.components(url)["store"][0]
    assert "component is over" in chaos(worker, "component", "cell-0000", "store", "--for", "0")
    wrong = chaos(worker, "component", "cell-0000", "engine", code=1)
    assert "no component 'engine'; there are worker, store, sink, hold" in wrong


def test_impossible_requests_are_refused(worker: WorkerProcess) -> None:
    """The error names the options or the cells that there are, and nothing is injected."""
    assert "give --ms, --factor or both" in chaos(worker, "slow", "cell-0000", code=2)
    assert "there is no cell cell-0009; there are: cell-0000" in chaos(worker, "hang", "cell-0009", code=2)
    assert "--for" in chaos(worker, "hang", "cell-0000", "--for", "601", code=2)
    assert worker.components(worker.url())["worker"] == (True, "takes events")


def test_crash_kills_the_instance(redis_url: str, tmp_path: Path) -> None:
    """The instance dies by SIGKILL, and a second crash finds nothing to kill."""
    with WorkerProcess(redis_url, tmp_path, chaos=True) as doomed:
        doomed.ready()
        doomed.admit(1)
        assert "killed by SIGKILL" in chaos(doomed, "crash", "cell-0000")
        assert doomed.process.wait(10) == -signal.SIGKILL
        assert "cellrouter: " in chaos(doomed, "crash", "cell-0000", code=1)


def test_an_instance_without_fault_injection_names_the_setting(redis_url: str, tmp_path: Path) -> None:
    """The instance refuses the fault and goes on working."""
    with WorkerProcess(redis_url, tmp_path) as worker:
        url = worker.url()
        worker.admit(1)
        said = chaos(worker, "crash", "cell-0000", code=1)
        assert "fault injection is off here (CELL_CHAOS); cells.chaos = true allows it" in said
        assert outcomes(post(f"{url}/v1/events", body("a"))[1]) == {0: "ok"}
