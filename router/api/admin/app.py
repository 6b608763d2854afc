"""The Admin API as an ASGI application: everything under `/v1`, on routers and controllers."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, MutableMapping, Sequence
from typing import Any, Final, Protocol

import msgspec
from starlette.exceptions import HTTPException

from router.api.admin.callers import Gate, headers_of
from router.api.admin.openapi import description
from router.api.admin.problems import PROBLEM_JSON, ProblemError, problem
from router.api.admin.surface import PREFIX, Asked, Operation
from router.core.callers import ApiCaller
from router.core.errors import (
    BadEditError,
    CellRouterError,
    NoSuchCellError,
    NothingToChangeError,
    PlanChangedError,
    PolicyRefusedError,
    RegistryUnavailableError,
    SourceUnavailableError,
)
from router.core.models import Reason
from router.services.unforeseen import Unforeseen

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
BodyReader = Callable[[Any, bytes], tuple[Any, Reason | None]]
"""Reads a body as a record of a type: the record, or else why it is none. Never raises."""

MAX_BODY: Final = 64 * 1024
DESCRIPTION: Final = f"{PREFIX}/openapi.json"
_JSON: Final = re.compile(r"application/json\s*(;\s*charset=\"?utf-8\"?\s*)?", re.IGNORECASE)


class CallerPace(Protocol):
    """Keeps the Admin API from taking the process from its work."""

    async def known(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do what a caller wants when it is its turn; False, and nothing done, when too many wait."""
        ...

    async def unknown(self, receive: Receive) -> bool:
        """Wait until one who may not ask may be told so; False when they have gone meanwhile."""
        ...


class AdminApi:
    """Answers what is asked under `/v1`."""

    def __init__(
        self,
        operations: Sequence[Operation],
        gate: Gate,
        read: BodyReader,
        pace: CallerPace,
        unforeseen: Unforeseen,
        version: str,
    ) -> None:
        self.operations = tuple(operations)
        self._gate = gate
        self._read = read
        self._pace = pace
        self._unforeseen = unforeseen
        self._patterns = [(operation.pattern, operation) for operation in operations]
        self._description = msgspec.json.encode(description(self.operations, version))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI asks."""
        try:
            caller = await self._gate.caller(scope)
        except ProblemError as error:
            if await self._pace.unknown(receive):
                await _send_problem(send, error)
            return
        if not await self._pace.known(self._answer(caller, scope, receive, send)):
            await _send_problem(send, problem("busy", "too many ask at once: ask again in a moment"))

    async def _answer(self, caller: ApiCaller, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            content = await self._done(caller, scope, receive)
        except ProblemError as error:
            await _send_problem(send, error)
        except CellRouterError as error:
            await _send_problem(send, _as_problem(error))
        except HTTPException as error:
            await _send_problem(send, problem("too-large" if error.status_code == 413 else "bad-request", error.detail))  # noqa: PLR2004
        except Exception as error:  # noqa: BLE001 - one request must not end what routes
            why = self._unforeseen.note("admin api", error)
            await _send_problem(send, problem("unforeseen", f"{why}: the process' log has more"))
        else:
            await _send(send, 200, "application/json", content)

    async def _done(self, caller: ApiCaller, scope: Scope, receive: Receive) -> bytes:
        if scope["path"] == DESCRIPTION and scope["method"] == "GET":
            return self._description
        operation, in_path = self._found(scope["method"], scope["path"])
        if not caller.may(operation.role):
            raise problem("forbidden", f"{caller.who} may only look: this needs a token of the role {operation.role}")
        values = operation.values(in_path, scope["query_string"])
        body = None if operation.body is None else await self._body(operation.body, scope, receive)
        return msgspec.json.encode(await operation.do(Asked(caller, values, body)))

    def _found(self, method: str, path: str) -> tuple[Operation, Mapping[str, str]]:
        matches = [(each, match) for pattern, each in self._patterns if (match := pattern.fullmatch(path)) is not None]
        for operation, match in matches:
            if operation.method == method:
                return operation, match.groupdict()
        allowed = {operation.method for operation, _ in matches} or ({"GET"} if path == DESCRIPTION else set())
        if allowed:
            said = ", ".join(sorted(allowed))
            raise problem("method-not-allowed", f"this path takes {said}", allow=said)
        raise problem("not-found", f"there is no such path; GET {DESCRIPTION} lists all")

    async def _body(self, kind: Any, scope: Scope, receive: Receive) -> Any:
        headers = headers_of(scope)
        if _JSON.fullmatch(headers.get("content-type", "")) is None or "content-encoding" in headers:
            raise problem("not-json", "send JSON in UTF-8 with the header Content-Type: application/json")
        raw = await _whole_body(receive)
        value, why = self._read(kind, raw)
        if why is not None:
            raise problem("bad-request", f"the body is not as {DESCRIPTION} says: {why}")
        return value


async def _whole_body(receive: Receive) -> bytes:
    raw = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise problem("bad-request", "the body ended early")
        raw += message.get("body", b"")
        if len(raw) > MAX_BODY:
            raise problem("too-large", f"a body has at most {MAX_BODY} bytes")
        if not message.get("more_body", False):
            return bytes(raw)


_ERRORS: Final[Mapping[type[CellRouterError], str]] = {
    NoSuchCellError: "no-such-cell",
    BadEditError: "bad-values",
    NothingToChangeError: "unchanged",
    PlanChangedError: "plan-changed",
    RegistryUnavailableError: "out-of-reach",
    SourceUnavailableError: "upstream",
}
"""The kind of problem that each error is; any other is one that nobody foresaw."""


def _as_problem(error: CellRouterError) -> ProblemError:
    if isinstance(error, PolicyRefusedError):
        reasons = tuple(str(error).split("\n"))
        return problem("refused", f"nothing was changed: {'; '.join(reasons)}", reasons)
    kind = next((kind for of, kind in _ERRORS.items() if isinstance(error, of)), "unforeseen")
    return problem(kind, str(error))


async def _send_problem(send: Send, error: ProblemError) -> None:
    await _send(send, error.problem.status, PROBLEM_JSON, msgspec.json.encode(error.problem), error.headers)


async def _send(send: Send, status: int, kind: str, content: bytes, headers: Mapping[str, str] | None = None) -> None:
    named = {"content-type": kind, "content-length": str(len(content)), **(headers or {})}
    head = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in named.items()]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": content})
