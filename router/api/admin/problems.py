"""The errors of the Admin API, as RFC 9457 has them: `application/problem+json`, with what to do."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Final

import msgspec

PROBLEM_JSON: Final = "application/problem+json"
RETRY_S: Final = 2
"""After so many seconds it is worth asking again, when the registry is out of reach or too many ask."""
_PREFIX: Final = "urn:cellrouter:problem:"


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request was not done, and what to do."""

    type: Annotated[str, msgspec.Meta(description="Names the kind of problem.")]
    title: Annotated[str, msgspec.Meta(description="The kind of problem in words.")]
    status: Annotated[int, msgspec.Meta(ge=400, le=599, description="The HTTP status.")]
    detail: Annotated[str, msgspec.Meta(description="What is wrong with this request, and what to do.")]
    reasons: Annotated[
        tuple[str, ...], msgspec.Meta(description="Every reason for which the leader refused a change.")
    ] = ()


class ProblemError(Exception):
    """Ends a request with a problem."""

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.headers = dict(headers or {})


_KINDS: Final[Mapping[str, tuple[HTTPStatus, str]]] = {
    "bad-request": (HTTPStatus.BAD_REQUEST, "The request can't be read"),
    "unauthorized": (HTTPStatus.UNAUTHORIZED, "Say who you are"),
    "forbidden": (HTTPStatus.FORBIDDEN, "You may not do this"),
    "not-found": (HTTPStatus.NOT_FOUND, "There is no such thing"),
    "no-such-cell": (HTTPStatus.NOT_FOUND, "There is no such cell"),
    "method-not-allowed": (HTTPStatus.METHOD_NOT_ALLOWED, "This path takes another method"),
    "unchanged": (HTTPStatus.CONFLICT, "There is nothing to change"),
    "refused": (HTTPStatus.CONFLICT, "The leader refuses the change"),
    "plan-changed": (HTTPStatus.CONFLICT, "The plan has changed since it was shown"),
    "too-large": (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large"),
    "not-json": (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body must be JSON"),
    "bad-values": (HTTPStatus.UNPROCESSABLE_ENTITY, "The request asks for what can't be"),
    "unforeseen": (HTTPStatus.INTERNAL_SERVER_ERROR, "The process has a fault"),
    "upstream": (HTTPStatus.BAD_GATEWAY, "AWS did not do what was asked"),
    "out-of-reach": (HTTPStatus.SERVICE_UNAVAILABLE, "The registry is out of reach"),
    "busy": (HTTPStatus.SERVICE_UNAVAILABLE, "Too many ask at once"),
}
"""Every kind of problem, with its status and its title."""


def problem(kind: str, detail: str, reasons: tuple[str, ...] = (), **headers: str) -> ProblemError:
    """Make a problem of one kind; a header's name is given with underscores."""
    status, title = _KINDS[kind]
    made = Problem(f"{_PREFIX}{kind}", title, int(status), detail, reasons)
    later = {"retry-after": str(RETRY_S)} if status is HTTPStatus.SERVICE_UNAVAILABLE else {}
    return ProblemError(made, {**later, **{name.replace("_", "-"): value for name, value in headers.items()}})


def kinds() -> Mapping[int, tuple[str, ...]]:
    """List the kinds of problems by their status."""
    found: dict[int, tuple[str, ...]] = {}
    for kind, (status, _) in _KINDS.items():
        found[int(status)] = (*found.get(int(status), ()), f"{_PREFIX}{kind}")
    return found
