"""Several controllers on one environment, one machine and one data directory, as a user runs them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psutil
from redis.asyncio import Redis

from cell_worker.contract import protocol
from cell_worker.contract.redis_client import connect
from router.adapters.clock import SystemClock
from router.adapters.provisioners.subprocess import SubprocessConfig, SubprocessProvisioner
from router.core.models import CellRecord
from tests.support.aio import until
from tests.support.keys import ring
from tests.support.system import Role, System
from tests.support.tcp_proxy import TcpProxy
from tests.support.watcher import Leadership, Watcher, watching


class World:
    """A system whose cells a first controller launched, and more controllers, each behind a proxy of its own."""

    def __init__(self, system: System, redis: Redis, watcher: Watcher, proxy: TcpProxy) -> None:
        self.system = system
        self.redis = redis
        self.watcher = watcher
        self.controllers: dict[int, Role] = {system.leader.process.pid: system.leader}
        self.proxies = {system.leader.process.pid: proxy}  # controller's process id → its proxy

    async def join(self, proxy: TcpProxy) -> None:
        """Start one more controller, which reaches Redis through this proxy."""
        environ = self.system.environ | {"CELLROUTER_REDIS_URL": proxy.url}
        role = Role("controller", environ, self.system.directory)
        self.system._processes.append(role.process)
        self.controllers[role.process.pid], self.proxies[role.process.pid] = role, proxy
        await until(role.answers, "one more controller answers")

    @property
    def leader(self) -> int:
        """The process id of the controller that leads, or led last."""
        return pid_of(self.watcher.leaderships[-1])

    async def leads_after(self, pid: int) -> Leadership:
        """Wait until another controller than this one leads."""

        async def another() -> bool:
            return self.leader != pid

        await until(another, f"another than {pid} leads\n{self.system.logs()}", 60)
        return self.watcher.leaderships[-1]

    async def serving(self, least: Mapping[str, int]) -> None:
        """Wait until each of these cells has this verified generation, or a higher one, in its record."""

        async def all_serve() -> bool:
            cells = [
                msgspec.json.decode(value, type=CellRecord)
                for value in (await self.redis.hgetall(protocol.redis_key(self.system.name, "cells"))).values()
            ]
            found = {cell.cell_id: cell.generation for cell in cells if cell.verified == cell.generation}
            return all(found.get(cell, 0) >= generation for cell, generation in least.items())

        await until(all_serve, f"they serve in {least}\n{self.system.logs()}", 60)

    async def noted(self, action: str, cell_id: str) -> None:
        """Wait until the audit stream says that this was done to the cell, since the watcher began."""

        async def said() -> bool:
            return any((entry.action, entry.cell_id) == (action, cell_id) for entry in self.watcher.audit)

        await until(said, f"{action} {cell_id} is in the audit", 60)

    async def deposed(self, pid: int) -> None:
        """Wait until this controller says, in its log and its metrics, that it no longer leads."""
        role = self.controllers[pid]

        async def says_so() -> bool:
            said = [line for line in logged(role) if line["event"] == "leadership"]
            return not said[-1]["leads"] and await asyncio.to_thread(role.metric, "cellrouter_controller_leads") == 0

        await until(says_so, f"{pid} doesn't lead: {role.log.read_text()[-1500:]}", 60)

    async def follows(self, pid: int) -> None:
        """Wait until this controller no longer leads, and reaches Redis."""
        role = self.controllers[pid]

        async def ready() -> bool:
            return '"status":"ready"' in await asyncio.to_thread(role._get, "/readyz")

        await self.deposed(pid)
        await until(ready, f"{pid} reaches Redis: {role.log.read_text()[-1500:]}", 60)

    async def done(self, key: str) -> None:
        """Send a few events and wait for their effects, which shows that the cells serve."""
        await self.system.send([{"key": f"{key}-{number}"} for number in range(8)])
        await self.system.done(set(self.system.sent))

    def kill_worker(self, cell_id: str) -> None:
        """Kill the only instance of a cell with SIGKILL."""
        self.worker(cell_id).kill()

    def worker(self, cell_id: str) -> psutil.Process:
        """Find the process of a cell's only instance."""
        (found,) = [process for process in workers(self.system.name) if process.environ()["CELL_ID"] == cell_id]
        return found

    async def leave_behind(self, cell_id: str, like: psutil.Process) -> psutil.Process:
        """Start an instance that no controller knows of, as one does that dies before it has written it down."""
        data = self.system.directory / "data"
        config = SubprocessConfig(data / "run", like.environ(), data / "cells", 1, ring(self.system.name).cell_secret)
        provisioner = SubprocessProvisioner(config, SystemClock(), print)
        await provisioner.launch(cell_id, 1)
        process = provisioner._running[cell_id, 1]

        async def is_worker() -> bool:
            return process.cmdline()[1:] == ["-m", "cell_worker"]  # and no longer the shell, which has these words too

        await until(is_worker, "it has noted its process id, and become the worker")
        return process

    async def has_two_workers(self) -> bool:
        """Tell whether exactly two workers run, one for each cell."""
        return len(list(workers(self.system.name))) == 2

    def starts(self) -> Counter[str]:
        """Count by its log how often each generation of each cell was started: `cell-0000.g1` → 1."""
        logs = (self.system.directory / "data" / "run").glob("*.log")
        return Counter({log.stem: log.read_text().count('"event": "started"') for log in logs})


def pid_of(leadership: Leadership) -> int:
    """Return the process id of the controller that led."""
    return int(leadership.owner.split("/")[1])


def logged(role: Role) -> list[dict[str, Any]]:
    """Read the records that a process has logged."""
    return [json.loads(line) for line in role.log.read_text().splitlines() if line.startswith("{")]


def is_gone(process: psutil.Process) -> bool:
    """Tell whether a process has ended, even if its parent has not waited for it."""
    if isinstance(process, psutil.Popen):
        return process.poll() is not None
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def workers(environment: str) -> Iterator[psutil.Process]:
    """List the worker processes of an environment, whoever started them."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("CELL_ENVIRONMENT") == environment:
                yield process


@contextmanager
def nothing_left(system: System) -> Iterator[None]:
    """Kill everything of the system at the end, whatever state it is in."""
    try:
        yield
    finally:
        for process in system._processes:
            process.kill()
            process.wait()
        for worker in workers(system.name):
            worker.kill()


@asynccontextmanager
async def world(redis_url: str, aws_endpoint: str, directory: Path, *, controllers: int) -> AsyncIterator[World]:
    """Start a controller with two cells behind one proxy, a router, and more controllers.

    At the end the cells must serve, two workers run, and no generation have been started twice.
    """
    port = urlsplit(redis_url).port or 0
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(connect(redis_url))
        proxies = [await stack.enter_async_context(TcpProxy(port)) for _ in range(controllers)]
        system = System(proxies[0].url, aws_endpoint, directory, cells=2, fifo=False)
        system.environ["CELLROUTER_CELLS_LAUNCH_TIMEOUT_S"] = "8"
        await stack.enter_async_context(system.running())
        system.environ["CELLROUTER_REDIS_URL"] = redis_url  # for every process that is given no other URL
        stack.enter_context(nothing_left(system))
        watcher = await stack.enter_async_context(watching(redis, system.name, system.environ["CELLROUTER_SECRET"]))
        made = World(system, redis, watcher, proxies[0])
        for proxy in proxies[1:]:
            await made.join(proxy)
        await system.router()
        await made.done("first")
        yield made
        await made.done("last")
        await until(made.has_two_workers, "only what serves runs", 60)
        assert max(made.starts().values()) == 1, made.starts()
        assert watcher.strangers == set()
