"""An environment in Docker: the whole of `docker-compose.yml`, as a project of its own.

Its containers, volumes, networks, Redis and AWS are the project's. Docker chooses the ports, so that they are nobody
else's.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from router.core.environments import preset
from router.demo.environments.local import EnvironmentFailedError

PROJECT: Final = "cellrouter-"
FILE: Final = Path("docker-compose.yml")
_PORTS: Final = ("ROUTER", "ROUTER_1", "CONTROLLER", "CONTROLLER_1", "LOCALSTACK", "PROMETHEUS", "GRAFANA")
_COUNTED: Final = re.compile(r"([a-z]+)\((\d+)\)")  # docker's `exited(1)` looks like an exit code


def variables_of(name: str, like: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that docker compose puts into its file: all that tells this environment from another."""
    found = preset(name, like)
    ours = {key: value for key, value in environ.items() if not key.startswith(("CELLROUTER_", "COMPOSE_"))}
    image = {"CELLROUTER_IMAGE": environ["CELLROUTER_IMAGE"]} if "CELLROUTER_IMAGE" in environ else {}
    return {
        **ours,
        **image,
        **{f"{service}_PORT": "0" for service in _PORTS},
        "COMPOSE_PROFILES": "localstack",
        "COMPOSE_PROJECT_NAME": PROJECT + name,
        "CELLROUTER_ENVIRONMENT": name,
        "CELLROUTER_CELLS_SIDE_EFFECTS": str(found.side_effects).lower(),
        "CELLROUTER_CELLS_CHAOS": str(found.chaos).lower(),
        **({"CELLROUTER_CELLS_HANDLER": found.handler} if found.handler else {}),
    }


class ComposeEnvironment:
    """One environment's project. Every call raises EnvironmentFailedError when docker compose refuses."""

    def __init__(self, name: str, file: Path, environ: Mapping[str, str], like: str = "") -> None:
        if not file.is_file():
            raise EnvironmentFailedError(
                f"{file}: there is no such file. Run this in a checkout of cellrouter, or name its docker-compose.yml "
                "with --compose-file"
            )
        self._name = name
        self._file = file
        self._environ = variables_of(name, like, environ)

    def up(self) -> None:
        """Build the image where it is missing, start all of it and wait until it is healthy."""
        self._run("up", "--build", "--detach", "--wait")

    def check(self, *options: str) -> None:
        """Refuse while events are left; the environment says so itself, since only it has its secret."""
        self._run("run", "--rm", "--no-deps", "init", "cellrouter", "destroy", "--check", *options)

    def down(self) -> None:
        """Remove its containers, networks and volumes, and nothing else."""
        self._run("--profile", "*", "down", "--volumes", "--remove-orphans")

    def _run(self, *arguments: str) -> None:
        project = ("--file", str(self._file), "--project-name", PROJECT + self._name)
        done = _docker(["compose", *project, *arguments], self._environ, quiet=False)
        if done.returncode:
            raise EnvironmentFailedError(
                f"docker compose {arguments[0]} of {PROJECT}{self._name} ended with {done.returncode}"
            )


def states(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the state of each environment that is a project here, by its name. Raises EnvironmentFailedError."""
    done = _docker(["compose", "ls", "--all", "--format", "json"], environ, quiet=True)
    if done.returncode:
        raise EnvironmentFailedError(f"docker compose ls: {done.stderr.decode(errors='replace').strip()[-300:]}")
    return projects_in(done.stdout)


def projects_in(listed: bytes) -> dict[str, str]:
    """Read the environments out of what `docker compose ls` prints. Raises EnvironmentFailedError."""
    try:
        found: list[dict[str, Any]] = json.loads(listed or b"[]")
        states = {str(each["Name"]): _COUNTED.sub(r"\2 \1", str(each["Status"])) for each in found}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise EnvironmentFailedError(f"docker compose ls can't be read: {error}") from error
    return {name.removeprefix(PROJECT): state for name, state in states.items() if name.startswith(PROJECT)}


def _docker(arguments: Sequence[str], environ: Mapping[str, str], *, quiet: bool) -> subprocess.CompletedProcess[bytes]:
    output = subprocess.PIPE if quiet else None
    try:
        return subprocess.run(  # noqa: S603 - the user's own docker, with arguments that are no shell's
            ["docker", *arguments],  # noqa: S607 - wherever the user has it
            env={**os.environ, **environ} if quiet else dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
    except OSError as error:
        raise EnvironmentFailedError(f"docker can't be run: {error.strerror}") from error
