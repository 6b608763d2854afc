"""The image is small, has the locked packages and what three roles need, and has no build tools."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any, Final

import pytest

from tests.support.docker import built_image, docker
from tests.support.keys import SECRET
from tests.support.paths import REPOSITORY

pytestmark = pytest.mark.alone

BASE: Final = "python:3.13-slim"
MAX_BYTES: Final = 110 * 1000 * 1000
ROLES: Final = (["cellrouter", "router"], ["cellrouter", "controller"], ["cell-worker"])
TOOLS: Final = ("gcc", "cc", "g++", "c++", "clang", "ld", "as", "make", "strip", "cargo", "rustc", "git")


@pytest.fixture(scope="module")
def image() -> str:
    """Build the image as compose does, and return its name."""
    return built_image()


def size(name: str) -> int:
    """Return the size of an image in bytes."""
    return int(docker("image", "inspect", "--format", "{{.Size}}", name))


def config(name: str) -> dict[str, Any]:
    """Return how an image starts."""
    found: dict[str, Any] = json.loads(docker("image", "inspect", "--format", "{{json .Config}}", name))
    return found


def inside(image: str, *command: str) -> str:
    """Run a command in a container of the image, and return what it writes."""
    return docker("run", "--rm", "--network", "none", "--entrypoint", command[0], image, *command[1:])


def test_the_image_adds_little_to_its_base(image: str, record_property: Any) -> None:
    """It adds at most 110 MB, and all of the base's layers are in it."""
    added = size(image) - size(BASE)
    record_property("added_mb", round(added / 1e6, 1))
    assert added <= MAX_BYTES
    layers, base = [
        json.loads(docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", name)) for name in (image, BASE)
    ]
    assert layers[: len(base)] == base


def test_the_image_runs_as_an_unprivileged_user(image: str) -> None:
    """The user has no shell and may write only to its two directories and /tmp; tini passes signals on."""
    found = config(image)
    assert found["User"] == "10001:10001"
    assert found["Entrypoint"] == ["tini", "--"]
    assert found["Healthcheck"]["Test"][0] == "CMD"
    assert inside(image, "sh", "-c", "id -u; id -g").split() == ["10001", "10001"]
    script = "find / -xdev -writable -not -type l -not -path '/proc/*' -not -path '/dev/*' 2>/dev/null || true"
    assert set(inside(image, "sh", "-c", script).split()) <= {
        *("/var/lib/cellrouter", "/etc/cellrouter", "/tmp", "/var/tmp", "/run/lock", "/dev", "/var/lock"),
    }


def test_the_image_has_no_build_tools(image: str) -> None:
    """It has no compiler and no linker, and what we run has no pip."""
    script = f"for tool in {' '.join(TOOLS)}; do command -v $tool || true; done; ls /opt/cellrouter/bin"
    found = inside(image, "sh", "-c", script).split()
    assert [each for each in found if each.startswith(("/", "pip"))] == []


def test_the_image_has_exactly_the_locked_packages(image: str) -> None:
    """Every package has the version of deploy/lock/runtime.txt, and besides them there is only our own."""
    script = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    found = json.loads(inside(image, "/opt/cellrouter/bin/python", "-c", script))
    names = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found.items()}
    lock = (REPOSITORY / "deploy" / "lock" / "runtime.txt").read_text()
    locked = {name: version for name, version, _ in re.findall(r"^([\w.-]+)==([\w.+!-]+)( ;.*)?", lock, re.MULTILINE)}
    assert names.pop("cellrouter")
    assert names.items() <= locked.items()
    elsewhere = {name for name in locked if re.search(rf"^{re.escape(name)}==\S+ ;", lock, re.MULTILINE)}
    assert locked.keys() - names.keys() <= elsewhere  # for other Pythons or operating systems


@pytest.mark.parametrize("role", ROLES, ids=" ".join)
def test_each_role_starts_and_names_what_it_lacks(image: str, role: list[str]) -> None:
    """Without a secret no role runs, and the container's exit status is that of the role."""
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
    """SIGTERM to the container ends a controller in order, though it is not the container's first process."""
    name = f"cellrouter-test-signal-{id(image)}"
    variables = {"CELLROUTER_SECRET": SECRET, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "a"}
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
