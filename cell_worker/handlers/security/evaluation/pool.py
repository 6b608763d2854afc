"""The processes in which a worker evaluates log objects: under limits, fair between keys, and never outliving it.

Ordinary logs and slow ones have places of their own. A log is ordinary until its evaluation takes more CPU than any
ordinary one: then it is ended, and begins anew among the slow ones, which have the CPU that is left. Large objects
begin there, and so do, for a while, all logs of a key that has had a slow one. So no slow log takes a place or the CPU
of an ordinary one, however many keys send such.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

import msgspec

from cell_worker import clock
from cell_worker.api import RejectEvent, RetryEvent
from cell_worker.contract.protocol import Reason
from cell_worker.handlers.security.evaluation.analysis import Analysis
from cell_worker.handlers.security.evaluation.places import FairPlaces
from cell_worker.handlers.security.evaluation.wire import (
    LENGTH_BYTES,
    MAX_ANSWER_BYTES,
    Answer,
    Cap,
    Ended,
    Rejected,
    Reply,
    Request,
    Setup,
    SignedGet,
    Unread,
    length_of,
)
from cell_worker.handlers.security.logs import LogObject
from cell_worker.handlers.security.remedies import REMEDIES
from cell_worker.handlers.security.sigma import RuleSet

PLACES: Final = 2
"""How many ordinary logs are evaluated at once, of one key one fewer."""
SLOW_PLACES: Final = 1
ALLOWED_S: Final = 0.5
"""So much CPU a key's ordinary logs may take at once. A key that has taken more has its turn among the slow ones."""
ALLOWED_A_SECOND: Final = 0.5
"""So much of it comes back each second."""
SLOW_COSTS_S: Final = 15.0
"""A log that was ordinary until it took too long costs its key so much: a minute among the slow ones."""
MAX_KEYS: Final = 10_000
"""So many keys are remembered for that."""
WAIT_S: Final = 10.0
"""So long a log waits for its turn. After that its event comes again later, and does not count as tried."""
CPU_S: Final = 20
"""So much CPU an evaluation may use: more than ten times what a log of the largest size needs."""
WALL_S: Final = 45.0
"""So long an evaluation may take, also on a busy machine. Less than an event's time, so that its end has a reason."""
MEMORY_FACTOR: Final = 4
"""An evaluation may use so many times the largest log: its text, the list of its records, and one of them."""
Limits = tuple[int, int, int, int]
"""Of one evaluation: the bytes of the object and of the log, the seconds of CPU, and the bytes of memory."""
Content = bytes | SignedGet
"""An object as it is stored, or the request by which the evaluating process reads it."""
NICE: Final = 5
"""How far all evaluators stand back behind the worker's own loop, by which its neighbours' events go on."""
MOST_NICE: Final = 19
"""How far the logs of a key stand back that has taken all its CPU."""
# It stands back from its first instruction: its imports take half a second of CPU.
_CHILD: Final = f"import os; os.nice({NICE}); from cell_worker.handlers.security.evaluation.child import main; main()"
_AROUND_ANSWER_BYTES: Final = 1024  # of a reply
_REPLY: Final = msgspec.msgpack.Decoder(Reply)
_ANSWER: Final[msgspec.msgpack.Decoder[Answer]] = msgspec.msgpack.Decoder(Answer)


class EvaluationEnded(Exception):
    """An evaluation ended without an answer, which is no proof against the object; the text says how."""


class NotReadError(Exception):
    """The evaluating process could not read the object; the text says why."""


def read_reply(raw: bytes) -> tuple[Answer, float]:
    """Read an evaluator's answer and the seconds of CPU that it took. Raises EvaluationEnded for what is none."""
    try:
        reply = _REPLY.decode(raw)
        return _ANSWER.decode(reply.answer), reply.cpu_s
    except (ValueError, RecursionError) as error:  # DecodeError is a ValueError
        raise EvaluationEnded(f"the evaluator's answer can't be read: {error}") from error


