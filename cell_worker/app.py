"""The worker's HTTP interface: all paths of the wire contract.

POST /v1/events is raw ASGI, since every event takes this path and a framework's route costs three times the CPU. All
other paths are FastAPI's. A GET is open to everybody, for health checks and Prometheus; everything else has to be a
call that is proven with the cell's secret. Whatever answers a proven call, a GET too, is proven as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, MutableMapping, Sequence
from typing import Any, Final

import msgspec
from fastapi import FastAPI, HTTPException, Request, Response, status
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from cell_worker import clock
from cell_worker.calls import CallChecker, CheckedCall
from cell_worker.chaos import Chaos
from cell_worker.contract import protocol
from cell_worker.contract.http_guard import SAFEGUARDS, AsgiApp, Message, Receive, Send
from cell_worker.contract.open_pages import OpenPages
from cell_worker.contract.proofs import ANSWER_HEADER, AnswerProofs, hash_of, is_call
from cell_worker.contract.protocol import Reason
from cell_worker.contract.strict_reader import StrictReader, Unreadable
from cell_worker.metrics import WorkerMetrics
from cell_worker.runtime import Runtime
from cell_worker.store.store import Store

MAX_COMMAND_BYTES: Final = 64 * 1024
"""A longer body of any other request is refused."""
OPEN_PATHS: Final = (protocol.HEALTHZ_PATH, protocol.READYZ_PATH, protocol.COMPONENTS_PATH, protocol.METRICS_PATH)
_OPEN_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

_batch: Final = StrictReader[protocol.EventBatch]("batch", protocol.EventBatch, protocol.MAX_BATCH_BYTES)
_fault: Final = StrictReader[protocol.Fault]("fault", protocol.Fault, 16 * 1024)
_encoder: Final = msgspec.json.Encoder()


class RefusedError(Exception):
    """A call is refused. `code` is the HTTP status of the answer; the text says why."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        super().__init__(reason)


class CellApp:
    """The ASGI application. It takes batches of events itself and gives every other request to FastAPI."""

    def __init__(
        self, runtime: Runtime, control: AsgiApp, calls: CallChecker, metrics: WorkerMetrics, chaos: Chaos
    ) -> None:
        self._runtime = runtime
        self._control = control
        self._pages = OpenPages(control, OPEN_PATHS, clock.monotonic, clock.sleep)
        self._calls = calls
        self._metrics = metrics
        self._chaos = chaos

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI asks."""
        header = dict(scope["headers"]).get(b"authorization", b"")
        if scope["type"] != "http" or (scope["method"] in _OPEN_METHODS and not is_call(header)):
            await self._pages(scope, receive, send)
            return
        call = self._calls.check(header, scope["method"], _path_of(scope), clock.time_ms())
        if call.fault is not None:
            self._metrics.calls_refused.labels(call.fault.value).inc()
            await _answer(send, status.HTTP_401_UNAUTHORIZED, call.why or "", call.answers)
        elif scope["path"] == protocol.EVENTS_PATH and scope["method"] == "POST":
            await self._events(call, receive, send)
        else:
            await self._command(call, scope, receive, send)

    async def _events(self, call: CheckedCall, receive: Receive, send: Send) -> None:
        try:
            batch = _decode(await _body_of(call, receive, protocol.MAX_BATCH_BYTES))
        except RefusedError as error:
            await _answer(send, error.code, str(error), call.answers)
            return
        gone = asyncio.ensure_future(receive())  # after the body there comes only a disconnect
        try:
            await self._chaos.wait_while_hung(gone)
            self._check(batch)
            await self._stream(batch, call.answers, gone, send)
        except RefusedError as error:
            await _answer(send, error.code, str(error), call.answers)
        finally:
            gone.cancel()

    async def _stream(
        self, batch: protocol.EventBatch, answers: AnswerProofs | None, gone: asyncio.Future[Message], send: Send
    ) -> None:
        assert answers is not None, "a call that is taken is proven"
        results = self._runtime.process(batch, gone)  # no await since the check: the fence can't rise in between
        try:
            await _start(send, status.HTTP_200_OK, b"application/x-ndjson")
            async for together in results:
                await self._chaos.wait_while_hung(gone)
                lines = [self._chaos.line(answers.line(_encoder.encode(result))) for result in together]
                await send({"type": "http.response.body", "body": b"".join(lines), "more_body": True})
        finally:
            await results.aclose()  # type: ignore[attr-defined] # an async generator
        await send({"type": "http.response.body", "body": b""})

    async def _command(self, call: CheckedCall, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Have FastAPI answer, and send its answer as a whole, with its proof."""
        try:
            body = await _body_of(call, receive, MAX_COMMAND_BYTES)
        except RefusedError as error:
            await _answer(send, error.code, str(error), call.answers)
            return
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Message] = []

        async def give() -> Message:
            return whole.pop() if whole else await receive()

        async def take(message: Message) -> None:
            sent.append(message)

        await self._control(scope, give, take)
        start, text = sent[0], b"".join(message.get("body", b"") for message in sent[1:])
        start["headers"] = [*start.get("headers", []), *_proof(call.answers, start["status"], text)]
        await send(start)
        await send({"type": "http.response.body", "body": text})

    def _check(self, batch: protocol.EventBatch) -> None:
        if not self._runtime.owns(batch):
            mine = self._runtime.identity
            state = ", fenced" if self._runtime.fenced.is_set() else ""
            raise RefusedError(
                status.HTTP_409_CONFLICT,
                f"this is {mine.cell_id} generation {mine.generation}{state}, "
                f"not {batch.cell_id} generation {batch.generation}",
            )
        if batch.epoch < self._runtime.fence.epoch:
            raise RefusedError(
                status.HTTP_409_CONFLICT,
                f"what map {batch.epoch} said may be wrong since map {self._runtime.fence.epoch}",
            )
        if self._runtime.draining:
            raise RefusedError(status.HTTP_503_SERVICE_UNAVAILABLE, "draining")


