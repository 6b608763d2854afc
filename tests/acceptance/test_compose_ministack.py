"""`docker compose --profile ministack up`: MiniStack in LocalStack's place."""

from __future__ import annotations

import json

import pytest

from tests.support.compose_world import CELLS, PROCESSES, ComposeSystem, Load
from tests.support.docker import Compose, require_docker

pytestmark = pytest.mark.alone


def test_ministack_takes_localstacks_place() -> None:
    """The job and its ledger are the same, and LocalStack isn't started. Afterwards nothing is left."""
    require_docker()
    compose = Compose("--profile", "ministack")
    system = ComposeSystem(compose)
    try:
        compose("up", "--build", "--detach")
        system.serving()
        lines = compose("ps", "--all", "--format", "json").splitlines()
        services = {json.loads(line)["Service"] for line in lines}
        assert services == {*PROCESSES, "cell", "init", "ministack", "redis", "prometheus"}
        with Load(f"http://{compose.address('ministack', 4566)}") as load:
            load.stop()
            ledger = load.accounted()
        assert (ledger.lost, ledger.duplicates, ledger.dead_lettered) == (0, 0, 0)
        assert set(system.serving()) == set(CELLS)
    finally:
        compose("down", "--volumes")
        assert compose.left("container", "network", "volume") == []
