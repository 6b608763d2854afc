"""Docker for tests: whether it is there, and a compose project of a test's own."""

from __future__ import annotations

import functools
import os
import subprocess
import uuid
from typing import Final

import pytest

from tests.support.paths import REPOSITORY

LABEL: Final = "com.docker.compose.project"
PORTS: Final = ("LOCALSTACK", "ROUTER", "ROUTER_1", "CONTROLLER", "CONTROLLER_1", "PROMETHEUS", "GRAFANA")
IMAGE_VARIABLE: Final = "CELLROUTER_IMAGE"
IMAGE: Final = os.environ.get(IMAGE_VARIABLE, "cellrouter:dev")  # as the compose file reads it
ENGINE: Final = ["docker", "info"]
LIMIT_S: Final = 600.0
"""Seconds that one command may take: a first build downloads everything."""


def require_docker() -> None:
    """Skip the test where Docker or its compose isn't; with CI=true fail it instead, so that CI skips nothing."""
    require_engine()
    _require(["docker", "compose", "version"])


def require_engine() -> None:
    """Skip or fail the test in the same way where no Docker engine answers; compose may be missing."""
    _require(ENGINE)


@functools.cache
def has_engine() -> bool:
    """Tell whether a Docker engine answers."""
    return not _fault(ENGINE)


def _require(command: list[str]) -> None:
    if fault := _fault(command):
        message = f"needs Docker: `{' '.join(command)}` {fault}"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)


def docker(*arguments: str, environ: dict[str, str] | None = None, check: bool = True, both: bool = False) -> str:
    """Run a docker command; returns what it wrote to stdout, with `both` to stderr too."""
    done = subprocess.run(
        ["docker", *arguments],
        cwd=REPOSITORY,
        env=os.environ | {IMAGE_VARIABLE: IMAGE} | (environ or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout}{done.stderr}"
    return done.stdout + (done.stderr if both else "")


def built_image() -> str:
    """Build the image as compose does, with the engine's cache, and return its name."""
    require_docker()
    docker("compose", "build", "--quiet")
    return IMAGE


class Compose:
    """The repository's compose file under a project name and on host ports of its own."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self.project = f"cellrouter-test-{uuid.uuid4().hex[:8]}"
        # Port 0: any that is free, so that a developer's own `docker compose up` is not in the way.
        self._environ = {f"{name}_PORT": "0" for name in PORTS}

    def __call__(self, *arguments: str, check: bool = True) -> str:
        """Run a compose command; returns what it wrote to stdout."""
        return docker(
            "compose", "--project-name", self.project, *self._options, *arguments, environ=self._environ, check=check
        )

    def address(self, service: str, port: int) -> str:
        """Return the address on this host of a service's published port."""
        return self("port", service, str(port)).strip()

    def left(self, *kinds: str) -> list[str]:
        """List the ids of the project's objects of these kinds: container, volume, network."""
        by_label = ("--filter", f"label={LABEL}={self.project}", "--quiet")
        every = {"container": ["--all"]}
        return [found for kind in kinds for found in docker(kind, "ls", *every.get(kind, []), *by_label).split()]


def _fault(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        return "is not installed"
    except subprocess.TimeoutExpired:
        return "does not answer"
    return f"says {done.stderr.strip()}" if done.returncode else ""
