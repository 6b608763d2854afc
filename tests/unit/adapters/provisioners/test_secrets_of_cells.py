"""What a launched cell is told: its own secret, and nothing of the environment's."""

from __future__ import annotations

import pytest

from router.adapters.provisioners.docker_containers import container_config
from router.bootstrap.registry import keyring_of
from router.bootstrap.workers import _docker_config, _subprocess_config
from router.settings import load
from tests.support.keys import OTHER_SECRET, SECRET, ring

GIVEN = {
    "CELLROUTER_SECRET": f"{SECRET},{OTHER_SECRET}",
    "CELLROUTER_REDIS_URL": "redis://router:its-password@redis",
    "CELLROUTER_CELLS_REDIS_URL": "redis://cell:another@redis",
}
WRONG = {"CELL_SECRET": OTHER_SECRET, "CELL_SECRET_FILE": "/etc/cellrouter/secret"}


def test_a_cell_is_told_its_own_secret_and_nothing_of_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the settings of the controller, nor what it might have for cells by mistake, reach a cell."""
    for name, value in (GIVEN | WRONG).items():
        monkeypatch.setenv(name, value)
    settings = load(GIVEN)
    keyring = keyring_of(settings)
    docker, process = _docker_config(settings, keyring), _subprocess_config(settings, keyring)
    told = dict(pair.split("=", 1) for pair in container_config(docker, "cell-0007", 3)["Env"])
    assert told["CELL_SECRET"] == process.secret_of("cell-0007") == ring("live").cell_secret("cell-0007")
    for variables in (told, process.environment):
        assert "CELL_SECRET_FILE" not in variables
        assert not [name for name in variables if name.startswith("CELLROUTER_")]
        assert not [name for name, value in variables.items() if any(s in value for s in (SECRET, OTHER_SECRET))]
    assert "its-password" not in str(told)
    keyring.replace([OTHER_SECRET])
    assert docker.secret_of("cell-0007") == ring("live", OTHER_SECRET).cell_secret("cell-0007")
