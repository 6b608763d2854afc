"""One compose project for all tests that need a running one: starting it costs as much as they do."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.support.compose_world import PROCESSES, ComposeSystem, Load
from tests.support.docker import Compose, docker, require_docker


@pytest.fixture(scope="package")
def system() -> Iterator[ComposeSystem]:
    """The system as `up --build` starts it. At the end every process must end in order, and nothing may be left."""
    require_docker()
    compose = Compose()
    made = ComposeSystem(compose)
    try:
        compose("build", "--quiet")
        began = time.monotonic()  # noqa: TID251 - how long a user waits
        compose("up", "--build", "--detach")
        made.serving()
        made.ready_s = time.monotonic() - began  # noqa: TID251 - how long a user waits
        yield made
        compose("stop")
        ended = [json.loads(line) for line in compose("ps", "--all", "--format", "json").splitlines()]
        codes = {each["Name"]: each["ExitCode"] for each in ended if each["Service"] in (*PROCESSES, "cell")}
        assert len(codes) >= len(PROCESSES) + 4
        assert codes == dict.fromkeys(codes, 0)
    finally:
        words = compose("ps", "--all", check=False), compose("logs", "--tail", "20", check=False)
        print(*words)  # noqa: T201 - pytest shows it after a failure
        compose("down")
        left = compose.left("container", "network")
        compose("--profile", "*", "down", "--volumes")
        assert (left, compose.left("container", "network", "volume")) == ([], [])


@pytest.fixture(scope="module")
def load(system: ComposeSystem) -> Iterator[Load]:
    """A steady load for all of a module's faults."""
    with Load(f"http://{system.compose.address('localstack', 4566)}") as running:
        yield running


@pytest.fixture
def mended() -> Iterator[list[tuple[str, ...]]]:
    """Docker commands that undo a fault, run at the end of the test even if it fails."""
    commands: list[tuple[str, ...]] = []
    yield commands
    for command in commands:
        docker(*command, check=False)
