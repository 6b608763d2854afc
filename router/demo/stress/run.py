"""One stress run from its first event to its report."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - seeded by the user, so that a run can be repeated
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from router.adapters.http_session import http_session
from router.bootstrap.queues import queues_of
from router.core.environments import LIVE
from router.core.load.findings import Knee, LoadReport, PhaseSent, Totals, found, knee_of
from router.core.load.profiles import LoadPhase, Profile, phases_of, shots
from router.core.messages.parser import Extraction
from router.demo.stress.events import StressError, archived, made_up, read_archive
from router.demo.stress.routers import StressRouters, urls_of
from router.demo.stress.sender import Sender
from router.ports import Clock
from router.settings import Settings

POLL_S: Final = 1.0
QUIET_S: Final = 5.0  # without an event done, after which what is open counts as unfinished
DRAIN_S: Final = 120.0  # for what is open at the end, at most
SLOWEST: Final = 10  # tenants that are shown by their names


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
        urls = options.routers or await urls_of(settings)
        routers = StressRouters(session, urls, run)
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


async def _watched(
    phases: Sequence[LoadPhase], sender: Sender, routers: StressRouters, sending: asyncio.Task[None], clock: Clock
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


async def _open(sender: Sender, routers: StressRouters) -> int:
    """Count the events that the queue has taken and no cell has done yet."""
    totals = await routers.totals()
    return max(0, sender.events - sum(totals.done.values()))


async def _drained(sender: Sender, routers: StressRouters, clock: Clock) -> None:
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
