"""Docker engines that are old, new or broken: which version of the API is spoken, and what is done about a phantom."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from router.adapters.provisioners.docker import DockerProvisioner
from router.adapters.provisioners.docker_containers import DockerConfig
from router.core.errors import ProvisionError
from tests.support.aio import run
from tests.support.engine_stub import EngineStub, engine_stub

CELL = "cell-0003"


def play(stub: EngineStub, directory: Path, story: Callable[[DockerProvisioner], Awaitable[None]]) -> None:
    """Run a story with a provisioner on the stub."""

    async def main() -> None:
        async with engine_stub(stub, directory) as url:
            limits: dict[str, Any] = {"memory_mb": 64, "cpus": 1, "pids": 16, "stop_grace_s": 1}
            names: dict[str, Any] = {"image": "i", "network": "n", "prefix": "p", "environment": "e"}
            config = DockerConfig(url, **names, variables={}, labels={}, **limits, secret_of=str)
            provisioner = DockerProvisioner(config)
            try:
                await story(provisioner)
            finally:
                await provisioner.close()

    run(main(), 60)


@pytest.mark.parametrize(
    ("oldest", "newest", "spoken"),
    [("1.24", "1.41", "1.41"), ("1.24", "1.47", "1.44"), ("1.44", "1.52", "1.44"), ("1.50", "1.60", "1.50")],
)
def test_the_version_of_the_api_is_one_that_both_speak(oldest: str, newest: str, spoken: str, tmp_path: Path) -> None:
    """Docker 29 refuses all before 1.44, and what 1.52 changes is not asked for."""

    async def story(provisioner: DockerProvisioner) -> None:
        await provisioner.launch(CELL, 1)
        assert [view.running for view in await provisioner.observe()] == [True]
        assert stub.spoken == {spoken}

    stub = EngineStub(newest, oldest)
    play(stub, tmp_path, story)


def test_an_engine_that_is_too_old_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """It says what is needed. Once it is updated, it is used without a restart."""

    async def story(provisioner: DockerProvisioner) -> None:
        with pytest.raises(ProvisionError, match=r"only version 1\.39 of Docker's API, and 1\.41 is needed: update it"):
            await provisioner.launch(CELL, 1)
        assert stub.spoken == set()
        stub.newest = "1.47"
        await provisioner.launch(CELL, 1)
        assert stub.spoken == {"1.44"}

    stub = EngineStub("1.39")
    play(stub, tmp_path, story)


def test_an_engine_that_is_updated_is_asked_again_what_it_speaks(tmp_path: Path) -> None:
    """One call fails in words; the next one goes on."""

    async def story(provisioner: DockerProvisioner) -> None:
        await provisioner.launch(CELL, 1)
        stub.oldest = "1.46"
        with pytest.raises(ProvisionError, match=r"Minimum supported API version is 1\.46"):
            await provisioner.launch(CELL, 2)
        await provisioner.launch(CELL, 2)
        assert stub.spoken == {"1.44", "1.46"}

    stub = EngineStub()
    play(stub, tmp_path, story)


def test_a_name_that_a_phantom_holds_is_told_and_another_is_used(tmp_path: Path) -> None:
    """The engine refuses the name for a container that nobody can list or remove; the cell goes on all the same."""

    async def story(provisioner: DockerProvisioner) -> None:
        name = f"p-e-{CELL}-g7"
        stub.phantoms.add(name)
        with structlog.testing.capture_logs() as logs:
            await provisioner.launch(CELL, 7)
        assert [(line["kept"], line["instead"]) for line in logs] == [(name, f"{name}-anew")]
        (view,) = await provisioner.observe()
        assert (view.cell_id, view.generation, view.running) == (CELL, 7, True)
        with pytest.raises(ProvisionError, match="is already in use"):
            await provisioner.launch(CELL, 7)  # a second one of one generation

    stub = EngineStub()
    play(stub, tmp_path, story)


def test_a_name_that_a_container_has_is_left_to_it(tmp_path: Path) -> None:
    """Two instances of one generation must not run, so the second is refused, with what to do."""

    async def story(provisioner: DockerProvisioner) -> None:
        await provisioner.launch(CELL, 7)
        with pytest.raises(ProvisionError, match=r"docker rm --force NAME"):
            await provisioner.launch(CELL, 7)
        assert list(stub.containers) == [f"p-e-{CELL}-g7"]

    stub = EngineStub()
    play(stub, tmp_path, story)
