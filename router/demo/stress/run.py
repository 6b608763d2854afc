"""One stress run from its first event to its report."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - seeded by the user, so that a run can be repeated
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from router.adapters.http_session import http_session
from router.bootstrap.queues import queues_of
from router.bootstrap.registry import open_registry
from router.core.environments import LIVE
from router.core.errors import RegistryUnavailableError
from router.core.load.findings import Knee, LoadReport, PhaseSent, RouterSaid, Totals, found, knee_of
from router.core.load.profiles import LoadPhase, Profile, phases_of, shots
from router.core.messages.parser import Extraction
from router.demo.stress.events import StressError, archived, made_up, read_archive
from router.demo.stress.sender import Sender
from router.ports import Clock
from router.settings import Settings

POLL_S: Final = 1.0
QUIET_S: Final = 5.0  # without an event done, after which what is open counts as unfinished
DRAIN_S: Final = 120.0  # for what is open at the end, at most
SLOWEST: Final = 10  # tenants that are shown by their names
ASK_S: Final = 5.0
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StressOptions:
    """What the command line asks of a run."""

    profile: Profile
    rate: float
    seconds: float
    tenants: int
    zipf: float
    seed: int
    work_ms: float
    size: int  # bytes that an event is padded with
    archive: Path | None
    routers: tuple[str, ...]  # their URLs; empty: as they have reported themselves


async def run_stress(options: StressOptions, settings: Settings, clock: Clock) -> LoadReport:
    """Send the load, and report. Raises StressError, at once in the environment `live`."""
    if settings.environment == LIVE:
        raise StressError(
            f"the environment {LIVE} gets no load that nobody has asked for: cellrouter env create stress"
        )
    run, phases = uuid.uuid4().hex[:10], phases_of(options.profile, options.rate, options.seconds)
    source = settings.source
    make = (
        made_up(run, options.work_ms, options.size)
        if options.archive is None
        else archived(run, read_archive(options.archive, Extraction(source.partition_key, source.event_id)))
    )
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(http_session())
        urls = options.routers or await _routers(settings)
        routers = _Routers(session, urls, run)
        await routers.totals()
        queue, _ = await queues_of(stack, settings)
        sender = Sender(run, queue, make, phases, clock)
        uniform = random.Random(options.seed).random  # noqa: S311 - a load is no secret
        sending = asyncio.create_task(sender.send(shots(phases, options.tenants, options.zipf, uniform)))
        stack.callback(sending.cancel)
        marks = await _watched(phases, sender, routers, sending, clock)
        await _drained(sender, routers, clock)
        totals = await routers.totals()
    return _report(options, settings, run, _sent(phases, sender, marks), totals, clock)


async def _routers(settings: Settings) -> tuple[str, ...]:
    """Return the URLs of the routers that live: as they report themselves, else the one of this machine."""
    try:
        async with open_registry(settings) as registry:
            snapshot = await registry.snapshot()
    except RegistryUnavailableError as error:
        raise StressError(f"the registry can't be read: {error}") from error
    live = [router.report.address for router in snapshot.routers if router.live]
    if not live:
        raise StressError(f"no router of the environment {settings.environment} runs: see cellrouter doctor")
    if all(live):
        return tuple(f"http://{address}" for address in live)
    if len(live) > 1:
        raise StressError(f"{len(live)} routers run, and not all say where: give --router URL for each")
    return (f"http://127.0.0.1:{settings.api.port}",)


class _Routers:
    """The routers of the environment, which count what is done."""

    def __init__(self, session: aiohttp.ClientSession, urls: Sequence[str], run: str) -> None:
        self._session = session
        self._urls = urls
        self._run = run

    async def totals(self) -> Totals:
        """Ask all of them. Raises StressError when one does not answer: its share would be missing."""
        return Totals(await asyncio.gather(*(self._said(url) for url in self._urls)))

    async def _said(self, url: str) -> RouterSaid:
        timeout = aiohttp.ClientTimeout(total=ASK_S)
        try:
            path = f"{url}/stress/{self._run}"
            async with self._session.get(path, timeout=timeout, allow_redirects=False) as response:
                if response.status != HTTPStatus.OK:
                    raise StressError(
                        f"the router at {url} knows of no stress runs: is it of this environment, and of this version?"
                    )
                raw = await response.content.read(MAX_ANSWER_BYTES)
                while not response.content.at_eof() and len(raw) < MAX_ANSWER_BYTES:
                    raw += await response.content.read(MAX_ANSWER_BYTES - len(raw))
            return msgspec.json.decode(raw, type=RouterSaid)
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
            raise StressError(f"the router at {url} does not answer: {error or 'in time'}") from error


async def _watched(
    phases: Sequence[LoadPhase], sender: Sender, routers: _Routers, sending: asyncio.Task[None], clock: Clock
) -> list[int]:
    """Count what is open at the begin of the run and at the end of each phase."""
    began, opened, ends = clock.monotonic(), [0], 0.0
    for phase in phases:
        ends += phase.seconds
        while (left_s := began + ends - clock.monotonic()) > 0 and not sending.done():
            await clock.sleep(min(POLL_S, left_s))
        if phase is phases[-1]:
            await sending
        opened.append(await _open(sender, routers))
    return opened


async def _open(sender: Sender, routers: _Routers) -> int:
    """Count the events that the queue has taken and no cell has done yet."""
    totals = await routers.totals()
    return max(0, sender.events - sum(totals.done.values()))


async def _drained(sender: Sender, routers: _Routers, clock: Clock) -> None:
    """Wait until all is done, or nothing more happens."""
    until = clock.monotonic() + DRAIN_S
    least, at = await _open(sender, routers), clock.monotonic()
    while least and clock.monotonic() < min(until, at + QUIET_S):
        await clock.sleep(POLL_S)
        if (now := await _open(sender, routers)) < least:
            least, at = now, clock.monotonic()


def _sent(phases: Sequence[LoadPhase], sender: Sender, opened: Sequence[int]) -> list[PhaseSent]:
    return [
        PhaseSent(
            phase.name,
            round(phase.rate, 3),
            phase.seconds,
            sent.events,
            sent.refused,
            round(sent.late.quantile(0.99), 1),
            opened[number],
            opened[number + 1],
        )
        for number, (phase, sent) in enumerate(zip(phases, sender.sent, strict=True))
    ]


def _report(
    options: StressOptions, settings: Settings, run: str, sent: Sequence[PhaseSent], totals: Totals, clock: Clock
) -> LoadReport:
    by_phase = found(sent, totals, SLOWEST)
    ramp = options.profile is Profile.RAMP
    return LoadReport(
        environment=settings.environment,
        profile=options.profile.value,
        rate=options.rate,
        seconds=options.seconds,
        tenants=options.tenants,
        zipf=options.zipf,
        seed=options.seed,
        at_ms=clock.time_ms(),
        run=run,
        unfinished=max(0, sum(each.sent for each in sent) - sum(totals.done.values())),
        phases=by_phase,
        knee=knee_of(by_phase) if ramp else Knee(0.0, "only --profile ramp looks for it"),
    )
