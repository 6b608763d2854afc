"""Cells as containers of a real engine: what they may, where they are, what is kept of them, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from router.adapters.provisioners import docker as provisioner_module
from router.adapters.provisioners.docker import DockerProvisioner
from router.core.errors import ProvisionError
from router.core.models import InstanceView
from tests.support.aio import run, until
from tests.support.docker import docker
from tests.support.engine_proxy import documented, engine_proxy
from tests.support.provisioner_rigs import DockerRig

CELL = "cell-0000"
MIB = 1024 * 1024
Story = Callable[[DockerRig, DockerProvisioner], Awaitable[None]]


def play(story: Story, **changes: Any) -> None:
    """On an installation of its own, which leaves nothing behind."""

    async def main() -> None:
        rig = DockerRig(**changes)
        try:
            await story(rig, await rig.provisioner())
        finally:
            await rig.close()

    run(main(), 120)


def inspected(name: str) -> dict[str, Any]:
    """What the engine says of a container."""
    found: list[dict[str, Any]] = json.loads(docker("inspect", name))
    return found[0]


def left(rig: DockerRig) -> list[str]:
    """Names of the containers that are there."""
    prefix = f"label=cellrouter.prefix={rig.config.prefix}"
    return docker("ps", "--all", "--filter", prefix, "--format", "{{.Names}}").split()


async def ended(provisioner: DockerProvisioner) -> InstanceView:
    """The only instance, once it has ended."""
    seen: list[InstanceView] = []

    async def has() -> bool:
        seen[:] = await provisioner.observe()
        return len(seen) == 1 and not seen[0].running

    await until(has, "it has ended", 40)
    return seen[0]


def test_a_container_may_use_and_do_little() -> None:
    """Not root, no capability, no new privilege, nowhere to write but its volume and /tmp, a share of everything."""

    async def story(rig: DockerRig, provisioner: DockerProvisioner) -> None:
        await provisioner.launch(CELL, 1)
        found = inspected(rig.name(CELL, 1))
        host = found["HostConfig"]
        assert found["Config"]["User"] == "10001:10001"
        assert (host["ReadonlyRootfs"], host["Privileged"], host["CapDrop"], host["CapAdd"]) == (
            True,
            False,
            ["ALL"],
            None,
        )
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["Binds"] is None
        assert set(host["Tmpfs"]) == {"/tmp"}
        assert (host["Memory"], host["MemorySwap"], host["NanoCpus"], host["PidsLimit"]) == (
            300 * MIB,
            300 * MIB,
            500_000_000,
            70,
        )
        assert host["RestartPolicy"]["Name"] == "no"
        [mount] = found["Mounts"]
        assert (mount["Type"], mount["Name"], mount["Destination"]) == (
            "volume",
            f"{rig.config.prefix}-live-{CELL}",
            "/var/lib/cellrouter",
        )
        assert found["Config"]["StopTimeout"] == rig.config.stop_grace_s

    play(story, memory_mb=300, cpus=0.5, pids=70)


def test_labels_say_whose_a_container_and_its_volume_are() -> None:
    """Cell, generation and environment, and those of whoever manages the installation."""

    async def story(rig: DockerRig, provisioner: DockerProvisioner) -> None:
        await provisioner.launch(CELL, 4)
        theirs = {"com.example.owner": "somebody"}
        ours = {"cellrouter.prefix": rig.config.prefix, "cellrouter.environment": "live", "cellrouter.cell": CELL}
        labels = inspected(rig.name(CELL, 4))["Config"]["Labels"]
        assert labels == labels | theirs | ours | {"cellrouter.generation": "4"}
        volume = json.loads(docker("volume", "inspect", f"{rig.config.prefix}-live-{CELL}"))[0]
        assert volume["Labels"] == theirs | ours

    play(story, labels={"com.example.owner": "somebody"})


def test_the_engine_says_where_an_instance_is() -> None:
    """Its address answers as the cell's worker; out of its network it has none."""

    async def story(rig: DockerRig, provisioner: DockerProvisioner) -> None:
        await provisioner.launch(CELL, 1)
        [seen] = await provisioner.observe()
        ends = inspected(rig.name(CELL, 1))["NetworkSettings"]["Networks"]
        assert seen.address == f"{ends['bridge']['IPAddress']}:8080"
        async with aiohttp.ClientSession() as session:

            async def answers() -> bool:
                try:
                    async with session.get(f"http://{seen.address}/healthz") as reply:
                        return reply.ok
                except aiohttp.ClientError:
                    return False

            await until(answers, "the worker answers", 40)
        docker("network", "disconnect", "bridge", rig.name(CELL, 1))
        [seen] = await provisioner.observe()
        assert (seen.running, seen.address) == (True, "")

    play(story)


