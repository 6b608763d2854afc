"""A proxy before AWS whose calls fail as often as it is told: before they are done, or when only the answer is lost.

It knows three stages of the shop by their calls: a cell's handler writes orders, its consumer follows the stream and
writes what is settled, and its sink delivers sales.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from random import Random  # noqa: TID251 - seeded by the test
from typing import Any, Final, Self

import aiohttp
from aiohttp import web
from yarl import URL

MAX_BODY_BYTES: Final = 16 * 1024 * 1024
_OF_THE_WAY: Final = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding"})
"""Headers that are about one connection, and not about what is sent on it."""


class Stage(StrEnum):
    """A part of the way of an order that can be made to fail."""

    ORDER = "order"
    STREAM = "stream"
    SALES = "sales"


class FaultyAws:
    """Passes calls on to AWS, as an async context manager; in the block, `url` is where it listens."""

    def __init__(self, endpoint: str, rates: Mapping[Stage, float], chance: Random) -> None:
        self.url = ""
        self.stopped = ""  # a table whose consumer gets no answer but errors
        self.failed: Counter[str] = Counter()  # how many calls have failed, by stage and by how
        self._endpoint = endpoint
        self._rates = rates
        self._chance = chance
        self._tables: dict[str, str] = {}  # of iterators of streams
        self._session: aiohttp.ClientSession
        self._runner: web.AppRunner

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw, operation = await request.read(), request.headers.get("x-amz-target", "").partition(".")[2]
        stage, table = stage_of(operation, raw), self._table_of(operation, raw)
        if stage is Stage.STREAM and self.stopped and table == self.stopped:
            return self._failing("stopped", 503)
        fails = stage is not None and self._chance.random() < self._rates.get(stage, 0.0)
        # What a handler is refused in this way it doesn't try again: the event goes back, and comes again.
        status = 400 if stage is Stage.ORDER else 500
        if fails and self._chance.random() < 0.5:
            return self._failing(f"{stage}, not done", status)
        answer = await self._passed_on(request, raw)
        if fails:
            return self._failing(f"{stage}, done", status)
        if operation in {"GetShardIterator", "GetRecords"}:
            self._note_iterators(answer.body, table)
        return answer

    async def _passed_on(self, request: web.Request, raw: bytes) -> web.Response:
        sent = {name: value for name, value in request.headers.items() if name.lower() not in _OF_THE_WAY}
        url = URL(f"{self._endpoint}{request.raw_path}", encoded=True)
        asked = self._session.request(request.method, url, headers=sent, data=raw, allow_redirects=False)
        async with asked as answer:
            headers = {name: value for name, value in answer.headers.items() if name.lower() not in _OF_THE_WAY}
            return web.Response(status=answer.status, headers=headers, body=await answer.read())

    def _failing(self, how: str, status: int) -> web.Response:
        self.failed[how] += 1
        said = {"__type": "InjectedFailure", "message": f"injected: {how}"}
        return web.json_response(said, status=status, content_type="application/x-amz-json-1.0")

    def _table_of(self, operation: str, raw: bytes) -> str:
        """The table whose consumer asks; empty for all other calls."""
        if operation == "GetRecords":
            return self._tables.get(_member(raw, "ShardIterator"), "")
        if operation in {"DescribeStream", "GetShardIterator"}:
            return _member(raw, "StreamArn").partition(":table/")[2].partition("/")[0]
        if operation == "TransactWriteItems":
            return str(json.loads(raw)["TransactItems"][0]["Put"]["TableName"])
        return ""

    def _note_iterators(self, answer: Any, table: str) -> None:
        for name in ("ShardIterator", "NextShardIterator"):
            if iterator := _member(answer, name):
                self._tables[iterator] = table


def stage_of(operation: str, raw: bytes) -> Stage | None:
    """Tell which stage of the shop makes a call; None for what is none of the three."""
    if operation == "PutRecordBatch":
        return Stage.SALES
    if operation in {"DescribeStream", "GetShardIterator", "GetRecords"}:
        return Stage.STREAM
    if operation == "TransactWriteItems":  # only settled lines, and a reader's own places, are the consumer's
        return Stage.STREAM if b'"taken"' in raw or b'"#reader"' in raw else Stage.ORDER
    return None


def _member(raw: Any, name: str) -> str:
    return str(json.loads(raw).get(name, ""))