def control_app(
    runtime: Runtime,
    store: Store,
    metrics: WorkerMetrics,
    *,
    chaos: Chaos,
    why_not_ready: Callable[[], Reason | None],
    drain: Callable[[], None],
) -> FastAPI:
    """Make the FastAPI application: health, components, metrics and commands. `drain` begins the worker's end."""
    app = FastAPI(title="cellrouter cell", openapi_url=None)  # FastAPI's own pages load scripts from other hosts

    @app.get(protocol.HEALTHZ_PATH)
    async def healthz() -> dict[str, Any]:
        mine = runtime.identity
        return {"status": "ok", "cell_id": mine.cell_id, "generation": mine.generation}

    @app.get(protocol.READYZ_PATH)
    async def readyz() -> JSONResponse:
        reason = why_not_ready()
        code = status.HTTP_503_SERVICE_UNAVAILABLE if reason else status.HTTP_200_OK
        return JSONResponse({"ready": not reason, "missing": [reason] if reason else []}, code)

    @app.get(protocol.COMPONENTS_PATH)
    async def components() -> Response:
        return Response(_encoder.encode(await runtime.health()), media_type="application/json")

    @app.get(protocol.METRICS_PATH)
    async def metrics_text() -> PlainTextResponse:
        metrics.outbox.set(await store.outbox_size())
        metrics.abandoned_running.set(runtime.abandoned.count())
        return PlainTextResponse(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    _add_commands(app, runtime, chaos=chaos, drain=drain)
    return app


def _add_commands(app: FastAPI, runtime: Runtime, *, chaos: Chaos, drain: Callable[[], None]) -> None:
    """Add what only proven calls reach, which CellApp sees to."""

    @app.post(protocol.DRAIN_PATH, status_code=status.HTTP_202_ACCEPTED)
    async def drain_now() -> dict[str, str]:
        drain()
        return {"status": "draining"}

    @app.post(protocol.COMPONENT_RESTART_PATH)
    async def restart(name: str) -> dict[str, str]:
        component = runtime.components.get(name)
        if component is None:
            raise HTTPException(
                status.HTTP_404_NOT_FOUND, f"no component {name}; there are {', '.join(runtime.components)}"
            )
        try:
            await component.restart()
        except Exception as error:
            why = f"{name} can't be restarted: {type(error).__name__}: {error}"
            raise HTTPException(status.HTTP_503_SERVICE_UNAVAILABLE, why) from error
        return {"restarted": name}

    @app.post(protocol.CHAOS_PATH)
    async def inject(request: Request) -> Response:
        if not chaos.allowed:
            raise HTTPException(status.HTTP_403_FORBIDDEN, "fault injection is off here (CELL_CHAOS)")
        fault = _decode_fault(await request.body(), runtime.components)
        chaos.inject(fault)
        return Response(_encoder.encode(fault), media_type="application/json")


def _path_of(scope: MutableMapping[str, Any]) -> str:
    """Return what was asked for, as it came: a call's proof is of that, not of what it may be normalized to."""
    path: bytes = scope["raw_path"]
    return (path + b"?" + scope["query_string"] if scope["query_string"] else path).decode("latin-1")


async def _body_of(call: CheckedCall, receive: Receive, max_bytes: int) -> bytes:
    """Read the body that the call's header speaks of. Raises RefusedError."""
    try:
        body = await _read(receive, max_bytes)  # which ends in time, as the server cuts whoever sends slowly
    except (ConnectionAbortedError, asyncio.CancelledError) as error:
        text = "the body did not arrive whole and in time"
        raise RefusedError(status.HTTP_408_REQUEST_TIMEOUT, text) from error
    if hash_of(body) != call.body_hash:
        raise RefusedError(status.HTTP_401_UNAUTHORIZED, "the body is another one than the call's proof is of")
    return body


async def _read(receive: Receive, max_bytes: int) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError
        body += message.get("body", b"")
        if len(body) > max_bytes:
            raise RefusedError(status.HTTP_413_CONTENT_TOO_LARGE, f"a body has at most {max_bytes} bytes here")
        if not message.get("more_body"):
            return bytes(body)


def _decode(body: bytes) -> protocol.EventBatch:
    batch = _batch.read(body)
    if isinstance(batch, Unreadable):
        raise RefusedError(status.HTTP_400_BAD_REQUEST, f"not a batch: {batch.why}")
    if len(batch.events) > protocol.MAX_BATCH_EVENTS:
        raise RefusedError(status.HTTP_413_CONTENT_TOO_LARGE, f"a batch has at most {protocol.MAX_BATCH_EVENTS} events")
    return batch


def _decode_fault(body: bytes, components: Collection[str]) -> protocol.Fault:
    """Read a fault. Raises HTTPException when it is none, or when it would do nothing."""
    fault = _fault.read(body)
    if isinstance(fault, Unreadable):
        raise HTTPException(status.HTTP_400_BAD_REQUEST, f"not a fault: {fault.why}")
    if reason := _why_useless(fault, components):
        raise HTTPException(status.HTTP_400_BAD_REQUEST, reason)
    return fault


def _why_useless(fault: protocol.Fault, components: Collection[str]) -> Reason | None:
    if fault.kind is protocol.FaultKind.COMPONENT and fault.seconds and fault.component not in components:
        return f"no component {fault.component!r}; there are {', '.join(components)}"
    if fault.kind is protocol.FaultKind.SLOW and fault.seconds and not fault.delay_s and fault.factor == 1:
        return "slow by nothing: delay_s or factor is needed"
    return None


async def _start(send: Send, code: int, content_type: bytes, more_headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
    headers = [(b"content-type", content_type), *more_headers]
    await send({"type": "http.response.start", "status": code, "headers": headers})


def _proof(answers: AnswerProofs | None, code: int, body: bytes) -> list[tuple[bytes, bytes]]:
    """Return the header that proves a whole answer; none to who may not have called at all."""
    return [] if answers is None else [(ANSWER_HEADER.lower().encode(), answers.whole(code, body).encode())]


async def _answer(send: Send, code: int, reason: str, answers: AnswerProofs | None) -> None:
    body = reason.encode()
    await _start(send, code, b"text/plain; charset=utf-8", (*SAFEGUARDS, *_proof(answers, code, body)))
    await send({"type": "http.response.body", "body": body})
