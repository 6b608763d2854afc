"""An EventSource that fails as a real queue may: in whole, in part, after doing the work, and by delivering twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random  # noqa: TID251 - seeded by the test

from router.core.errors import SourceUnavailableError
from router.core.models import Depth, Draft, Message
from router.ports import EventSource


@dataclass(frozen=True)
class Faults:
    """How often each fault happens, from 0 to 1."""

    refused: float = 0.0  # the call fails and nothing happened
    lost_reply: float = 0.0  # the call fails although its work was done
    partial: float = 0.0  # share of a batch's entries that are not done, and named as failed
    again: float = 0.0  # share of received messages that are visible again immediately
    shuffled: float = 0.0  # share of receives that return messages in another order


class FaultySource:
    """A queue around another one, whose calls fail as often as `faults` says."""

    def __init__(self, inner: EventSource, faults: Faults, chance: Random) -> None:
        self.name = inner.name
        self.fifo = inner.fifo
        self.inner = inner
        self.faults = faults
        self._chance = chance

    def __len__(self) -> int:
        return len(self.inner)  # type: ignore[arg-type] # of those that have one

    async def receive(self, max_messages: int, wait_s: float, visibility_s: int) -> list[Message]:
        """A lost reply leaves the messages hidden until their time is up."""
        self._before("receive")
        messages = await self.inner.receive(max_messages, wait_s, visibility_s)
        self._after("receive")
        if again := [message for message in messages if self._happens(self.faults.again)]:
            await self.inner.set_visibility(again, 0)
        if self._happens(self.faults.shuffled):
            self._chance.shuffle(messages)
        return messages

    async def delete(self, messages: Sequence[Message]) -> list[Message]:
        """Delete all but those that fail in part."""
        self._before("delete")
        failed = [message for message in messages if self._happens(self.faults.partial)]
        failed += await self.inner.delete([message for message in messages if message not in failed])
        self._after("delete")
        return failed

    async def set_visibility(self, messages: Sequence[Message], seconds: int) -> None:
        """Hide all but those that fail in part, which the caller is not told."""
        self._before("set_visibility")
        await self.inner.set_visibility([m for m in messages if not self._happens(self.faults.partial)], seconds)
        self._after("set_visibility")

    async def send(self, drafts: Sequence[Draft]) -> list[int]:
        """Send all but those that fail in part."""
        self._before("send")
        failed = [position for position in range(len(drafts)) if self._happens(self.faults.partial)]
        taken = [position for position in range(len(drafts)) if position not in failed]
        more = await self.inner.send([drafts[position] for position in taken])
        self._after("send")
        return sorted(failed + [taken[position] for position in more])

    async def depth(self) -> Depth:
        """Ask the queue within."""
        return await self.inner.depth()

    async def max_bytes(self) -> int:
        """Ask the queue itself, without faults."""
        return await self.inner.max_bytes()

    def _before(self, call: str) -> None:
        if self._happens(self.faults.refused):
            raise SourceUnavailableError(f"{self.name}: {call} refused")

    def _after(self, call: str) -> None:
        if self._happens(self.faults.lost_reply):
            raise SourceUnavailableError(f"{self.name}: the reply to {call} is lost")

    def _happens(self, rate: float) -> bool:
        return self._chance.random() < rate
