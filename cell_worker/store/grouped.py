"""Answers questions in groups: group commit, and look-ups that share a query."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
Q = TypeVar("Q")


class Grouped(Generic[Q, T]):
    """Questions that arrive while one group is being answered share the next group."""

    def __init__(
        self, answer: Callable[[Sequence[Q]], Awaitable[Sequence[T]]], fitting: Callable[[Sequence[Q]], int]
    ) -> None:
        self._answer = answer
        self._fitting = fitting  # how many of those that wait, beginning with the first, make the next group
        self._waiting: list[tuple[Q, asyncio.Future[T]]] = []
        self._working: asyncio.Task[None] | None = None

    async def ask(self, question: Q) -> T:
        """Ask in the next group and wait for the answer to this question. Raises what `answer` raises."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return await answer

    async def idle(self) -> None:
        """Wait until no question waits for its answer."""
        if self._working is not None:
            await asyncio.wait([self._working])

    async def _work(self) -> None:
        while self._waiting:
            count = max(1, self._fitting([question for question, _ in self._waiting]))
            group, self._waiting = self._waiting[:count], self._waiting[count:]
            try:
                answers = await self._answer([question for question, _ in group])
            except Exception as error:  # noqa: BLE001 - nobody may wait for ever
                for _, waiting in group:
                    if not waiting.done():  # it is done when its handler was cancelled
                        waiting.set_exception(error)
            else:
                for (_, waiting), answer in zip(group, answers, strict=True):
                    if not waiting.done():
                        waiting.set_result(answer)
