"""Which servers the tests run on: with `--servers`, in CI, and on a machine without Docker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import REPOSITORY

ABOUT_THEM = "tests/integration/test_redis_registry.py::test_generations_only_grow"
NOT_ABOUT_THEM = "tests/integration/test_lost_generations.py"


def pytest_run(*arguments: str, ci: bool, path: str = "") -> subprocess.CompletedProcess[str]:
    """Run a pytest of its own; when `path` has no docker in it, the tests find no Docker."""
    environ = {**os.environ, "CI": "true" if ci else "", "PATH": path or os.environ["PATH"]}
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command, cwd=REPOSITORY, env=environ, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(("ci", "code", "outcome"), [(True, 1, "1 error"), (False, 0, "1 skipped")])
def test_without_docker_ci_fails_and_a_laptop_skips_what_needs_it(
    tmp_path: Path, *, ci: bool, code: int, outcome: str
) -> None:
    """No test may be left out of CI without anybody noticing."""
    done = pytest_run("--servers", "containers", ABOUT_THEM, ci=ci, path=str(tmp_path))
    assert done.returncode == code, done.stdout
    assert outcome in done.stdout
    assert "needs Docker: `docker info` is not installed" in done.stdout


def test_without_docker_everything_runs_on_the_embedded_servers(tmp_path: Path) -> None:
    """This needs no option."""
    done = pytest_run(ABOUT_THEM, ci=False, path=str(tmp_path))
    assert "[embedded] PASSED" in done.stdout
    assert "1 passed" in done.stdout


def test_ci_runs_tests_about_the_servers_on_both_kinds() -> None:
    """Tests that are not about the servers run once."""
    chosen = pytest_run("--collect-only", "-q", ABOUT_THEM, NOT_ABOUT_THEM, ci=True).stdout
    assert [chosen.count(kind) for kind in ("grow[embedded]", "grow[containers]")] == [1, 1]
    assert [chosen.count(kind) for kind in ("higher[embedded]", "higher[containers]")] == [1, 0]


def test_a_named_kind_of_servers_is_the_only_one() -> None:
    """This holds in CI too, and for every test."""
    for kind, other in (("embedded", "containers"), ("containers", "embedded")):
        chosen = pytest_run("--collect-only", "-q", "--servers", kind, ABOUT_THEM, NOT_ABOUT_THEM, ci=True).stdout
        assert (chosen.count(f"[{kind}]"), chosen.count(f"[{other}]")) == (2, 0)