class _Evaluator:
    """One evaluating process, with the rules that it was given. It is for ordinary logs or for slow ones."""

    def __init__(self, process: asyncio.subprocess.Process, rules: RuleSet, *, slow: bool) -> None:
        assert process.stdin is not None, "a pipe"
        assert process.stdout is not None, "a pipe"
        self._process = process
        self._to, self._from = process.stdin, process.stdout
        self.rules = rules
        self.slow = slow

    async def send(self, message: msgspec.Struct) -> None:
        encoded = msgspec.msgpack.encode(message)
        self._to.write(length_of(encoded))
        self._to.write(encoded)  # apart: a large one is not copied once more
        await self._to.drain()

    async def ask(self, request: Request) -> tuple[Answer, float]:
        await self.send(request)
        length = int.from_bytes(await self._from.readexactly(LENGTH_BYTES))
        if length > MAX_ANSWER_BYTES + _AROUND_ANSWER_BYTES:
            raise EvaluationEnded(f"the evaluator's answer has {length} bytes")
        return read_reply(await self._from.readexactly(length))

    async def end(self) -> None:
        """Kill the process, and with it the child that it has at work."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._to.close()
        await self._process.wait()


class Evaluators:
    """Evaluates objects in processes of their own, which trust the certificates in a file when they read one."""

    def __init__(self, certificates: str, max_object_bytes: int) -> None:
        self._certificates = certificates
        self._max_object_bytes = max_object_bytes
        self._ordinary, self._slow = FairPlaces(PLACES), FairPlaces(SLOW_PLACES)
        self._taken: dict[str, tuple[float, float]] = {}  # by key: seconds of CPU, and when that was true
        self._idle: list[_Evaluator] = []
        self._ending: set[asyncio.Task[None]] = set()

    async def start(self, rules: RuleSet) -> None:
        """Start the processes before they are needed: whoever waited for one would wait for a second."""
        for place in range(PLACES + SLOW_PLACES):
            self._idle.append(await self._started(rules, slow=place >= PLACES))

    async def evaluate(
        self,
        partition_key: str,
        source: LogObject,
        content: Callable[[], Awaitable[Content]],
        max_bytes: int,
        rules: RuleSet,
        *,
        large: bool = False,
    ) -> Analysis:
        """Evaluate a log when its turn has come. Raises RejectEvent, RetryEvent, EvaluationEnded and NotReadError."""
        limits = (self._max_object_bytes, max_bytes, CPU_S, MEMORY_FACTOR * max_bytes)
        answer: Answer = Ended(Cap.ORDINARY, "")
        if not large and not self.is_slow(partition_key):
            async with _turn(self._ordinary, partition_key, source):
                if not self.is_slow(partition_key):  # since it waited
                    nice = self._nice(partition_key)
                    answer, cpu_s = await self._answer(source, await content(), limits, rules, nice)
                    out_of_time = isinstance(answer, Ended) and answer.cap is Cap.ORDINARY
                    self._charge(partition_key, SLOW_COSTS_S if out_of_time else cpu_s)
        if isinstance(answer, Ended) and answer.cap is Cap.ORDINARY:
            async with _turn(self._slow, partition_key, source):
                answer, _ = await self._answer(source, await content(), limits, rules, None)
        match answer:
            case Rejected(why):
                raise RejectEvent(why)
            case Unread(why):
                raise NotReadError(why)
            case Ended(Cap.OTHER, how):
                raise EvaluationEnded(f"the evaluation of {source} was ended {how}: the machine may be short of memory")
            case Ended(cap):
                raise RejectEvent(_why_ended(source, cap, MEMORY_FACTOR * max_bytes))
        return answer

    def is_slow(self, partition_key: str) -> bool:
        """Whether a key has used so much CPU lately that its logs have their turn among the slow ones."""
        return self._taken_by(partition_key) > ALLOWED_S

    def _nice(self, partition_key: str) -> int:
        further = MOST_NICE - NICE
        return min(further, round(further * self._taken_by(partition_key) / ALLOWED_S))

    def _taken_by(self, partition_key: str) -> float:
        taken_s, at = self._taken.get(partition_key, (0.0, 0.0))
        return max(0.0, taken_s - ALLOWED_A_SECOND * (clock.monotonic() - at))

    def _charge(self, partition_key: str, cpu_s: float) -> None:
        """Note what a key's log has taken. Keys that have taken little by now are forgotten when there are many."""
        taken_s = self._taken_by(partition_key) + cpu_s
        self._taken[partition_key] = (taken_s, clock.monotonic())
        if len(self._taken) > MAX_KEYS:
            self._taken = {key: taken for key, taken in self._taken.items() if self.is_slow(key)}

    async def close(self) -> None:
        """End all processes, and what they have at work."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(each.end() for each in idle), *self._ending)

    async def _answer(
        self, source: LogObject, content: Content, limits: Limits, rules: RuleSet, nice: int | None
    ) -> tuple[Answer, float]:
        """Have an evaluator evaluate a log. `nice` is for ordinary logs; slow ones have None."""
        slow = nice is None
        request = Request(source.bucket, source.key, content, *limits, slow, nice or 0)
        evaluator = None
        try:
            async with asyncio.timeout(WALL_S):
                evaluator = await self._evaluator(rules, slow=slow)
                answer = await evaluator.ask(request)
        except BaseException as error:
            if evaluator is not None:
                self._end(evaluator)
            if isinstance(error, TimeoutError):
                # It has had the CPU that others left: that there was none is no fault of the log.
                why = f"the evaluation of {source} took longer than {WALL_S:g} s: the CPU or S3 is busy"
                raise RetryEvent(why) from error
            if isinstance(error, (asyncio.IncompleteReadError, OSError)):
                raise EvaluationEnded(f"the process that evaluates {source} has ended") from error
            raise
        self._idle.append(evaluator)
        return answer

    async def _evaluator(self, rules: RuleSet, *, slow: bool) -> _Evaluator:
        """Take an idle process that has these rules, or start one. Those that have other rules end."""
        for each in [each for each in self._idle if each.rules is not rules]:
            self._idle.remove(each)
            self._end(each)
        for each in self._idle:
            if each.slow is slow:
                self._idle.remove(each)
                return each
        return await self._started(rules, slow=slow)

    def _end(self, evaluator: _Evaluator) -> None:
        task = asyncio.create_task(evaluator.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _started(self, rules: RuleSet, *, slow: bool) -> _Evaluator:
        # What it needs to find its modules, and nothing else of the environment: the worker's has secrets.
        environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PATH": os.environ.get("PATH", "")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _CHILD),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
        )
        evaluator = _Evaluator(process, rules, slow=slow)
        try:
            await evaluator.send(Setup(dict(rules.texts), sorted(REMEDIES), self._certificates, slow))
        except BaseException:
            process.kill()
            raise
        return evaluator


@asynccontextmanager
async def _turn(places: FairPlaces, partition_key: str, source: LogObject) -> AsyncIterator[None]:
    """Wait for a place and hold it. Raises RetryEvent when there is none for long."""
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(WAIT_S):
                await stack.enter_async_context(places.hold(partition_key))
        except TimeoutError as error:
            raise RetryEvent(f"{source} waits for other logs of this cell that take long; it is tried later") from error
        yield


def _why_ended(source: LogObject, cap: Cap, memory_bytes: int) -> Reason:
    used = {
        Cap.CPU: f"{CPU_S} s of CPU",
        Cap.MEMORY: f"{memory_bytes // 2**20} MiB of memory",
    }.get(cap, "the bytes that an answer may have")
    return f"{source} can't be evaluated: it takes more than {used}"
