"""What a command imports before it does anything: a person waits for all of it."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from typing import Any, Final

import pytest
import typer
from typer.main import get_command

from router.cli.main import app
from router.cli.panels import LISTED
from tests.support.keys import SECRET
from tests.support.paths import REPOSITORY

STARTED: Final = """
import atexit, sys
from router.__main__ import main
packages = sys.argv.pop().split(",")
atexit.register(lambda: print("", *(name for name in packages if name in sys.modules), sep="\\n", file=sys.stderr))
main()
"""
HEAVY: Final = frozenset(
    {"aiobotocore", "aiohttp", "asyncio", "botocore", "fastapi", "hiredis", "httptools", "jmespath", "msgspec"}
    | {"prometheus_client", "psutil", "pydantic", "re2", "redis", "rich", "starlette", "structlog", "uvicorn", "uvloop"}
    | {"xxhash", "zstandard"}
)
"""All that the project depends on but typer; and asyncio, which takes as long."""
OF_SERVERS: Final = {"aiobotocore", "aiohttp", "botocore", "fastapi", "prometheus_client", "starlette", "uvicorn"}


def imported(*arguments: str, code: int = 0) -> set[str]:
    """Run a command to its end in a process of its own, and return the packages that it has imported."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "XDG_STATE_HOME": "/nowhere"}
    environ |= {"CELLROUTER_SECRET": SECRET, "CELLROUTER_REDIS_URL": "redis://127.0.0.1:1"} if code else {}
    command = [sys.executable, "-c", STARTED, *arguments, ",".join(HEAVY)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return set(done.stderr.rpartition("\n\n")[2].split())


@pytest.mark.parametrize("arguments", [("--help",), ("version",)])
def test_help_and_version_import_nothing_that_takes_long(arguments: tuple[str, ...]) -> None:
    """A command is imported when it is called. That it has values, typer itself reads by pydantic."""
    assert imported(*arguments) - {"pydantic"} == set()
    assert "pydantic" not in imported("--help")


def test_a_look_at_the_registry_imports_nothing_of_servers_and_aws() -> None:
    """Redis is asked, and nothing else."""
    found = imported("where", "acme", code=1)
    assert "redis" in found
    assert found & OF_SERVERS == set()


def test_the_help_lists_every_command_that_there_is_in_a_line_of_80_columns() -> None:
    """Where a command is said to be, there is a function or a group of commands; and no line is broken."""
    root: Any = get_command(app)
    for listed in (each for part in LISTED.values() for each in part):
        module, _, name = listed.place.partition(":")
        found = getattr(import_module(f"router.cli.{module}"), name)
        assert callable(found)
        command = root.get_command(None, listed.name)
        assert command.help, listed.name
        assert isinstance(found, typer.Typer) == hasattr(command, "commands"), listed.name
    context = typer.Context(root, info_name="cellrouter", terminal_width=80)
    lines = [line.split(maxsplit=1) for line in root.get_help(context).splitlines()]
    assert {(each.name, each.about) for part in LISTED.values() for each in part} <= {
        tuple(line) for line in lines if len(line) > 1
    }
