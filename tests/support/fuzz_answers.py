"""Servers that give one answer to everything, for what reads answers: cells, Redis and SQS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from cell_worker.contract.proofs import ANSWER_HEADER, AnswerProofs, read_call
from router.adapters.aws import sqs_client
from router.adapters.cells.calls import CellCalls
from router.adapters.cells.ends import PLAIN
from router.core.models import Target
from tests.support.fake_clock import FakeClock
from tests.support.keys import cell_keys, ring

CELL: Final = "cell-0002"
TARGET: Final = Target(CELL, 1, "127.0.0.1:1", 1, 1)


class Response:
    """An aiohttp response, and its content, whose body is all there at once, and whose headers prove it."""

    def __init__(self, body: bytes, status: int, proof: str) -> None:
        self.status, self._body = status, body
        self.content, self.headers = self, {ANSWER_HEADER: proof}

    async def readany(self) -> bytes:
        body, self._body = self._body, b""
        return body

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self._body


class Session:
    """An aiohttp session whose every request gets one answer, proven as an instance of CELL does; `lines` line by line.

    A hostile instance proves whatever it says.
    """

    def __init__(self, body: bytes, status: int = 200, *, lines: bool = False) -> None:
        self._body, self._status, self._lines = body, status, lines

    @asynccontextmanager
    async def request(self, *_: Any, headers: Mapping[str, str], **__: Any) -> AsyncIterator[Response]:
        call = read_call(headers["Authorization"].encode())
        assert call is not None, "a router proves its calls"
        answers, body = AnswerProofs(cell_keys("live", CELL).answer, call.proof), self._body
        proof = answers.whole(self._status, body)
        if self._lines:
            body = b"".join(answers.line(line) for line in body.split(b"\n"))
        yield Response(body, self._status, proof)

    def calls(self) -> CellCalls:
        """Return what makes its calls through this session."""
        return CellCalls(cast("Any", self), ring("live"), FakeClock(), ends=PLAIN)


class Forger(Session):
    """A session whose answers prove nothing."""

    @asynccontextmanager
    async def request(self, *_: Any, **__: Any) -> AsyncIterator[Response]:
        yield Response(self._body, self._status, self._body[:32].decode("latin-1"))


class Sqs:
    """A client of SQS to whose every call comes one answer."""

    endpoint_url = "https://known"
    takes_groups = True

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def call(self, *_: Any, **__: Any) -> Mapping[str, Any]:
        try:
            return sqs_client._answer(self._body)
        except sqs_client._FAULTS as error:
            raise sqs_client.SqsError(str(error)) from error
