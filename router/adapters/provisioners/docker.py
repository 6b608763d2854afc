"""Provisioner that runs workers as containers of a Docker engine.

The engine is the provisioner's only memory: containers carry labels that say which instance they are, so that the next
controller finds them. When a container has ended, its exit and the end of its log are read at once, and it is removed
at the look after that: when the controller dies in between, the next one still finds it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final

import aiodocker
import aiohttp
import structlog
from aiohttp.http_exceptions import HttpProcessingError

from router.adapters.http_session import refuse_redirects
from router.adapters.provisioners.docker_containers import (
    ENDED_STATES,
    DockerConfig,
    Key,
    address_of,
    container_config,
    container_name,
    how_it_ended,
    image_of,
    is_ours,
    key_of,
    version_to_speak,
    volume_config,
    why_too_old,
)
from router.adapters.provisioners.last_words import LAST_LINES, ORDERLY, last_words
from router.core.errors import ProvisionError
from router.core.models import InstanceView

CALL_TIMEOUT_S: Final = 5.0
LAUNCH_TIMEOUT_S: Final = 20.0  # a busy engine takes seconds to start a container
_KEEP_ENDED: Final = 100  # how many ended instances observe() still lists
_UNREADABLE: Final = (ValueError, LookupError, TypeError, AttributeError, RecursionError, HttpProcessingError)
"""What aiodocker raises when an answer is no JSON, is nested too deeply or has another shape than it expects."""
_NO_CONNECTION: Final = 900  # aiodocker's status when the engine can't be reached
_NOT_AGREED: Final = "auto"  # aiodocker's word for any version of the API
_NAME_TAKEN: Final = "is already in use"
_VERSION_REFUSED: Final = "client version"
_log = structlog.get_logger("cellrouter")


@dataclass(frozen=True, slots=True)
class _RunningContainer:
    """A container that runs or is paused."""

    container: aiodocker.docker.DockerContainer
    address: str
    paused: bool
    image: str

    def view(self, key: Key) -> InstanceView:
        detail = f"container {self.container.id[:12]}{', paused' if self.paused else ''}"
        return InstanceView(*key, running=True, detail=detail, address=self.address, image=self.image)


class DockerProvisioner:
    """Runs workers as containers, which outlive their controller. Call `close` at the end."""

    can_launch = True
    takes_images = True

    def __init__(self, config: DockerConfig) -> None:
        self._config = config
        self._engine = aiodocker.Docker(url=config.engine_url)
        refuse_redirects(self._engine.session)
        self._running: dict[Key, _RunningContainer] = {}
        self._ended: dict[Key, str] = {}
        self._stopping: dict[Key, asyncio.Task[None]] = {}

    async def launch(self, cell_id: str, generation: int, image: str | None = None) -> None:
        """Create and start a container; its name prevents a second one of the same generation. Pulls no image."""
        what = f"{cell_id} generation {generation} can't be launched"
        wanted = replace(self._config, image=image or self._config.image)
        async with self._call(what, LAUNCH_TIMEOUT_S, wanted):
            await self._engine.volumes.create(volume_config(wanted, cell_id))  # type: ignore[no-untyped-call]
            config, name = container_config(wanted, cell_id, generation), container_name(wanted, cell_id)
            container = await self._created(config, f"{name}-g{generation}")
            await container.start()
        self._running[cell_id, generation] = _RunningContainer(container, "", paused=False, image=wanted.image)

    async def stop(self, cell_id: str, generation: int) -> None:
        """Send SIGTERM, then SIGKILL after the grace; a paused container can't react, so it is killed."""
        key = (cell_id, generation)
        found = self._running.get(key)
        if found is not None and key not in self._stopping:
            self._stopping[key] = asyncio.create_task(self._end(key, found))

    async def observe(self) -> list[InstanceView]:
        """List all that run, whichever controller launched them, and the last hundred that ended."""
        before, self._running = self._running, {}
        for container in await self._containers():
            found = _listed(container)
            key = key_of(found)
            if found["State"] not in ENDED_STATES:
                address = address_of(found, self._config.network)
                paused = found["State"] == "paused"
                self._running[key] = _RunningContainer(container, address, paused, image_of(found))
            elif key in self._ended:
                await self._remove(container)
            else:
                self._ended[key] = await self._how_it_ended(container)
        for key in before.keys() - self._running.keys() - self._ended.keys():
            self._ended[key] = "its container was removed"
        self._forget()
        running = [found.view(key) for key, found in self._running.items()]
        return running + [InstanceView(*key, running=False, detail=how) for key, how in self._ended.items()]

    async def close(self) -> None:
        """Close the connection to the engine; the containers go on running."""
        for task in self._stopping.values():
            task.cancel()
        await asyncio.gather(*self._stopping.values(), return_exceptions=True)
        await self._engine.close()

    async def _created(self, config: dict[str, Any], name: str) -> aiodocker.docker.DockerContainer:
        """Create a container. An engine that crashed may keep a name for one that isn't there, until it is restarted.

        Then the next name does it: it too is given once only.
        """
        try:
            return await self._engine.containers.create(config, name=name)
        except aiodocker.DockerError as error:
            if _NAME_TAKEN not in error.message or await self._is_there(name):
                raise
        other = f"{name}-anew"
        _log.warning(
            "the engine keeps a container's name for one that is not there; this instance gets another name",
            kept=name,
            instead=other,
            advice="nothing has to be done now; a restart of the engine frees the name",
        )
        return await self._engine.containers.create(config, name=other)

    async def _is_there(self, name: str) -> bool:
        try:
            await self._engine.containers.get(name)
        except aiodocker.DockerError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return False
            raise
        return True

    async def _agree_on_version(self) -> None:
        """Speak the version of the API that this was written for, or the nearest one that the engine speaks."""
        if self._engine.api_version == _NOT_AGREED:
            said = await self._engine.version()
            if (why := why_too_old(said)) is not None:
                self._engine.api_version = _NOT_AGREED  # it may be updated
                raise ProvisionError(f"{why} (the engine is {self._config.engine_url})")
            self._engine.api_version = version_to_speak(said)

    async def _containers(self) -> list[aiodocker.docker.DockerContainer]:
        labels = [f"{name}={value}" for name, value in self._config.own_labels().items()]
        async with self._call("the cells' containers can't be listed"):
            found = await self._engine.containers.list(all=1, filters=json.dumps({"label": labels}))
        return [container for container in found if is_ours(_listed(container))]

    async def _end(self, key: Key, found: _RunningContainer) -> None:
        grace_s = self._config.stop_grace_s
        try:
            async with self._call("it can't be stopped", grace_s + LAUNCH_TIMEOUT_S):
                await (found.container.kill() if found.paused else found.container.stop(t=grace_s))
        except ProvisionError:
            return  # it has ended already; or the caller sees that it has not, and asks again
        finally:
            self._stopping.pop(key, None)

    async def _how_it_ended(self, container: aiodocker.docker.DockerContainer) -> str:
        """Return how a container ended, and the end of its log unless that was in order."""
        try:
            async with self._call("it can't be inspected"):
                state = dict(await container.show()).get("State")
        except ProvisionError:
            return "its container is gone"
        if (ended := how_it_ended(state)) == ORDERLY:
            return ended
        try:
            async with self._call("its log can't be read"):
                lines = await container.log(stdout=True, stderr=True, tail=LAST_LINES)
        except ProvisionError as error:
            lines = [str(error)]
        return ended + last_words(lines)

    async def _remove(self, container: aiodocker.docker.DockerContainer) -> None:
        try:
            async with self._call("it can't be removed"):
                await container.delete(force=True)
        except ProvisionError:
            return  # it is gone, or the next look removes it

    def _forget(self) -> None:
        while len(self._ended) > _KEEP_ENDED:
            del self._ended[next(iter(self._ended))]

    @asynccontextmanager
    async def _call(
        self, what: str, seconds: float = CALL_TIMEOUT_S, config: DockerConfig | None = None
    ) -> AsyncIterator[None]:
        """Limit the time of a call, and raise ProvisionError for every failure, in words that say what to do."""
        try:
            async with asyncio.timeout(seconds):
                await self._agree_on_version()
                yield
        except aiodocker.DockerError as error:
            if _VERSION_REFUSED in error.message:  # the engine was updated meanwhile
                self._engine.api_version = _NOT_AGREED
            raise ProvisionError(f"{what}: {_advice(error, config or self._config)}") from error
        except TimeoutError as error:
            raise ProvisionError(f"{what}: the Docker engine did not answer in {seconds:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ProvisionError(f"{what}: the Docker engine can't be asked: {error}") from error
        except _UNREADABLE as error:
            raise ProvisionError(f"{what}: the engine's answer can't be read: {error!r:.300}") from error


def _listed(container: aiodocker.docker.DockerContainer) -> Mapping[str, Any]:
    return container._container  # noqa: SLF001 - aiodocker shows the listed fields in no other way


def _advice(error: aiodocker.DockerError, config: DockerConfig) -> str:
    message = error.message
    if error.status == _NO_CONNECTION:
        return (
            f"there is no Docker engine at {config.engine_url}: does it run, does DOCKER_HOST name it, and may "
            f"this process use it? ({message})"
        )
    if "o such image" in message:
        return f"the engine has no image {config.image}: build it there or pull it, or set docker.image"
    if _NAME_TAKEN in message:
        return (
            f"{message} Something else on this engine has that name: remove it (docker rm --force NAME), or give "
            "this installation a docker.prefix of its own."
        )
    if "network" in message and "not found" in message:
        return f"the engine has no network {config.network}: make it (docker network create), or set docker.network"
    return f"the Docker engine says: {message}"
