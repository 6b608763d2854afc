"""The command line as a process: `doctor` on real servers, pipes that are closed early, and Ctrl-C at any moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from typing import Final

import pytest

from tests.support.keys import SECRET
from tests.support.paths import REPOSITORY

pytestmark = pytest.mark.one_kind  # about the command

COMMAND = [sys.executable, "-m", "router"]


def environ(redis_url: str, aws_endpoint: str) -> dict[str, str]:
    """The variables of an environment of this test alone, in which nothing is made yet."""
    name = f"d{uuid.uuid4().hex[:8]}"
    return {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "CELLROUTER_SECRET": SECRET,
        "CELLROUTER_ENVIRONMENT": name,
        "CELLROUTER_REDIS_URL": redis_url,
        "CELLROUTER_AWS_ENDPOINT_URL": aws_endpoint,
        "CELLROUTER_SOURCE_QUEUE": f"{name}-source",
        "CELLROUTER_SOURCE_DEAD_LETTER_QUEUE": f"{name}-dead",
        "CELLROUTER_SOURCE_QUARANTINE_QUEUE": f"{name}-quarantine",
    }


def test_doctor_finds_what_is_missing_and_is_content_once_it_is_there(redis_url: str, aws_endpoint: str) -> None:
    """Before `init` the queues are missing; after it only what runs is: nobody leads, and no router reports."""
    variables = environ(redis_url, aws_endpoint)

    def doctor() -> dict[str, str]:
        done = subprocess.run(
            [*COMMAND, "doctor", "--json"], env=variables, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 1, done.stdout + done.stderr
        return {finding["what"]: finding["state"] for finding in json.loads(done.stdout)}

    queues = ("queue of source", "queue of dead letters", "queue of quarantine", "redrive")
    before = doctor()
    assert [before[what] for what in ("credentials", "Redis", "clock", *queues)] == ["ok"] * 3 + ["WRONG"] * 4
    subprocess.run([*COMMAND, "init"], env=variables, check=True, capture_output=True, timeout=60)
    after = doctor()
    assert {what for what, state in after.items() if state == "WRONG"} == {"leader", "routers", "cells"}
    assert [after[what] for what in queues] == ["ok"] * 4


@pytest.mark.parametrize("command", [("--help",), ("version",), ("policy", "show")], ids=lambda words: words[0])
def test_a_pipe_that_is_closed_early_gets_no_traceback(redis_url: str, command: tuple[str, ...]) -> None:
    """As by `| head -1`, whichever way a command prints."""
    variables = environ(redis_url, "http://127.0.0.1:1") | {"PYTHONUNBUFFERED": "1"}
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [*COMMAND, *command], env=variables, stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False
        )
    finally:
        os.close(writer)
    assert done.stderr == b""


INTERRUPTED: Final = """
import importlib.abc, os, signal, sys
module = sys.argv.pop()

class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, *_):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from router.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["router.cli.main", "router.cli.look.status", "router.settings", "redis"])
def test_ctrl_c_ends_a_command_without_a_traceback(module: str) -> None:
    """Also while it only starts, and imports this module, when nothing is there yet that could say so."""
    variables = environ("redis://127.0.0.1:1", "http://127.0.0.1:1")
    command = [sys.executable, "-c", INTERRUPTED, "watch", module]
    done = subprocess.run(command, env=variables, capture_output=True, timeout=60, check=False)
    assert b"Traceback" not in done.stderr, done.stderr
    assert done.returncode in (0, 130, -signal.SIGINT)


def test_what_is_logged_is_no_part_of_the_answer() -> None:
    """Without credentials for AWS the log says so, and what is printed is JSON nevertheless."""
    variables = environ("redis://127.0.0.1:1", "http://127.0.0.1:1") | {"AWS_EC2_METADATA_DISABLED": "true"}
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        variables.pop(name, None)
    command = [*COMMAND, "doctor", "--json"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
    found = {finding["what"]: finding["state"] for finding in json.loads(done.stdout)}
    assert (found["Redis"], found["credentials"]) == ("WRONG", "WRONG")
    assert "AWS credentials can't be had" in done.stderr
