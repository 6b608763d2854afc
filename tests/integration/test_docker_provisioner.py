"""Cells as containers of a real Docker engine: their rights, addresses and logs, and errors of the engine."""

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
    """Run a story on an installation of its own, and remove everything at the end."""

    async def main() -> None:
        rig = DockerRig(**changes)
        try:
            await story(rig, await rig.provisioner())
        finally:
            await rig.close()

    run(main(), 120)


def inspected(name: str) -> dict[str, Any]:
    """Return what `docker inspect` says about a container."""
    found: list[dict[str, Any]] = json.loads(docker("inspect", name))
    return found[0]


def left(rig: DockerRig) -> list[str]:
    """List the names of the installation's containers."""
    prefix = f"label=cellrouter.prefix={rig.config.prefix}"
    return docker("ps", "--all", "--filter", prefix, "--format", "{{.Names}}").split()


async def ended(provisioner: DockerProvisioner) -> InstanceView:
    """Wait until the only instance has ended, and return its view."""
    seen: list[InstanceView] = []

    async def has() -> bool:
        seen[:] = await provisioner.observe()
        return len(seen) == 1 and not seen[0].running

    await until(has, "it has ended", 40)
    return seen[0]


def test_a_container_has_few_rights_and_limited_resources() -> None:
    """It has no root, capability or new privilege, writes only to its volume and /tmp, and all it uses is limited."""

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
        assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
        [mount] = found["Mounts"]
        assert (mount["Type"], mount["Name"], mount["Destination"]) == (
            "volume",
            f"{rig.config.prefix}-live-{CELL}",
            "/var/lib/cellrouter",
        )
        assert found["Config"]["StopTimeout"] == rig.config.stop_grace_s

    play(story, memory_mb=300, cpus=0.5, pids=70)


def test_labels_identify_a_container_and_its_volume() -> None:
    """They name the cell, generation and environment, and carry the labels that the operator configured."""

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
    """The address answers as the cell's worker; a container outside its network has no address."""

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


def test_the_last_log_lines_of_an_instance_outlive_its_container() -> None:
    """They are reported before the container is removed, so the next controller would find it. The volume stays."""

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

    play(story, variables={"CELL_HANDLER": "no_such_module:handle"})


def test_a_paused_container_is_killed_without_a_sigterm() -> None:
    """A paused worker can't answer SIGTERM, and must not wake up later."""

    async def story(rig: DockerRig, provisioner: DockerProvisioner) -> None:
        await provisioner.launch(CELL, 1)
        docker("pause", rig.name(CELL, 1))
        [seen] = await provisioner.observe()
        assert seen.detail.endswith(", paused")
        await provisioner.stop(CELL, 1)
        assert (await ended(provisioner)).detail.startswith("killed by signal 9")

    play(story)


def test_a_container_that_somebody_removes_counts_as_ended() -> None:
    """The next observation shows it, long before the lease ends."""

    async def story(rig: DockerRig, provisioner: DockerProvisioner) -> None:
        await provisioner.launch(CELL, 1)
        docker("rm", "--force", rig.name(CELL, 1))
        assert await provisioner.observe() == [InstanceView(CELL, 1, running=False, detail="its container was removed")]

    play(story)


def test_another_installations_containers_are_left_alone() -> None:
    """Containers with another prefix or of another environment are neither seen nor stopped."""

    async def story(rig: DockerRig, provisioner: DockerProvisioner) -> None:
        await provisioner.launch(CELL, 1)
        for change in ({"prefix": f"{rig.config.prefix}-2"}, {"environment": "stress"}):
            other = await rig.provisioner(**change)
            await other.stop(CELL, 1)
            assert await other.observe() == []
        [seen] = await provisioner.observe()
        assert seen.running

    play(story)


def test_a_taken_container_name_is_an_error_that_says_what_to_do() -> None:
    """A generation never has a second instance."""

    async def story(rig: DockerRig, provisioner: DockerProvisioner) -> None:
        await provisioner.launch(CELL, 1)
        with pytest.raises(ProvisionError, match=r"cell-0000 generation 1 can't be launched.*docker rm --force"):
            await (await rig.provisioner()).launch(CELL, 1)

    play(story)


def test_a_missing_image_or_network_is_an_error_that_says_what_to_do() -> None:
    """The error names the setting. A container that could not start is reported and then removed."""

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


def test_an_unreachable_or_silent_engine_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a socket, or with one that never answers, the controller gets an error in time and does not hang."""
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


def test_exactly_the_documented_engine_calls_are_used(tmp_path: Path) -> None:
    """Cells live and end behind a proxy that refuses every call that docs/how-to/containers.md doesn't list."""

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
