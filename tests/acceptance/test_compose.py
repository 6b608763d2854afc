"""`docker compose up --build` and `docker compose run --rm demo`, as a user types them."""

from __future__ import annotations

import json
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from router.demo.cloudtrail import generate
from router.demo.ledger import total
from tests.docker import REPOSITORY, Compose, require_docker

FILES: Final = 60
ACCOUNTS: Final = 20
SEED: Final = 7  # the demo's own
OURS: Final = ("router", "controller", "cell-0", "cell-1", "cell-2", "cell-3")
UID: Final = "10001"
POLLS: Final = 300
POLL_S: Final = 0.2


@pytest.fixture(scope="module")
def system() -> Iterator[Compose]:
    """The system as `up --build` starts it; afterwards every process has ended in order and nothing is left."""
    require_docker()
    compose = Compose()
    try:
        compose("up", "--build", "--detach")
        yield compose
        compose("stop")
        ended = [json.loads(line) for line in compose("ps", "--all", "--format", "json").splitlines()]
        assert {each["Service"]: each["ExitCode"] for each in ended if each["Service"] in OURS} == dict.fromkeys(
            OURS, 0
        )
    finally:
        words = compose("ps", "--all", check=False), compose("logs", "--tail", "20", check=False)
        print(*words)  # noqa: T201 - pytest shows it after a failure
        compose("--profile", "demo", "down", "--volumes")
        assert compose.left() == []


def test_the_compose_file_has_no_fault() -> None:
    """Not even a warning, without any environment variable set and with the demo's profile."""
    require_docker()
    done = subprocess.run(
        ["docker", "compose", "--profile", "demo", "config", "--quiet"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_two_runs_have_a_clean_ledger_and_prometheus_counts_them(system: Compose) -> None:
    """Each run loses, doubles and moves nothing though a cell is killed; the router's own count agrees."""
    expected = total(log_file.expected for log_file in generate(FILES, ACCOUNTS, SEED))
    for _ in range(2):
        ledger = demo(system, "--files", str(FILES), "--accounts", str(ACCOUNTS), "--seconds", "6")
        assert {key: ledger[key] for key in ("sent", "processed", "duplicates", "lost", "dead_lettered")} == {
            "sent": FILES,
            "processed": FILES,
            "duplicates": 0,
            "lost": 0,
            "dead_lettered": 0,
        }
        assert ledger["keys_moved"] == 0
        assert ledger["replaced_in_s"] > 0
        assert ledger["findings"] == expected
    answered = 'cellrouter_events_answered_total{outcome="ok"}'
    until(lambda: number(system, f"sum({answered})") >= 2 * FILES, "every event is counted as answered")
    repeated = number(
        system, "sum(cellrouter_events_duplicate_total)"
    )  # a killed cell's, answered by the next instance
    assert number(system, f"sum({answered})") - repeated <= 2 * FILES


def test_prometheus_scrapes_every_process_and_its_rules_hold(system: Compose) -> None:
    """`up` is 1 for the router, the controller and all four cells; promtool's tests of the alerts pass."""
    want = {f"{service}:8080" for service in OURS}
    until(lambda: {each["metric"]["instance"] for each in query(system, "up == 1")} == want, "everything is scraped")
    until(lambda: number(system, "sum(cellrouter_controller_leads)") == 1, "one controller leads")
    system("exec", "-T", "prometheus", "promtool", "test", "rules", "/etc/prometheus/rules_test.yml")


@pytest.mark.parametrize("service", OURS)
def test_a_container_has_no_rights(system: Compose, service: str) -> None:
    """Not root, no capability, nothing to gain by setuid, and nowhere to write but its volume and /tmp."""
    lines = system("exec", "-T", service, "cat", "/proc/1/status").splitlines()
    status = dict(line.split(":", 1) for line in lines if ":" in line)
    assert set(status["Uid"].split()) == {UID}
    assert int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"].strip() == "1"
    said = system("exec", "-T", service, "sh", "-c", "touch /opt/x 2>&1 || true; touch /tmp/x && echo written")
    assert "Read-only file system" in said
    assert "written" in said


def demo(system: Compose, *arguments: str) -> dict[str, Any]:
    """Run it to its end; the ledger, which it writes as the last thing."""
    output = system("run", "--rm", "-T", "demo", *arguments, "--json", "/dev/stdout")
    ledger: dict[str, Any] = json.loads(output[output.index("\n{\n") :])
    return ledger


def query(system: Compose, expression: str) -> list[dict[str, Any]]:
    """What Prometheus has; nothing while it can't be reached."""
    url = f"http://{system.address('prometheus', 9090)}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            found: list[dict[str, Any]] = json.load(reply)["data"]["result"]
    except OSError:
        return []
    return found


def number(system: Compose, expression: str) -> float:
    """The value of a sum; 0 while there is none."""
    return sum(float(each["value"][1]) for each in query(system, expression))


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for it, not for ever."""
    pause = threading.Event()
    for _ in range(POLLS):
        if holds():
            return
        pause.wait(POLL_S)
    pytest.fail(f"not within {POLLS * POLL_S:g} s: {what}")
