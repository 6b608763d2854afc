"""How the states of containers are read, as Docker and Podman tell them."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from cell_worker.contract.tls import TlsFolders
from router.adapters.provisioners.docker import DockerProvisioner
from router.adapters.provisioners.docker_containers import DockerConfig, container_config, how_it_ended
from tests.support.paths import REPOSITORY

OOM = "out of memory (docker.memory_mb)"


@pytest.mark.parametrize(
    ("state", "how"),
    [
        ({"Status": "exited", "ExitCode": 137, "OOMKilled": True}, f"killed: {OOM}"),
        (
            {"Status": "exited", "ExitCode": 0, "OOMKilled": True},
            f"exit code 0; a process beside the worker was killed: {OOM}",
        ),
        (
            {"Status": "stopped", "ExitCode": 143, "OOMKilled": True},
            f"killed by signal 15; a process beside the worker was killed: {OOM}",
        ),
        ({"Status": "exited", "ExitCode": 137, "OOMKilled": False}, "killed by signal 9"),
        ({"Status": "created", "ExitCode": 127, "Error": "no such file"}, "was never started (no such file)"),
        ({"Status": "initialized", "ExitCode": 0}, "was never started"),
    ],
)
def test_only_a_worker_that_was_killed_itself_ended_for_want_of_memory(state: dict[str, object], how: str) -> None:
    """The engine's mark says no more than that some process of the container was killed."""
    assert how_it_ended(state) == how


def test_a_container_sees_the_certificate_of_its_own_cell_alone() -> None:
    """Its folder is mounted read-only; whoever takes the container over finds no other cell's key."""
    folders = TlsFolders(Path("/certificates"), mutual=True)
    limits: dict[str, Any] = {"memory_mb": 64, "cpus": 1, "pids": 16, "stop_grace_s": 1}
    names: dict[str, Any] = {"engine_url": "", "image": "", "network": "", "prefix": "p", "environment": "e"}
    config: Any = partial(DockerConfig, **names, variables={}, labels={}, **limits, secret_of=str)
    secured, plain = (container_config(made, "cell-0007", 1) for made in (config(tls=folders), config()))
    assert secured["HostConfig"]["Mounts"][1:] == [
        {"Type": "bind", "Source": "/certificates/cell-0007", "Target": "/etc/cellrouter/tls", "ReadOnly": True}
    ]
    assert "CELL_TLS_CLIENT_CA=/etc/cellrouter/tls/ca.crt" in secured["Env"]
    assert len(plain["HostConfig"]["Mounts"]) == 1
    assert not any("TLS" in variable for variable in plain["Env"])


class Container:
    """A container as aiodocker shows it."""

    id = "0123456789abcdef"

    def __init__(self, state: str) -> None:
        labels = {"cellrouter.cell": "cell-0000", "cellrouter.generation": "1"}
        self._container = {"Labels": labels, "State": state, "NetworkSettings": {"Networks": {}}}
        self.removed = False

    async def show(self) -> dict[str, object]:
        return {"State": {"Status": self._container["State"], "ExitCode": 0}}

    async def log(self, **_: object) -> list[str]:
        return []

    async def delete(self, **_: object) -> None:
        self.removed = True


class Engine:
    """An engine with one container."""

    api_version = "v1.44"

    def __init__(self, container: Container) -> None:
        self.containers = self
        self._container = container

    async def list(self, **_: object) -> list[Container]:
        return [self._container]

    async def close(self) -> None:
        return


@pytest.mark.parametrize(
    ("state", "runs"),
    [
        ("running", True),
        ("paused", True),
        ("restarting", True),
        ("stopping", True),
        ("a state of a later engine", True),
        ("exited", False),
        ("stopped", False),
        ("dead", False),
        ("configured", False),
    ],
)
def test_what_has_ended_is_told_and_removed_and_what_is_unknown_is_left_alone(state: str, runs: bool) -> None:
    """Podman lists `stopped`. Of a state that nobody knows, the lease shows whether the instance is well."""
    config = DockerConfig("http://127.0.0.1:1", "i", "n", "p", "live", {}, {}, 1, 1, 1, 1, str)

    async def story() -> None:
        provisioner, container = DockerProvisioner(config), Container(state)
        await provisioner._engine.close()
        provisioner._engine = cast("Any", Engine(container))
        for _ in range(2):
            (view,) = await provisioner.observe()
            assert view.running is runs
        assert container.removed is not runs
        await provisioner.close()

    asyncio.run(story())


def test_an_instances_log_is_bounded() -> None:
    """Whatever a handler prints: the engine alone would keep all of it."""
    config = DockerConfig("", "image", "network", "prefix", "live", {}, {}, 256, 1, 100, 10, str)
    assert container_config(config, "cell-0000", 1)["HostConfig"]["LogConfig"] == {
        "Type": "json-file",
        "Config": {"max-size": "10m", "max-file": "3"},
    }


def test_the_log_of_every_service_of_the_compose_files_is_bounded() -> None:
    """A service that is added without a limit is found here."""
    bounded: set[str] = set()  # also where another file overrides it
    for file in ("docker-compose.yml", "deploy/compose/shop.yml", "deploy/compose/socket-proxy.yml"):
        services = yaml.safe_load(re.sub("!reset|!override", "", (REPOSITORY / file).read_text()))["services"]
        bounded |= {name for name, service in services.items() if "logging" in service}
        assert {name for name, service in services.items() if "image" in service} <= bounded
