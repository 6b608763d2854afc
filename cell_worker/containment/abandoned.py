"""What is done about a handler that goes on after its time: it is cancelled, and given up when that does not end it.

Guarantees:

- An event whose run is given up has its answer `failed` and its place back GRACE_S after its time at the latest.
- An abandoned run commits nothing and emits nothing, however it ends, and no second run of its event begins beside it.
- Before abandoned runs take too much of the worker from the others, `too_many` is set: the worker ends in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar

from cell_worker import clock
from cell_worker.containment.children import leave_if_child
from cell_worker.contract.protocol import Reason

T = TypeVar("T")
P = ParamSpec("P")

GRACE_S: Final = 1.0
"""How long a handler may take to end after it was cancelled. A router waits 5 s longer than the event's time."""
FEWEST_ALLOWED: Final = 4
"""A worker with few places has so many abandoned runs at least before it ends, so that one bad event doesn't end it."""
_MANY_CALLS: Final = 32  # of one event in threads: time to forget those that have ended


@dataclass(slots=True, eq=False)
class Run:
    """One call of the handler, or of its canary: its task, and the calls that it has made in threads."""

    task: asyncio.Task[Any] = field(init=False)
    began_at: float = 0.0  # by the monotonic clock
    abandoned: bool = False  # it has been answered without it: whatever it still does is for nothing
    calls: list[Future[Any]] = field(default_factory=list)

    def called(self, call: Future[Any]) -> None:
        """Remember a call in a thread, and forget those that have ended when there are many."""
        if len(self.calls) >= _MANY_CALLS:
            self.calls = [each for each in self.calls if not each.done()]
        self.calls.append(call)

    def busy_threads(self) -> int:
        """How many of its calls in threads have not ended yet."""
        return sum(not call.done() for call in self.calls)

    def goes_on(self) -> bool:
        """Whether its task or one of its calls in threads has not ended yet."""
        return not self.task.done() or self.busy_threads() > 0


current_run: Final[ContextVar[Run | None]] = ContextVar("current_run", default=None)
"""The run that the present task belongs to, also in tasks that the handler has started."""


class TimeLimit:
    """Cancels the task that enters it after some seconds, and gives it up when the task is still in it later on.

    Raises TimeoutError, which says what took too long, when the task ends because of that cancellation. `give_up` is
    told why.
    """

    __slots__ = ("_cancelling", "_give_up", "_loop", "_seconds", "_task", "_timer", "_what", "expired")

    def __init__(self, seconds: float, what: str, give_up: Callable[[Reason], None]) -> None:
        self._seconds = seconds
        self._what = what
        self._give_up = give_up
        self.expired = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None, "only a task has a time limit"
        self._task, self._cancelling = task, task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._seconds, self._expire)
        return self

    def _expire(self) -> None:
        self.expired = True
        self._task.cancel()
        self._timer = self._loop.call_later(
            GRACE_S, self._give_up, f"{self._why()}, and goes on after its cancellation"
        )

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._timer.cancel()
        if self.expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError(self._why()) from error

    def _why(self) -> Reason:
        return f"{self._what} took longer than {self._seconds:g} s"


class HandlerThreads(ThreadPoolExecutor):
    """The threads of `asyncio.to_thread`. It knows which run each call belongs to."""

    def __init__(self, concurrency: int) -> None:
        # Abandoned runs may hold as many threads as there are places; each place has one all the same.
        super().__init__(max(32, 2 * concurrency, FEWEST_ALLOWED + concurrency), thread_name_prefix="handler")
        self.size = self._max_workers

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call a function in a thread, and let the run that asks for it remember the call."""
        call = super().submit(_in_this_process, partial(fn, *args, **kwargs))
        if (run := current_run.get()) is not None:
            run.called(call)
        return call


class AbandonedRuns:
    """The runs that go on though their events have been answered."""

    def __init__(self, concurrency: int, threads: int) -> None:
        self._allowed = max(FEWEST_ALLOWED, concurrency)
        self._threads = threads
        self._runs: dict[Hashable, Run] = {}
        self.too_many = asyncio.Event()

    def add(self, key: Hashable, run: Run) -> None:
        """Count a run that goes on after its time, and see whether there are too many of such by now."""
        self._runs[key] = run
        if self.why_too_many() is not None:
            self.too_many.set()

    def count(self) -> int:
        """How many of them still run."""
        self._runs = {key: run for key, run in self._runs.items() if run.goes_on()}
        return len(self._runs)

    def why_not_again(self, key: Hashable) -> Reason | None:
        """Return why an event can't be tried now: its last run still goes on. None when it can."""
        run = self._runs.get(key)
        if run is None or not run.goes_on():
            return None
        since_s = clock.monotonic() - run.began_at
        return f"an earlier attempt still runs here, for {since_s:.0f} s now: the handler goes on after it is cancelled"

    def why_too_many(self) -> Reason | None:
        """Return why the worker should end: they take the places or the threads of others. None while they don't."""
        if (count := self.count()) >= self._allowed:
            return f"{count} handlers go on after their time, and {self._allowed} are too many for this worker"
        if (held := sum(run.busy_threads() for run in self._runs.values())) >= self._threads:
            return f"handlers that go on after their time hold {held} of the worker's {self._threads} threads"
        return None


def _in_this_process(call: Callable[[], T]) -> T:
    """Call a function. A child that it forks and that returns from it ends here."""
    try:
        return call()
    finally:
        leave_if_child()
