"""The components of the security workload, each with a check and a restart of its own: its S3 client and its rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Final

from aiobotocore.session import AioSession
from botocore.exceptions import ClientError
from prometheus_client import Gauge

from cell_worker.api import Cell, RejectEvent, RetryEvent
from cell_worker.contract.aws_session import is_object_denied
from cell_worker.handlers.security.aws import (
    FAULTY_REQUESTS,
    ObjectDenied,
    client_config,
    error_code,
    is_transient,
    retry_when_transient,
    trusted_certificates,
)
from cell_worker.handlers.security.evaluation.lending import LendingSession, Lent, lending
from cell_worker.handlers.security.evaluation.wire import SignedGet
from cell_worker.handlers.security.logs import CHUNK_BYTES, LogObject, check_size
from cell_worker.handlers.security.sigma import RuleSet

CHECK_TIMEOUT_S: Final = 5.0


class _SharedClient:
    """An S3 client that closes once it has been retired and its last reader has left."""

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


def _named(source: LogObject) -> dict[str, str]:
    version = {"VersionId": source.version_id} if source.version_id else {}
    return {"Bucket": source.bucket, "Key": source.key, **version}


@contextmanager
def _told_apart(source: LogObject) -> Iterator[None]:
    """Turn what a read raises into RejectEvent, where the object or its name is at fault, and else into RetryEvent."""
    try:
        with retry_when_transient(f"reading {source}"):
            yield
    except ClientError as error:
        code = error_code(error)
        why = f"{source} can't be read: {code}: {error.response.get('Error', {}).get('Message', '')}"
        raise ObjectDenied(why) if is_object_denied(code) else RejectEvent(why) from error
    except FAULTY_REQUESTS as error:
        raise RejectEvent(f"{source} is not a name that S3 accepts: {error}") from error


class S3Component:
    """The S3 client that reads log objects. After a read that S3 failed, the checks ask S3 until it answers again."""

    name: Final = "s3"

    def __init__(self, session: AioSession) -> None:
        self._session = session
        self.certificates = trusted_certificates(session)
        self._current: _SharedClient | None = None
        self._why_failing: str | None = None
        self._last_bucket: str | None = None

    async def fetch(self, source: LogObject, max_bytes: int) -> bytes:
        """Read an object. Raises TooLarge, RejectEvent when it is gone, and RetryEvent for other faults."""
        async with self._reading(source.bucket) as client:
            with _told_apart(source):
                reply = await client.get_object(**_named(source))
                async with reply["Body"] as body:
                    check_size(source, int(reply.get("ContentLength") or 0), max_bytes)
                    stored = bytearray()
                    async for chunk in body.iter_chunks(CHUNK_BYTES):
                        stored += chunk
                        check_size(source, len(stored), max_bytes)
                    return bytes(stored)

    async def lend(self, source: LogObject) -> SignedGet:
        """Sign a request for an object, for another process to send. Raises RejectEvent and RetryEvent."""
        assert self._current is not None, "used before start"
        async with self._current.reading() as client:
            with _told_apart(source), lending():
                try:
                    await client.get_object(**_named(source))
                except Lent as lent:
                    return lent.request
        raise AssertionError("the request was sent")

    @asynccontextmanager
    async def _reading(self, bucket: str) -> AsyncIterator[Any]:
        """Lend the client for one read. Remembers for the next check whether S3 failed the read."""
        assert self._current is not None, "used before start"
        self._last_bucket = bucket
        try:
            async with self._current.reading() as client:
                yield client
        except (RejectEvent, ObjectDenied):  # S3 has answered, and the object or its policy is at fault
            self._why_failing = None
            raise
        except RetryEvent as error:
            self._why_failing = str(error)
            raise
        self._why_failing = None

    async def check(self) -> str:
        """Say whether S3 works. Raises RuntimeError when it failed the last read and still doesn't answer."""
        if self._why_failing is None:
            return "reads log objects" if self._last_bucket else "no object read yet"
        if not await self._answers():
            raise RuntimeError(self._why_failing)
        self._why_failing = None
        return "S3 answers again"

    async def restart(self) -> None:
        """Replace the client. A read that has begun finishes with the old one."""
        stack = AsyncExitStack()
        config = client_config(LendingSession)
        client = await stack.enter_async_context(
            self._session.create_client("s3", config=config, verify=self.certificates)
        )
        old, self._current = self._current, _SharedClient(stack, client)
        if old is not None:
            await old.retire()

    async def close(self) -> None:
        """Close the client once its last read has finished. Nothing may be read afterwards."""
        if self._current is not None:
            await self._current.retire()
            self._current = None

    async def _answers(self) -> bool:
        """Whether S3 answers. A refusal counts as an answer, since we may not be allowed to see the bucket."""
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
    """The rules in use. A restart reloads their folder, and keeps the old rules when the folder has a bad file."""

    name: Final = "rules"

    def __init__(self, load: Callable[[], RuleSet], cell: Cell) -> None:
        """Load the rules for the first time. Raises RuleError."""
        self._load = load
        self._cell = cell
        self._files = Gauge(
            "cell_security_rules", "Rules that are used, unsupported or bad.", ["state"], registry=cell.metrics
        )
        self._use(load())

    async def check(self) -> str:
        """Say how many rules are in use, and which ones are bad or not supported, and why."""
        skipped, bad = self.rules.skipped, self.rules.bad
        parts = [f"{len(self.rules)} rules"]
        parts += [f"{len(skipped)} not supported: {_listed(skipped)}"] if skipped else []
        parts += [f"{len(dict(bad))} bad files left out: {_listed(bad)}"] if bad else []
        return ", ".join(parts)

    async def restart(self) -> None:
        """Reload the rules. Raises RuleError when a file is bad that may not be, and keeps the old rules then."""
        self._use(await asyncio.to_thread(self._load))

    def _use(self, rules: RuleSet) -> None:
        self.rules = rules
        for path, reason in rules.skipped:
            self._cell.log.warning("rule not supported", path=path, reason=reason)
        for path, error in rules.bad:
            self._cell.log.error(
                "bad rule file left out: nothing is found by its rules; mend it", path=path, error=error
            )
        for state, count in (("used", len(rules)), ("unsupported", len(rules.skipped)), ("bad", len(dict(rules.bad)))):
            self._files.labels(state).set(count)


def _listed(reasons: Sequence[tuple[str, str]]) -> str:
    return "; ".join(f"{path.rsplit('/', 1)[-1]} ({reason})" for path, reason in reasons)
