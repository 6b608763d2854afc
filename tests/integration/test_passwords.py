"""A password in a setting, valid or not, stands in no output: of check-config, of a start that fails, of a log."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel

from cell_worker.contract.addresses import without_passwords
from cell_worker.settings import WorkerSettings
from router.settings import Settings, check
from tests.support.keys import SECRET
from tests.support.paths import REPOSITORY

pytestmark = pytest.mark.one_kind  # it is about what processes print

PASSWORD: Final = "Xy7hunter2Zq"
BASE: Final = {"CELLROUTER_SECRET": SECRET}
NASTY: Final = st.text("/?#@:%[]{}|\\^~!$&()*+,;=-_.aZ09", max_size=8)
"""What a generated password may have before and after the part that is looked for."""


def keys() -> Iterator[tuple[str, ...]]:
    """Every setting, by its section and its name."""
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from ((name, key) for key in kind.model_fields)
        else:
            yield (name,)


def said_by_check(key: tuple[str, ...], value: str, path: Path) -> str:
    """All that is said of a setting with this value, in a variable and in the file."""
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    in_section = f"[{key[0]}]\n" if len(key) > 1 else ""
    path.write_text(f'{in_section}{key[-1]} = "{quoted}"\n')
    variable = {f"CELLROUTER_{'_'.join(key).upper()}": value}
    said = ""
    for environ in (BASE | variable, BASE | {"CELLROUTER_CONFIG": str(path)}):
        settings, faults = check(environ)
        said += "\n".join(faults)
        if settings is not None and ("url" in key[-1] or key == ("secret",)):
            said += repr(settings) + str(settings)
    path.write_text(f"{in_section}{key[-1]} = {value}\n")  # no TOML
    return said + "\n".join(check(BASE | {"CELLROUTER_CONFIG": str(path)})[1])


@pytest.mark.parametrize("key", list(keys()), ids=".".join)
def test_no_fault_of_the_configuration_shows_what_is_set(key: tuple[str, ...], tmp_path: Path) -> None:
    """Whatever the setting is for: somebody may have put a password there, alone or in an address."""

    @hypothesis_settings(
        max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True
    )
    @given(
        before=NASTY, after=NASTY, shape=st.sampled_from(["{}", "rdis://u:{}@h", "redis://u:{}@h:1/0", "http://u:{}@h"])
    )
    def holds(before: str, after: str, shape: str) -> None:
        value = shape.format(before + PASSWORD + after)
        assert PASSWORD not in said_by_check(key, value, tmp_path / "c.toml")

    holds()


@pytest.mark.parametrize(
    "shape", ["rdis://u:{}@h", "redis://u:a/{}@h", "redis://u:{}@h:x", "redis://u:#{}@127.0.0.1:1"]
)
@pytest.mark.parametrize("command", ["check-config", "router", "controller", "worker"])
def test_no_start_shows_a_password_of_redis(command: str, shape: str) -> None:
    """Neither a fault, nor a traceback, nor the last words of a worker."""
    assert PASSWORD not in output(command, {"CELLROUTER_CELLS_REDIS_URL": shape, "CELLROUTER_REDIS_URL": shape})


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("controller", "DOCKER_HOST"),
        ("router", "CELLROUTER_CONFIG"),
        ("check-config", "CELLROUTER_CONFIG"),
        ("router", "CELLROUTER_API_HOST"),
        ("router", "CELLROUTER_AWS_ENDPOINT_URL"),
        *[
            ("worker", f"CELL_{field.upper()}")
            for field in WorkerSettings.model_fields
            if field not in ("id", "secret")
        ],
    ],
)
def test_no_start_shows_a_password_of_any_address(command: str, name: str) -> None:
    """An address may stand where none belongs, and libraries print what they can't use."""
    assert PASSWORD not in output(command, {name: "http://u:{}@h.invalid", "CELLROUTER_CELLS_PROVISIONER": "docker"})


def output(command: str, variables: Mapping[str, str]) -> str:
    """Start a process that can't go on, with the password filled in, and return all that it has printed."""
    arguments = ["-m", "cell_worker"] if command == "worker" else ["-m", "router", command]
    environ: dict[str, Any] = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        **BASE,
        "CELLROUTER_REDIS_URL": "redis://127.0.0.1:1",
        "CELLROUTER_API_PORT": "0",
        "CELL_ID": "cell-0000",
        "CELL_SECRET": PASSWORD * 2,
        "CELL_HANDLER": "no.such:handler",
        "CELL_REDIS_URL": "redis://127.0.0.1:1",
        **{name: value.format(PASSWORD) for name, value in variables.items()},
    }
    if command == "worker":
        environ["CELL_REDIS_URL"] = environ.get("CELLROUTER_CELLS_REDIS_URL", environ["CELL_REDIS_URL"])
    try:
        done = subprocess.run(
            [sys.executable, *arguments], env=environ, capture_output=True, text=True, timeout=2, check=False
        )
    except subprocess.TimeoutExpired as running:
        return f"{running.stdout!r}{running.stderr!r}"
    assert done.returncode != 0 or command == "check-config"
    return done.stdout + done.stderr


def test_a_process_masks_what_libraries_print() -> None:
    """Logs, warnings and tracebacks all go through its standard streams."""
    address = f"http://u:{PASSWORD}@h"
    code = f"""
import warnings, logging
from cell_worker.contract.process import configure_logs, guard_streams
guard_streams()
configure_logs("json")
print("{address}")
warnings.warn("{address}")
logging.getLogger("library").error("{address}")
raise ValueError("{address}")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert (done.stdout + done.stderr).count("@h") >= 4, done.stderr
    assert PASSWORD not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://u:p@h:1/0", "redis://…@h:1/0"),
        ("redis:/u:p@h", "redis:/…@h"),
        ("at http://u:p/a@b@h/x, http://u:p@h", "at http://…@h/x, http://…@h"),
        ("nobody@example.org", "nobody@example.org"),
        ("https://h/path", "https://h/path"),
    ],
)
def test_only_logins_are_masked(text: str, shown: str) -> None:
    """The rest of an address helps to find what is wrong."""
    assert without_passwords(text) == shown
