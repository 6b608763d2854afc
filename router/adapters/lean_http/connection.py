"""One connection of the lean HTTP client, and the answers that come on it, one after the other.

Guarantees: an answer holds only what the server sent to its own call. A connection whose server says more than was
asked, or says it wrongly, or has not come to an end, carries no further call. Whatever a server sends, an answer ends
in its last byte or in an error of aiohttp's, and no more than MAX_HEAD_BYTES beside bodies and MAX_WAITING_BYTES of a
body that nobody reads are kept.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Final, cast

import httptools
from aiohttp import ClientOSError, ClientPayloadError, ServerDisconnectedError
from multidict import CIMultiDict

MAX_HEAD_BYTES: Final = 64 * 1024
"""The most that a server may send without a byte of a body: heads, the marks of chunks, and what follows a body."""
MAX_WAITING_BYTES: Final = 256 * 1024
"""How much of a body waits to be read until the server has to wait, too."""
_INFORMATIONAL: Final = range(100, 200)


class LeanAnswer:
    """A server's answer to one call, read as it comes, with the names that aiohttp has."""

    __slots__ = ("_chunks", "_error", "_waiter", "_waiting", "complete", "fields", "head_done", "resume", "status")

    def __init__(self) -> None:
        self.status = 0
        self.fields: list[tuple[bytes, bytes]] = []  # the headers, as they came
        self.head_done = False
        self.complete = False  # its last byte has come
        self.resume: Callable[[], None] | None = None  # goes on reading from the server, which has to wait
        self._chunks: list[bytes] = []
        self._waiting = 0  # bytes in these
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def headers(self) -> CIMultiDict[str]:
        """Return the headers, which are found whatever their case is."""
        found = CIMultiDict[str]()
        for name, value in self.fields:
            found.add(name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))
        return found

    @property
    def content(self) -> LeanAnswer:
        """Return what reads the body: the answer itself."""
        return self

    async def readany(self) -> bytes:
        """Wait for more of the body, and return all of it that has come; nothing at its end. Raises what broke it."""
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self.complete:
                return b""
            await self._wait()
        chunks, self._chunks, self._waiting = self._chunks, [], 0
        if self.resume is not None:
            self.resume()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def iter_any(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""
        while chunk := await self.readany():
            yield chunk

    async def head(self) -> None:
        """Wait for the head. Raises what broke it."""
        while not self.head_done:
            if self._error is not None:
                raise self._error
            await self._wait()

    def feed(self, chunk: bytes) -> bool:
        """Take some of the body; whether too much of it waits by now."""
        self._chunks.append(chunk)
        self._waiting += len(chunk)
        return self._waiting > MAX_WAITING_BYTES

    def fail(self, error: Exception) -> None:
        """End it with an error, unless it has ended."""
        if not self.complete and self._error is None:
            self._error = error
        self.wake()

    def wake(self) -> None:
        """Let who waits see what has come."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


class LeanConnection(asyncio.Protocol):
    """One connection, which carries one call at a time.

    `ended_late` is told when an answer that was left early has come to its end, and `lost` when the connection has.
    """

    def __init__(self, ended_late: Callable[[LeanConnection], None], lost: Callable[[LeanConnection], None]) -> None:
        self._tell_ended_late = ended_late
        self._tell_lost = lost
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._answer: LeanAnswer | None = None  # of the call under way
        self._left = False  # nobody reads the rest of the answer
        self._interim = False  # the head is that of an answer before the answer, such as 103
        self._until_end = False  # the body ends with the connection
        self._keep = False  # the server keeps the connection
        self._paused = False
        self._quiet_bytes = 0  # since the last byte of a body
        self.spoilt = False  # it carries no further call
        self.idle_since = 0.0  # by the loop's clock

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, and have the kernel find out when the server's machine is gone."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's don't derive from it
        if (own := transport.get_extra_info("socket")) is not None:
            with suppress(OSError):
                own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def call(self, request: bytes) -> LeanAnswer:
        """Send a whole request, and return the answer that is to come."""
        assert self._transport is not None and self._answer is None, "it carries one call at a time"  # noqa: PT018
        self._answer = answer = LeanAnswer()
        self._left = self._interim = self._until_end = self._keep = False
        self._quiet_bytes = 0
        if self._transport.is_closing():
            self.fail(ServerDisconnectedError())
        else:
            self._transport.write(request)
        return answer

    def fail(self, error: Exception) -> None:
        """Break the connection, and end its answer with this error."""
        answer, self._answer = self._answer, None
        self.abort()
        if answer is not None:
            answer.fail(error)

    def leave(self) -> bool:
        """End the reading of the answer; whether the connection is free for the next call, or may be later on."""
        answer = self._answer
        if answer is None:
            return not self.spoilt
        if answer.complete:
            self._answer = None
            return not self.spoilt
        self._left = True
        self._quiet_bytes = 0
        self._resume()
        return False

    def abort(self) -> None:
        """Cut the connection at once, whatever was not sent yet."""
        self.spoilt = True
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close the connection in order: by TLS, its end is told."""
        self.spoilt = True
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Read what has come, and cut whoever says what is no answer."""
        answer, parser = self._answer, self._parser
        if answer is None or answer.complete or parser is None:
            self.abort()  # nobody has asked
            return
        self._quiet_bytes += len(data)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._broken(answer, f"not an answer of HTTP: {str(error)[:200]}")
            return
        if self._quiet_bytes > MAX_HEAD_BYTES:
            self._broken(answer, f"more than {MAX_HEAD_BYTES} bytes beside the body")
        elif self._left and answer.complete:
            self._answer = None
            self._tell_ended_late(self)
        else:
            answer.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the answer under way: with its end, where only the connection's end tells it, or else with an error."""
        self.spoilt = True
        self._tell_lost(self)
        self._parser = None  # which knows this object
        answer, self._answer = self._answer, None
        if answer is None or answer.complete:
            return
        if answer.head_done and self._until_end and exc is None:
            answer.complete = True
            answer.wake()
        elif answer.head_done:
            answer.fail(ClientPayloadError("the answer's end is missing"))
        elif isinstance(exc, OSError):
            answer.fail(ClientOSError(*exc.args))
        else:
            answer.fail(ServerDisconnectedError())

    def on_message_begin(self) -> None:
        """Heed what follows an answer: it is asked for by nobody."""
        if self._answer is None or self._answer.complete:
            self.spoilt = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; what follows a body is none."""
        if self._answer is not None and not self._answer.head_done:
            self._answer.fields.append((name, value))

    def on_headers_complete(self) -> None:
        """Note what the head says of the answer and of the connection."""
        answer, parser = self._answer, self._parser
        if answer is None or parser is None or answer.complete:
            return
        status = parser.get_status_code()
        self._interim = status in _INFORMATIONAL
        if self._interim:
            answer.fields.clear()
            return
        answer.status, answer.head_done = status, True
        self._keep = parser.should_keep_alive()
        framed = {b"content-length", b"transfer-encoding"}
        self._until_end = not any(name.lower() in framed for name, _ in answer.fields)

    def on_body(self, body: bytes) -> None:
        """Hand on some of the body; when too much of it waits, the server waits, too."""
        answer = self._answer
        if answer is None or answer.complete:
            return
        if self._left:
            return  # and counts as quiet: who sends on and on is cut
        self._quiet_bytes = 0
        if answer.feed(body) and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
            answer.resume = self._resume

    def on_message_complete(self) -> None:
        """End the answer, unless it was one before the answer."""
        answer = self._answer
        if answer is None or answer.complete or self._interim:
            return
        answer.complete = True
        assert self._transport is not None, "something has come on it"
        if not self._keep or self._transport.get_write_buffer_size():
            self.spoilt = True

    def _broken(self, answer: LeanAnswer, why: str) -> None:
        """Take nothing more from a server that speaks wrongly. An answer that was complete before stays so."""
        self.abort()
        answer.fail(ClientPayloadError(why))

    def _resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
