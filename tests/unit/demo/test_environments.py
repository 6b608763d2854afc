"""Environments here and in Docker: what they take over from whoever makes them, which is nothing of another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from router.demo.environments.compose import ComposeEnvironment, projects_in, variables_of
from router.demo.environments.local import EnvironmentFailedError, LocalOptions
from router.demo.environments.local import variables_of as local_variables_of
from tests.support.paths import REPOSITORY

THEIRS = {
    "CELLROUTER_SECRET": "of-another",
    "CELLROUTER_SOURCE_QUEUE": "of-another",
    "CELLROUTER_CONFIG": "/of/another.toml",
    "CELLROUTER_CELLS_SIDE_EFFECTS": "true",
    "PATH": "/bin",
}


@pytest.mark.parametrize("name", ["stress", "replay", "mine"])
def test_an_environment_takes_over_nothing_that_names_another(name: str) -> None:
    """Neither a queue, nor a secret, nor a file, nor a project; and nobody gives it side effects."""
    local = local_variables_of(LocalOptions(name, "", 2, "", None), THEIRS)
    docker = variables_of(name, "live", {**THEIRS, "COMPOSE_PROJECT_NAME": "of-another"})
    for found in (local, docker):
        assert "of-another" not in str(found)
        assert found["PATH"] == "/bin"
        assert found.get("CELLROUTER_CELLS_SIDE_EFFECTS", "false") == "false"
    assert docker["CELLROUTER_ENVIRONMENT"] == name
    assert docker["COMPOSE_PROJECT_NAME"] == f"cellrouter-{name}"
    assert {value for key, value in docker.items() if key.endswith("_PORT")} == {"0"}


def test_what_the_compose_file_names_is_the_environments() -> None:
    """Each volume, bucket and setting that an environment's name is in follows the variable, and not `live`."""
    text = (REPOSITORY / "docker-compose.yml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)
    named = [volume["name"] for volume in found["volumes"].values() if volume]
    assert len(named) == 8
    assert all("-${CELLROUTER_ENVIRONMENT:-live}-cell-" in name for name in named)
    variables = found["x-controller"]["environment"]
    assert variables["CELL_SECURITY_BUCKETS"] == "cellrouter-${CELLROUTER_ENVIRONMENT:-live}-source"
    assert "-live-" not in text
    assert {name for name in variables_of("stress", "", {}) if name.startswith("CELLROUTER_")} <= variables.keys()


def test_environments_are_told_from_other_projects() -> None:
    """What docker compose prints is read, or it is said that it can't be."""
    listed = b'[{"Name":"cellrouter-stress","Status":"running(9)"},{"Name":"shop","Status":"running(1)"}]'
    assert projects_in(listed) == {"stress": "9 running"}
    assert projects_in(b"") == {}
    for bad in (b"{", b"[1]", b'[{"Name": 1}]', b"[" * 100_000):
        with pytest.raises(EnvironmentFailedError, match="can't be read"):
            projects_in(bad)


def test_without_the_compose_file_nothing_is_begun(tmp_path: Path) -> None:
    """It is said where it is."""
    with pytest.raises(EnvironmentFailedError, match="--compose-file"):
        ComposeEnvironment("stress", tmp_path / "docker-compose.yml", {})
