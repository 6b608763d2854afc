"""A Redis for the fuzz tests, that says what the test wants it to say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

NOW: Final = b"1700000000000"  # a time in ms


def said(packed: bytes) -> bytes:
    """Return an entry of a hash that holds what a router said."""
    return b'{"at_ms":%s,"said":%s}' % (NOW, msgspec.json.encode(packed))


class FakeRedis:
    """A server whose every script and command gets one answer, except that it tells the time and counts."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self._count = 0

    def register_script(self, _: str) -> Callable[..., Awaitable[Any]]:
        return self.hget

    async def hget(self, *_: Any, **__: Any) -> Any:
        return self._answer

    hgetall = hmget = xrevrange = hdel = hset = hget

    async def hstrlen(self, *_: Any) -> int:
        return len(self._answer)

    async def time(self) -> tuple[int, int]:
        return int(NOW) // 1000, 0

    async def hincrby(self, _key: str, _field: str, by: int) -> int:
        self._count += by
        return self._count
