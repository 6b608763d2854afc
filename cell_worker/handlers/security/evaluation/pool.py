"""The processes in which a worker evaluates log objects: under limits, fair between keys, and never outliving it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import msgspec

from cell_worker.api import RejectEvent
from cell_worker.contract.protocol import Reason
from cell_worker.handlers.security.evaluation.analysis import Analysis
from cell_worker.handlers.security.evaluation.places import FairPlaces
from cell_worker.handlers.security.evaluation.wire import (
    LENGTH_BYTES,
    Answer,
    Cap,
    Ended,
    Rejected,
    Request,
    Setup,
    framed,
)
from cell_worker.handlers.security.logs import LogObject
from cell_worker.handlers.security.remedies import REMEDIES
from cell_worker.handlers.security.sigma import RuleSet

PLACES: Final = 2
"""How many objects are evaluated at once. A cell has one CPU as a rule; the second place is for another key."""
CPU_S: Final = 20
"""So much CPU an evaluation may use: more than ten times what a log of the largest size needs."""
WALL_S: Final = 45.0
"""So long an evaluation may take, also on a busy machine. Less than an event's time, so that its end has a reason."""
MEMORY_FACTOR: Final = 4
"""An evaluation may use so many times the largest log: its text, the list of its records, and one of them."""
Reader = Callable[[], Awaitable[bytes]]
"""Reads the object, as it is stored."""
_CHILD: Final = "cell_worker.handlers.security.evaluation.child"
_ANSWER: Final[msgspec.msgpack.Decoder[Answer]] = msgspec.msgpack.Decoder(Answer)


class EvaluationEnded(Exception):
    """An evaluation ended without an answer, which is no proof against the object; the text says how."""


class _Evaluator:
    """One evaluating process, with the rules that it was given."""

    def __init__(self, process: asyncio.subprocess.Process, rules: RuleSet) -> None:
        assert process.stdin is not None, "a pipe"
        assert process.stdout is not None, "a pipe"
        self._process = process
        self._to, self._from = process.stdin, process.stdout
        self.rules = rules

    async def send(self, message: msgspec.Struct) -> None:
        self._to.write(framed(msgspec.msgpack.encode(message)))
        await self._to.drain()

    async def ask(self, request: Request) -> Answer:
        await self.send(request)
        length = int.from_bytes(await self._from.readexactly(LENGTH_BYTES))
        return _ANSWER.decode(await self._from.readexactly(length))

    async def end(self) -> None:
        """Kill the process, and with it the child that it has at work."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._to.close()
        await self._process.wait()


class Evaluators:
    """Evaluates objects in processes of their own, which begin when they are needed first."""

    def __init__(self) -> None:
        self._places = FairPlaces(PLACES)
        self._idle: list[_Evaluator] = []
        self._ending: set[asyncio.Task[None]] = set()

    async def evaluate(
        self,
        partition_key: str,
        source: LogObject,
        read: Callable[[], Awaitable[bytes]],
        max_bytes: int,
        rules: RuleSet,
    ) -> Analysis:
        """Read a log once there is a place for it, and evaluate it. Raises RejectEvent and EvaluationEnded."""
        async with self._places.hold(partition_key):
            stored = await read()
            request = Request(source.bucket, source.key, stored, max_bytes, CPU_S, MEMORY_FACTOR * max_bytes)
            answer = await self._answer(request, rules, source)
        match answer:
            case Rejected(why):
                raise RejectEvent(why)
            case Ended(Cap.OTHER, how):
                raise EvaluationEnded(f"the evaluation of {source} was ended {how}: the machine may be short of memory")
            case Ended(cap):
                raise RejectEvent(_why_ended(source, cap, request))
        return answer

    async def close(self) -> None:
        """End all processes, and what they have at work."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(each.end() for each in idle), *self._ending)

    async def _answer(self, request: Request, rules: RuleSet, source: LogObject) -> Answer:
        evaluator = None
        try:
            async with asyncio.timeout(WALL_S):
                evaluator = await self._evaluator(rules)
                answer = await evaluator.ask(request)
        except BaseException as error:
            if evaluator is not None:
                self._end(evaluator)
            if isinstance(error, TimeoutError):
                raise EvaluationEnded(f"the evaluation of {source} took longer than {WALL_S:g} s") from error
            if isinstance(error, (asyncio.IncompleteReadError, OSError)):
                raise EvaluationEnded(f"the process that evaluates {source} has ended") from error
            raise
        self._idle.append(evaluator)
        return answer

    async def _evaluator(self, rules: RuleSet) -> _Evaluator:
        """Take an idle process that has these rules, or start one. Those that have other rules end."""
        idle, self._idle = self._idle, []
        for each in idle:
            if each.rules is rules:
                self._idle.append(each)
            else:
                self._end(each)
        return self._idle.pop() if self._idle else await _started(rules)

    def _end(self, evaluator: _Evaluator) -> None:
        task = asyncio.create_task(evaluator.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


async def _started(rules: RuleSet) -> _Evaluator:
    # What the child needs to find its modules, and nothing else of the environment: the worker's has secrets.
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PATH": os.environ.get("PATH", "")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", _CHILD),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    evaluator = _Evaluator(process, rules)
    try:
        await evaluator.send(Setup(dict(rules.texts), sorted(REMEDIES)))
    except BaseException:
        process.kill()
        raise
    return evaluator


def _why_ended(source: LogObject, cap: Cap, request: Request) -> Reason:
    used = {
        Cap.CPU: f"{request.cpu_s} s of CPU",
        Cap.MEMORY: f"{request.memory_bytes // 2**20} MiB of memory",
    }.get(cap, "the bytes that an answer may have")
    return f"{source} can't be evaluated: it takes more than {used}"
