"""The routers of an environment, asked over HTTP what they see and what they have counted of a stress run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final, TypeVar

import aiohttp

from cell_worker.contract.strict_reader import StrictReader, Unreadable
from router.bootstrap.registry import open_registry
from router.core.errors import RegistryUnavailableError
from router.core.load.findings import RouterSaid, Totals
from router.core.registry import Snapshot
from router.demo.stress.events import StressError
from router.settings import Settings

T = TypeVar("T")

ASK_S: Final = 5.0
_SAID: Final = StrictReader[RouterSaid]("stress run", RouterSaid, 64 * 1024 * 1024)


async def urls_of(settings: Settings) -> tuple[str, ...]:
    """Return the URLs of the routers that live: as they report themselves, else the one of this machine."""
    try:
        async with open_registry(settings) as registry:
            return urls_in(await registry.snapshot(), settings)
    except RegistryUnavailableError as error:
        raise StressError(f"the registry can't be read: {error}") from error


def urls_in(snapshot: Snapshot, settings: Settings) -> tuple[str, ...]:
    """Return the same of what the registry has said already."""
    live = [router.report.address for router in snapshot.routers if router.live]
    if not live:
        raise StressError(f"no router of the environment {settings.environment} runs: see cellrouter doctor")
    if all(live):
        return tuple(f"http://{address}" for address in live)
    if len(live) > 1:
        raise StressError(f"{len(live)} routers run, and not all say where: give --router URL for each")
    return (f"http://127.0.0.1:{settings.api.port}",)


async def asked(session: aiohttp.ClientSession, url: str, path: str, reader: StrictReader[T]) -> T:
    """Ask one router, and read its answer. Raises StressError."""
    timeout = aiohttp.ClientTimeout(total=ASK_S)
    try:
        async with session.get(f"{url}{path}", timeout=timeout, allow_redirects=False) as response:
            if response.status != HTTPStatus.OK:
                raise StressError(
                    f"the router at {url} knows of no {reader.name}: is it of this environment, and of this version?"
                )
            raw = b""
            while len(raw) <= reader.max_bytes and (more := await response.content.readany()):
                raw += more
    except (aiohttp.ClientError, TimeoutError) as error:
        raise StressError(f"the router at {url} does not answer: {error or 'in time'}") from error
    found = reader.read(raw)
    if isinstance(found, Unreadable):
        raise StressError(f"the router at {url} answers what can't be read: {found.why}")
    return found


class StressRouters:
    """The routers of the environment, which count what is done."""

    def __init__(self, session: aiohttp.ClientSession, urls: Sequence[str], run: str) -> None:
        self._session = session
        self._urls = urls
        self._run = run

    async def totals(self) -> Totals:
        """Ask all routers. Raises StressError when one does not answer: its share would be missing."""
        path = f"/stress/{self._run}"
        return Totals(await asyncio.gather(*(asked(self._session, url, path, _SAID) for url in self._urls)))
