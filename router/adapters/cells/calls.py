"""Calls instances over HTTP: each call is proven to the instance, and of what it answers only what is proven counts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Final

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from cell_worker.contract import protocol
from cell_worker.contract.process import NONE_LEFT
from cell_worker.contract.proofs import ANSWER_HEADER, TAIL_BYTES, AnswerProofs, CallHeader, hash_of, prove_call
from router.adapters.cells.ends import CellEnds
from router.adapters.keyring import Keyring
from router.adapters.lean_http.connection import LeanAnswer
from router.adapters.lean_http.session import LeanSession
from router.core.errors import CellRefusedError, CellUnavailableError, NoDescriptorError
from router.core.models import Target
from router.core.telemetry import CellTrusted, Distrust, DistrustedCall
from router.ports import Clock

MAX_ANSWER_BYTES: Final = 256 * 1024
"""No honest instance gives a longer answer but to a batch, whose lines are bounded one by one."""
_MAX_LINE_BYTES: Final = protocol.MAX_RESULT_LINE_BYTES + TAIL_BYTES
_OK: Final = 200
_UNAUTHORIZED: Final = 401
_NOT_OURS: Final = (
    "it does not take our calls for ours: its CELL_SECRET is derived from no secret that we have, it is of an older "
    "version, or something else answers at its address; start it anew with its secret (cellrouter cell-secret)"
)


class UnprovenError(ValueError):
    """An answer does not prove that the instance gave it, so nothing in it is believed."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} is not proven with the cell's secret: something else may answer at its address, or changes "
            "answers on the way; see what listens there"
        )


class CellAnswer:
    """An instance's answer, of which nothing is to be believed but what is proven. Raises UnprovenError."""

    def __init__(self, response: aiohttp.ClientResponse | LeanAnswer, proofs: AnswerProofs) -> None:
        self.status = response.status
        self._response = response
        self._proofs = proofs
        self._begun = b""  # a result line whose end has not come yet

    async def lines(self) -> list[bytes | None]:
        """Wait for result lines and return the JSON of those that have come; None for one that is not proven.

        The list is empty at the answer's end. Raises ValueError for a longer line than any honest instance gives.
        """
        while data := await self._response.content.readany():
            data = self._begun + data
            end = data.rfind(b"\n") + 1
            self._begun = data[end:]
            if len(self._begun) > _MAX_LINE_BYTES:
                raise ValueError(f"a result line of more than {_MAX_LINE_BYTES} bytes")
            if end:
                return self._proofs.read_lines(data[:end])
        cut_off, self._begun = self._begun, b""
        return [None] if cut_off else []

    async def whole(self) -> bytes:
        """Read the whole answer. Raises ValueError for a longer one than any honest instance gives."""
        body = bytearray()
        async for chunk in self._response.content.iter_any():
            body += chunk
            if len(body) > MAX_ANSWER_BYTES:
                raise ValueError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        proof = self._response.headers.get(ANSWER_HEADER, "")
        if not self._proofs.proves_whole(proof, self.status, bytes(body)):
            raise UnprovenError(f"an answer with HTTP {self.status}")
        return bytes(body)


class CellCalls:
    """Makes the calls of one process. `tell` gets each that was not trusted, and when a cell is trusted again."""

    def __init__(
        self,
        session: aiohttp.ClientSession | LeanSession,
        keyring: Keyring,
        clock: Clock,
        tell: Callable[[DistrustedCall | CellTrusted], None] = lambda _: None,
        *,
        ends: CellEnds,
    ) -> None:
        self._session = session
        self._ends = ends
        self._keyring = keyring
        self._clock = clock
        self._tell = tell
        self._sender = os.urandom(8).hex()
        self._counts = Counter[str]()  # of calls, by cell
        self._distrusted: set[str] = set()  # cells, and told of

    @asynccontextmanager
    async def call(
        self, method: str, target: Target, path: str, body: bytes, limits: aiohttp.ClientTimeout
    ) -> AsyncIterator[CellAnswer]:
        """Call an instance, and close its answer afterwards. `path` is as it stands in a URL.

        Raises CellRefusedError when it refuses, and CellUnavailableError, also for what goes wrong within the context,
        when it can't be reached or its answer is none.
        """
        keys = self._keyring.keys(target.cell_id, target.secret_id)
        self._counts[target.cell_id] += 1
        audience, number = protocol.instance_name(target.cell_id, target.generation), self._counts[target.cell_id]
        call = CallHeader(self._clock.time_ms(), self._sender, number, hash_of(body), "")
        call = prove_call(keys.call, call, method, audience, path)
        headers = {"Authorization": call.text(), "Content-Type": "application/json"}
        url = _url(self._ends.scheme, target.address, path)
        try:
            async with self._session.request(
                method,
                url,
                data=body,
                headers=headers,
                timeout=limits,
                allow_redirects=False,
                **self._ends.options(target.cell_id),
            ) as response:
                answer = CellAnswer(response, AnswerProofs(keys.answer, call.proof))
                if response.status != _OK:
                    await self._refused(target, answer)
                yield answer
        except (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError, ValueError) as error:
            if getattr(error, "errno", None) in NONE_LEFT:
                raise NoDescriptorError(f"no file descriptor is left to call {target.address} with") from error
            if isinstance(error, UnprovenError):
                self._distrust(target, Distrust.ANSWER, str(error))
            reached = not isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
            raise CellUnavailableError(f"{target.address}: {type(error).__name__}: {error}", reached=reached) from error
        else:
            if self._distrusted and target.cell_id in self._distrusted:
                self._distrusted.discard(target.cell_id)
                self._tell(CellTrusted(target.cell_id))

    async def _refused(self, target: Target, answer: CellAnswer) -> None:
        """Raise CellRefusedError for an answer that is proven, or is one of an instance that can't prove it to us."""
        try:
            why = (await answer.whole())[: protocol.MAX_REASON_CHARS].decode("utf-8", "replace")
        except UnprovenError:
            if answer.status != _UNAUTHORIZED:
                raise
            self._distrust(target, Distrust.CALL, _NOT_OURS)
            raise CellRefusedError(answer.status, _NOT_OURS) from None
        if answer.status == _UNAUTHORIZED:
            self._distrust(target, Distrust.CALL, why)
        raise CellRefusedError(answer.status, why)

    def _distrust(self, target: Target, what: Distrust, why: str) -> None:
        self._tell(DistrustedCall(target.cell_id, what, why, tell=target.cell_id not in self._distrusted))
        self._distrusted.add(target.cell_id)


@lru_cache(maxsize=4096)
def _url(scheme: str, address: str, path: str) -> URL:
    """Return the URL of a path, which takes its time to be read: the same few are called again and again."""
    return URL(f"{scheme}://{address}{path}", encoded=True)
