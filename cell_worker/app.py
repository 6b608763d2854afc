"""The worker's HTTP interface: all paths of the wire contract.

POST /v1/events is raw ASGI, since every event takes this path and a framework's route costs three times the CPU. All
other paths are FastAPI's. A GET is open to everybody, for health checks and Prometheus; a POST needs the environment's
secret.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, MutableMapping
from typing import Annotated, Any, Final

import msgspec
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response, status
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from cell_worker.chaos import Chaos
from cell_worker.contract import protocol
from cell_worker.contract.http_guard import SAFEGUARDS, AsgiApp, Message, Receive, Send
from cell_worker.contract.protocol import Reason
from cell_worker.contract.strict_reader import StrictReader, Unreadable
from cell_worker.metrics import WorkerMetrics
from cell_worker.runtime import Runtime
from cell_worker.store.store import Store

BODY_TIMEOUT_S: Final = 10.0
"""How long the worker waits for a whole request body. A router sends it in one go; a broken connection may never."""

_batch: Final = StrictReader[protocol.EventBatch]("batch", protocol.EventBatch, protocol.MAX_BATCH_BYTES)
_fault: Final = StrictReader[protocol.Fault]("fault", protocol.Fault, 16 * 1024)
_encoder: Final = msgspec.json.Encoder()


class RefusedError(Exception):
    """A batch is refused. `code` is the HTTP status of the answer; the text says why."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        super().__init__(reason)


class CellApp:
    """The ASGI application. It takes batches of events itself and gives every other request to FastAPI."""

    def __init__(self, runtime: Runtime, control: AsgiApp, secret: str, chaos: Chaos) -> None:
        self._runtime = runtime
        self._control = control
        self._secret = secret
        self._chaos = chaos

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI asks."""
        if scope["type"] == "http" and scope["path"] == protocol.EVENTS_PATH and scope["method"] == "POST":
            await self._events(scope, receive, send)
        else:
            await self._control(scope, receive, send)

    async def _events(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        try:
            self._authorize(scope)
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await _read(receive)
            batch = _decode(body)
        except RefusedError as error:
            await _answer(send, error.code, str(error))
            return
        except (ConnectionAbortedError, TimeoutError, asyncio.CancelledError):
            await _answer(send, status.HTTP_408_REQUEST_TIMEOUT, "the body did not arrive whole and in time")
            return
        gone = asyncio.ensure_future(receive())  # after the body there comes only a disconnect
        try:
            await self._chaos.wait_while_hung(gone)
            self._check(batch)
            await self._stream(batch, gone, send)
        except RefusedError as error:
            await _answer(send, error.code, str(error))
        finally:
            gone.cancel()

    async def _stream(self, batch: protocol.EventBatch, gone: asyncio.Future[Message], send: Send) -> None:
        results = self._runtime.process(batch, gone)  # no await since the check: the fence can't rise in between
        try:
            await _start(send, status.HTTP_200_OK, b"application/x-ndjson")
            async for result in results:
                await self._chaos.wait_while_hung(gone)
                line = self._chaos.line(_encoder.encode(result) + b"\n")
                await send({"type": "http.response.body", "body": line, "more_body": True})
        finally:
            await results.aclose()  # type: ignore[attr-defined] # an async generator
        await send({"type": "http.response.body", "body": b""})

    def _authorize(self, scope: MutableMapping[str, Any]) -> None:
        header = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        if not protocol.authorized(header, self._secret):
            raise RefusedError(status.HTTP_401_UNAUTHORIZED, "the environment's secret is missing or wrong")

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
    secret: str,
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

    _add_commands(app, runtime, secret, chaos=chaos, drain=drain)
    return app


def _add_commands(app: FastAPI, runtime: Runtime, secret: str, *, chaos: Chaos, drain: Callable[[], None]) -> None:
    def authorize(authorization: Annotated[str | None, Header()] = None) -> None:
        if not protocol.authorized(authorization, secret):
            raise HTTPException(status.HTTP_401_UNAUTHORIZED, "the environment's secret is missing or wrong")

    secured = [Depends(authorize)]

    @app.post(protocol.DRAIN_PATH, dependencies=secured, status_code=status.HTTP_202_ACCEPTED)
    async def drain_now() -> dict[str, str]:
        drain()
        return {"status": "draining"}

    @app.post(protocol.COMPONENT_RESTART_PATH, dependencies=secured)
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

    @app.post(protocol.CHAOS_PATH, dependencies=secured)
    async def inject(request: Request) -> Response:
        if not chaos.allowed:
            raise HTTPException(status.HTTP_403_FORBIDDEN, "fault injection is off here (CELL_CHAOS)")
        fault = _decode_fault(await request.body(), runtime.components)
        chaos.inject(fault)
        return Response(_encoder.encode(fault), media_type="application/json")


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError
        body += message.get("body", b"")
        if len(body) > protocol.MAX_BATCH_BYTES:
            raise RefusedError(
                status.HTTP_413_CONTENT_TOO_LARGE, f"a batch has at most {protocol.MAX_BATCH_BYTES} bytes"
            )
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


async def _start(send: Send, code: int, content_type: bytes, more: Collection[tuple[bytes, bytes]] = ()) -> None:
    head = [(b"content-type", content_type), *more]
    await send({"type": "http.response.start", "status": code, "headers": head})


async def _answer(send: Send, code: int, reason: str) -> None:
    await _start(send, code, b"text/plain; charset=utf-8", SAFEGUARDS)
    await send({"type": "http.response.body", "body": reason.encode()})
