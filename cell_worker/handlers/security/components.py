"""The parts of the security workload that can be observed and restarted on their own: its S3 client and its rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from aiobotocore.session import AioSession
from botocore.exceptions import ClientError

from cell_worker.api import RejectEvent, RetryEvent
from cell_worker.handlers.security.aws import client_config, is_transient, retry_when_transient
from cell_worker.handlers.security.sigma import RuleSet

CHECK_TIMEOUT_S: Final = 5.0


class _Client:
    """An S3 client that closes when it is replaced and the last reader has left it."""

    def __init__(self, stack: AsyncExitStack, client: Any) -> None:
        self.client = client
        self._stack = stack
        self._readers = 0
        self._retired = False

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Any]:
        self._readers += 1
        try:
            yield self.client
        finally:
            self._readers -= 1
            await self._close_if_unused()

    async def retire(self) -> None:
        self._retired = True
        await self._close_if_unused()

    async def _close_if_unused(self) -> None:
        if self._retired and not self._readers:
            await self._stack.aclose()


class S3Component:
    """The client that reads log objects. Healthy until a read fails for want of S3; then checks ask S3 itself."""

    name: Final = "s3"

    def __init__(self, session: AioSession) -> None:
        self._session = session
        self._current: _Client | None = None
        self._last_error: str | None = None
        self._last_bucket: str | None = None

    @asynccontextmanager
    async def reading(self, bucket: str) -> AsyncIterator[Any]:
        """A client for one read. Notes whether the read failed for want of S3."""
        assert self._current is not None, "used before start"
        self._last_bucket = bucket
        try:
            async with self._current.reading() as client:
                yield client
        except RetryEvent as error:
            self._last_error = str(error)
            raise
        except RejectEvent:  # S3 answered: it is the object that is at fault
            self._last_error = None
            raise
        self._last_error = None

    async def check(self) -> str:
        """Healthy unless the last read failed and S3 still doesn't answer. Raises RuntimeError with that failure."""
        if self._last_error is None:
            return "reads log objects" if self._last_bucket else "no object read yet"
        if not await self._answers():
            raise RuntimeError(self._last_error)
        self._last_error = None
        return "S3 answers again"

    async def restart(self) -> None:
        """Replace the client. Reads under way finish with the old one."""
        stack = AsyncExitStack()
        client = await stack.enter_async_context(self._session.create_client("s3", config=client_config()))
        old, self._current = self._current, _Client(stack, client)
        if old is not None:
            await old.retire()

    async def close(self) -> None:
        """Close the client; nothing may be read after."""
        if self._current is not None:
            await self._current.retire()
            self._current = None

    async def _answers(self) -> bool:
        """Any answer that isn't a fault of S3 will do: we may not be allowed to see the bucket."""
        if self._current is None:
            return False
        try:
            with retry_when_transient("checking S3"):
                async with asyncio.timeout(CHECK_TIMEOUT_S), self._current.reading() as client:
                    await client.head_bucket(Bucket=self._last_bucket)
        except ClientError as error:
            return not is_transient(error)
        except RetryEvent:
            return False
        return True


class RulesComponent:
    """The rules in use. A restart reloads their folder; a bad folder leaves them as they are."""

    name: Final = "rules"

    def __init__(self, load: Callable[[], RuleSet]) -> None:
        """Loads the rules at once. Raises RuleError."""
        self._load = load
        self.rules = load()

    async def check(self) -> str:
        """How many rules, and which are not supported and why."""
        skipped = self.rules.skipped
        if not skipped:
            return f"{len(self.rules)} rules"
        named = "; ".join(f"{path.rsplit('/', 1)[-1]} ({reason})" for path, reason in skipped)
        return f"{len(self.rules)} rules, {len(skipped)} not supported: {named}"

    async def restart(self) -> None:
        """Reload the folder. Raises RuleError and keeps the old rules when it has a bad file."""
        self.rules = await asyncio.to_thread(self._load)
