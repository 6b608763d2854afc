"""Flame graphs of a router and of a worker under full load, by py-spy: the extra `bench`.

py-spy looks at the process from outside, so that what is measured is not changed. What C code takes counts as the
Python function's that called it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Final

from benchmarks.cost.senders import proven_post, send
from benchmarks.cost.workers import ALONE, CONNECTIONS, worker
from benchmarks.flame_picture import picture, stacks_of
from benchmarks.loads import US, at_once
from benchmarks.processes import ROOT, BenchError, Child
from benchmarks.world import Options, World, pause, world

RATE_HZ: Final = 400
BATCH: Final = 50
CHUNK: Final = 40
"""How many POSTs are written at a time: a call must be young."""
FOLDER: Final = ROOT / "docs" / "images"


async def run(options: Options) -> dict[str, Any]:
    """Draw both graphs into a folder, and return how many samples each was made of."""
    folder = options.picture or FOLDER
    found = {}
    async with world(options) as stage:
        for name, record in (("router", _router), ("worker", _worker)):
            file = stage.folder / f"{name}.txt"
            await record(stage, file)
            stacks = stacks_of(file.read_text("utf-8"))
            found[name] = sum(stacks.values())
            await asyncio.to_thread(_draw, folder / f"flame-{name}.svg", stacks, name)
            print(f"{name}: {found[name]} samples, {folder}/flame-{name}.svg", flush=True)
    return found


def _draw(file: Path, stacks: dict[tuple[str, ...], int], name: str) -> None:
    file.write_text(picture(stacks, f"CPU of a {name} under full load, by py-spy"), "utf-8")


async def _router(stage: World, file: Path) -> None:
    """Record a router while it works on more events than it can do in that time."""
    await stage.reset()
    async with stage.router() as process:
        await at_once(stage, 1000, router=process)
        await stage.sqs("load", count=round(stage.options.seconds * 40_000))
        await _record(process, file, stage.options.seconds)


async def _worker(stage: World, file: Path) -> None:
    """Record a worker that gets full batches, one after the other on each connection."""
    async with worker(stage, ALONE, stage.cores.measured, {}) as (process, port):
        sending = asyncio.create_task(_send(port))
        await pause(1)
        await _record(process, file, stage.options.seconds)
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending


async def _send(port: int) -> None:
    numbers = count()
    while True:
        await send(port, _posts(numbers), CONNECTIONS)


def _posts(numbers: Iterator[int]) -> Iterator[bytes]:
    for _ in range(CHUNK):
        yield proven_post(ALONE, next(numbers), BATCH, f"{US}-")


async def _record(process: Child, file: Path, seconds: float) -> None:
    """Have py-spy write the stacks of a process. Raises BenchError where it can't."""
    beside = Path(sys.executable).parent
    program = shutil.which("py-spy", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        raise BenchError("there is no py-spy: pip install cellrouter[bench]")
    # Only who has the interpreter's lock works: what waits in a system call looks busy to py-spy at times.
    options = ["--gil", "--format", "raw", "--rate", str(RATE_HZ), "--duration", str(max(1, round(seconds)))]
    spying = await asyncio.create_subprocess_exec(
        *(program, "record", "--pid", str(process.process.pid), "--output", str(file), *options),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await spying.communicate()
    if spying.returncode:
        raise BenchError(f"py-spy: {said.decode('utf-8', 'replace')[-500:]}")
