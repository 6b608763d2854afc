"""The image: small, of the lock file, with what three roles need and nothing to build anything with."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any, Final

import pytest

from tests.support.docker import built_image, docker
from tests.support.paths import REPOSITORY

pytestmark = pytest.mark.alone

BASE: Final = "python:3.13-slim"
MAX_BYTES: Final = 110 * 1000 * 1000
ROLES: Final = (["cellrouter", "router"], ["cellrouter", "controller"], ["cell-worker"])
TOOLS: Final = ("gcc", "cc", "g++", "c++", "clang", "ld", "as", "make", "strip", "cargo", "rustc", "git")


@pytest.fixture(scope="module")
def image() -> str:
    """As compose builds it."""
    return built_image()


def size(name: str) -> int:
    """Bytes."""
    return int(docker("image", "inspect", "--format", "{{.Size}}", name))


def config(name: str) -> dict[str, Any]:
    """How it starts."""
    found: dict[str, Any] = json.loads(docker("image", "inspect", "--format", "{{json .Config}}", name))
    return found


def inside(image: str, *command: str) -> str:
    """What a command in it writes."""
    return docker("run", "--rm", "--network", "none", "--entrypoint", command[0], image, *command[1:])


def test_it_adds_little_to_its_base(image: str, record_property: Any) -> None:
    """At most 110 MB, and all of the base's layers are in it."""
    added = size(image) - size(BASE)
    record_property("added_mb", round(added / 1e6, 1))
    assert added <= MAX_BYTES
    layers, base = [
        json.loads(docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", name)) for name in (image, BASE)
    ]
    assert layers[: len(base)] == base


def test_it_runs_as_nobody_in_particular(image: str) -> None:
    """A user of its own without a shell, who may write to one directory and /tmp only; tini passes signals on."""
    found = config(image)
    assert found["User"] == "10001:10001"
    assert found["Entrypoint"] == ["tini", "--"]
    assert found["Healthcheck"]["Test"][0] == "CMD"
    assert inside(image, "sh", "-c", "id -u; id -g").split() == ["10001", "10001"]
    script = "find / -xdev -writable -not -type l -not -path '/proc/*' -not -path '/dev/*' 2>/dev/null || true"
    assert set(inside(image, "sh", "-c", script).split()) <= {
        *("/var/lib/cellrouter", "/tmp", "/var/tmp", "/run/lock", "/dev", "/var/lock"),
    }


def test_nothing_in_it_builds_anything(image: str) -> None:
    """No compiler, no linker, no pip in what we run."""
    script = f"for tool in {' '.join(TOOLS)}; do command -v $tool || true; done; ls /opt/cellrouter/bin"
    found = inside(image, "sh", "-c", script).split()
    assert [each for each in found if each.startswith(("/", "pip"))] == []


def test_it_holds_exactly_what_is_locked(image: str) -> None:
    """Every package in the version of deploy/lock/runtime.txt, none beside them and our own."""
    script = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    found = json.loads(inside(image, "/opt/cellrouter/bin/python", "-c", script))
    names = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found.items()}
    lock = (REPOSITORY / "deploy" / "lock" / "runtime.txt").read_text()
    locked = {name: version for name, version, _ in re.findall(r"^([\w.-]+)==([\w.+!-]+)( ;.*)?", lock, re.MULTILINE)}
    assert names.pop("cellrouter")
    assert names.items() <= locked.items()
    elsewhere = {name for name in locked if re.search(rf"^{re.escape(name)}==\S+ ;", lock, re.MULTILINE)}
    assert locked.keys() - names.keys() <= elsewhere  # of other Pythons or systems


@pytest.mark.parametrize("role", ROLES, ids=" ".join)
def test_each_role_starts_and_names_what_it_lacks(image: str, role: list[str]) -> None:
    """Without a secret none of them runs; the status of the role is that of the container."""
    done = subprocess.run(
        ["docker", "run", "--rm", "--network", "none", "--read-only", image, *role],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in {1, 2}
    assert "SECRET" in done.stderr


def test_a_signal_reaches_the_role(image: str) -> None:
    """SIGTERM to the container ends a controller in order, though it is not its first process."""
    name = f"cellrouter-test-signal-{id(image)}"
    variables = {"CELLROUTER_SECRET": "a-secret-for-tests", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "a"}
    words = [word for key, value in variables.items() for word in ("--env", f"{key}={value}")]
    command = ["cellrouter", "controller"]
    script = "until docker logs $0 2>&1 | grep -q started; do sleep 0.2; done"
    settings = ["--env", "CELLROUTER_CELLS_PROVISIONER=external", "--env", "CELLROUTER_REDIS_URL=redis://127.0.0.1:1/0"]
    try:
        docker("run", "--detach", "--name", name, "--network", "none", *words, *settings, image, *command)
        subprocess.run(["bash", "-c", script, name], timeout=60, check=True)
        docker("stop", "--time", "20", name)
        assert docker("inspect", "--format", "{{.State.ExitCode}}", name).strip() == "0"
    finally:
        docker("rm", "--force", name, check=False)