def test_the_last_words_of_an_instance_are_kept_and_its_container_is_not() -> None:
    """Told of before the container goes, so that the next controller would find it; its volume stays."""

    async def story(rig: DockerRig, provisioner: DockerProvisioner) -> None:
        await provisioner.launch(CELL, 1)
        first = await ended(provisioner)
        assert first.detail.startswith("exit code 1; its last words:\n")
        assert "no_such_module" in first.detail
        assert left(rig) == [rig.name(CELL, 1)]
        [other] = await (await rig.provisioner()).observe()
        assert other == first
        assert await provisioner.observe() == [first]
        assert left(rig) == []
        assert docker("volume", "ls", "--quiet", "--filter", f"name={rig.config.prefix}").split()

    play(story, variables={"CELL_SECRET": "a-secret-for-tests", "CELL_HANDLER": "no_such_module:handle"})


def test_what_is_paused_is_killed_without_being_asked() -> None:
    """A frozen worker can't answer, and shall not wake up."""

    async def story(rig: DockerRig, provisioner: DockerProvisioner) -> None:
        await provisioner.launch(CELL, 1)
        docker("pause", rig.name(CELL, 1))
        [seen] = await provisioner.observe()
        assert seen.detail.endswith(", paused")
        await provisioner.stop(CELL, 1)
        assert (await ended(provisioner)).detail.startswith("killed by signal 9")

    play(story)


def test_a_container_that_somebody_removes_counts_as_ended() -> None:
    """At the next look, not when its lease ends."""

    async def story(rig: DockerRig, provisioner: DockerProvisioner) -> None:
        await provisioner.launch(CELL, 1)
        docker("rm", "--force", rig.name(CELL, 1))
        assert await provisioner.observe() == [InstanceView(CELL, 1, running=False, detail="its container was removed")]

    play(story)


def test_another_installations_containers_are_left_alone() -> None:
    """Neither another prefix's nor another environment's are seen."""

    async def story(rig: DockerRig, provisioner: DockerProvisioner) -> None:
        await provisioner.launch(CELL, 1)
        for change in ({"prefix": f"{rig.config.prefix}-2"}, {"environment": "stress"}):
            other = await rig.provisioner(**change)
            await other.stop(CELL, 1)
            assert await other.observe() == []
        [seen] = await provisioner.observe()
        assert seen.running

    play(story)


def test_a_name_that_is_taken_is_told_with_what_to_do() -> None:
    """There is never a second instance of a generation."""

    async def story(rig: DockerRig, provisioner: DockerProvisioner) -> None:
        await provisioner.launch(CELL, 1)
        with pytest.raises(ProvisionError, match=r"cell-0000 generation 1 can't be launched.*docker rm --force"):
            await (await rig.provisioner()).launch(CELL, 1)

    play(story)


def test_an_image_or_a_network_that_is_missing_is_told_with_what_to_do() -> None:
    """By its setting; the container that could not start is told of and removed."""

    async def story(rig: DockerRig, provisioner: DockerProvisioner) -> None:
        with pytest.raises(ProvisionError, match=r"no image cellrouter:of-nowhere: build it .* docker\.image"):
            await (await rig.broken()).launch(CELL, 1)
        elsewhere = await rig.provisioner(network="of-nowhere")
        with pytest.raises(ProvisionError, match=r"no network of-nowhere: make it .* docker\.network"):
            await elsewhere.launch(CELL, 2)
        assert (await ended(elsewhere)).detail.startswith("was never started")
        await elsewhere.observe()
        assert left(rig) == []

    play(story)


def test_an_engine_that_is_away_or_silent_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No socket, and one that never answers: an error in time, not a controller that hangs."""
    monkeypatch.setattr(provisioner_module, "CALL_TIMEOUT_S", 0.5)

    async def story(rig: DockerRig, provisioner: DockerProvisioner) -> None:
        away = await rig.provisioner(engine_url=f"unix://{tmp_path}/none.sock")
        with pytest.raises(ProvisionError, match=r"no Docker engine at unix://.*DOCKER_HOST"):
            await away.observe()
        with pytest.raises(ProvisionError, match="no Docker engine at unix://"):
            await away.launch(CELL, 1)

        async def silence(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with closing(writer):
                await asyncio.Event().wait()

        server = await asyncio.start_unix_server(silence, tmp_path / "silent.sock")
        silent = await rig.provisioner(engine_url=f"unix://{tmp_path}/silent.sock")
        with pytest.raises(ProvisionError, match="did not answer in"):
            await silent.observe()
        server.close()

    play(story)


def test_the_documented_calls_are_enough_and_none_is_too_many(tmp_path: Path) -> None:
    """A whole life through a proxy that refuses all that docs/how-to/containers.md doesn't list."""

    async def main() -> None:
        async with engine_proxy(tmp_path) as (engine_url, used):
            rig = DockerRig(engine_url)
            try:
                provisioner = await rig.provisioner()
                for generation in (1, 2):
                    await provisioner.launch(CELL, generation)
                docker("pause", rig.name(CELL, 2))
                await provisioner.observe()
                for generation in (1, 2):
                    await provisioner.stop(CELL, generation)

                async def gone() -> bool:
                    await provisioner.observe()
                    return left(rig) == []

                await until(gone, "both have ended and are removed", 40)
                assert used == set(documented())
            finally:
                await rig.close()

    run(main(), 120)
