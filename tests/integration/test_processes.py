"""Router and controller as processes of their own: what they answer, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from tests.support.aio import run, until
from tests.support.keys import SECRET
from tests.support.paths import REPOSITORY
from tests.support.servers import free_port

pytestmark = pytest.mark.one_kind  # about starting and stopping, which is the same on all servers


@contextmanager
def process(
    role: str, redis_url: str, aws_endpoint: str, directory: Path
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a router or controller that is ready; kill it at the end if it still runs."""
    port = free_port()
    environ = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "CELLROUTER_ENVIRONMENT": directory.name.replace("_", "-").lower()[:40],
        "CELLROUTER_SECRET": SECRET,
        "CELLROUTER_REDIS_URL": redis_url,
        "CELLROUTER_AWS_ENDPOINT_URL": aws_endpoint,
        "CELLROUTER_API_PORT": str(port),
        "CELLROUTER_SOURCE_WAIT_S": "1",
        "CELLROUTER_CELLS_PROVISIONER": "external",
        "CELLROUTER_CELLS_COUNT": "2",
    }
    command = [sys.executable, "-m", "router"]
    subprocess.run([*command, "init"], env=environ, check=True, timeout=60)
    with subprocess.Popen([*command, role], env=environ, stderr=subprocess.PIPE, text=True, cwd=directory) as child:
        try:
            url = f"http://127.0.0.1:{port}"

            async def answers() -> bool:
                return get(f"{url}/healthz")[0] == 200

            run(until(answers, f"the {role} answers"))
            yield child, url
        finally:
            child.kill()


def get(url: str) -> tuple[int, str]:
    """Return the status and the body of an answer; status 0 when there is none."""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


@pytest.mark.parametrize("role", ["router", "controller"])
def test_every_page_answers_and_a_sigterm_ends_with_0(
    role: str, redis_url: str, aws_endpoint: str, tmp_path: Path
) -> None:
    """All pages answer; the log has a JSON object in each line, and says how the process ended."""
    with process(role, redis_url, aws_endpoint, tmp_path) as (child, url):
        assert f'"role":"{role}"' in get(f"{url}/healthz")[1]
        expected = (503, "no slot map read yet") if role == "router" else (200, '"ready":true')

        async def says_so() -> bool:
            status, body = get(f"{url}/readyz")
            return (status, expected[1] in body) == (expected[0], True)

        run(until(says_so, f"/readyz says {expected}"))
        assert "# TYPE cellrouter_" in get(f"{url}/metrics")[1]
        assert get(f"{url}/cells")[0] == 200
        assert get(f"{url}/audit?limit=5")[0] == 200
        assert "<title>cellrouter</title>" in get(f"{url}/")[1]
        child.send_signal(signal.SIGTERM)
        assert child.wait(20) == 0
        assert child.stderr is not None
        lines = [msgspec.json.decode(line) for line in child.stderr.read().splitlines()]
        assert lines[-1]["event"] == "stopped"


def test_a_port_that_is_taken_ends_the_process(redis_url: str, aws_endpoint: str, tmp_path: Path) -> None:
    """The exit code is that of bad settings, and the last words say why: no process goes on without its API."""
    with process("controller", redis_url, aws_endpoint, tmp_path) as (_, url):
        environ = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "CELLROUTER_SECRET": SECRET,
            "CELLROUTER_REDIS_URL": redis_url,
            "CELLROUTER_AWS_ENDPOINT_URL": aws_endpoint,
            "CELLROUTER_API_PORT": url.rsplit(":", 1)[1],
            "CELLROUTER_CELLS_PROVISIONER": "external",
        }
        done = subprocess.run(
            [sys.executable, "-m", "router", "controller"],
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2
        assert "api.port: can't listen on 127.0.0.1" in done.stderr
        assert "Address already in use" in done.stderr


def test_a_data_directory_that_is_none_ends_the_controller(redis_url: str, tmp_path: Path) -> None:
    """Before it does anything, with the exit code of bad settings and a word on which of them is wrong."""
    (tmp_path / "data").touch()
    environ = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "CELLROUTER_SECRET": SECRET,
        "CELLROUTER_REDIS_URL": redis_url,
        "CELLROUTER_API_PORT": "0",
        "CELLROUTER_CELLS_DATA_DIR": str(tmp_path / "data"),
    }
    command = [sys.executable, "-m", "router", "controller"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "cells.data_dir: it can't hold the cells' process ids and logs" in done.stderr
    assert "Traceback" not in done.stderr
