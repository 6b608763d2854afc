"""Assembles the Admin API of a router or a controller: who is believed, what is read, how much it may take."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping, MutableMapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

import structlog
from starlette.exceptions import HTTPException

from cell_worker.contract.http_guard import AsgiApp, Message, Receive, Send
from cell_worker.contract.open_pages import ANSWER_S, SHARE, Budget, timed, unless_gone
from cell_worker.contract.strict_reader import StrictReader, Unreadable
from cell_worker.contract.texts import own_version
from router.adapters.api_tokens import Tokens
from router.adapters.clock import SystemClock
from router.adapters.http_session import http_session
from router.api.admin.app import MAX_BODY, AdminApi
from router.api.admin.bodies import ChangeBody, LettersBody, PlanBody, UndoBody
from router.api.admin.callers import Believer, Gate
from router.api.admin.known import LastKnown
from router.api.admin.letters import LetterDesk, OpenLetters
from router.api.admin.reads import Reads
from router.api.admin.surface import Operation
from router.api.admin.writes import Writes
from router.api.feed import FleetFeed
from router.core.errors import ConfigError
from router.core.models import Reason
from router.ports import Clock, Observer, OperatorRegistry
from router.services.operations import Operations
from router.services.unforeseen import Unforeseen
from router.settings import Settings
from router.settings_sections import ApiSection

_CLOCK = SystemClock()

CALLERS_SHARE: Final = 0.2
"""The part of the process' time that those who may ask can take in the long run."""
MAX_WAITING: Final = 64
"""Requests of theirs that wait for their turn."""

CHANGE: Final = StrictReader[ChangeBody]("change body", ChangeBody, MAX_BODY)
PLAN: Final = StrictReader[PlanBody]("plan body", PlanBody, MAX_BODY)
UNDO: Final = StrictReader[UndoBody]("undo body", UndoBody, MAX_BODY)
LETTERS: Final = StrictReader[LettersBody]("dead letters body", LettersBody, MAX_BODY)
_READERS: Final[Mapping[Any, StrictReader[Any]]] = {
    ChangeBody: CHANGE,
    PlanBody: PLAN,
    UndoBody: UNDO,
    LettersBody: LETTERS,
}


def read_body(kind: Any, raw: bytes) -> tuple[Any, Reason | None]:
    """Read a body as a record of a type: the record, or else why it is none."""
    found = _READERS[kind].read(raw)
    return (None, found.why) if isinstance(found, Unreadable) else (found, None)


class SharedTime:
    """Keeps those who ask the Admin API, and those who may not, each to their part of the process' time."""

    def __init__(self, clock: Clock, spent: Callable[[], float] = time.thread_time) -> None:
        self._spent = spent
        self._refusing = Budget(clock.monotonic, clock.sleep, SHARE)
        self._working = Budget(clock.monotonic, clock.sleep, CALLERS_SHARE)
        self._waiting = 0

    async def known(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do what a caller wants when it is its turn; False, and nothing done, when too many wait."""
        if not self._working.begin():
            if self._waiting >= MAX_WAITING:
                work.close()
                return False
            self._waiting += 1
            try:
                await self._working.wait()
            finally:
                self._waiting -= 1
        await timed(work.__await__(), self._spent, self._working.spend)
        return True

    async def unknown(self, receive: Receive) -> bool:
        """Wait until one who may not ask may be told so; False when they have gone meanwhile."""
        too_long = False

        async def receive_on() -> Message:
            nonlocal too_long
            try:
                return await receive()
            except HTTPException:  # more than anybody may send
                too_long = True
                return {"type": "http.disconnect"}

        if not self._refusing.begin() and not await unless_gone(self._refusing.wait(), receive_on) and not too_long:
            return False
        self._refusing.spend(ANSWER_S)
        return True


class Parted:
    """An ASGI application that gives what is under a prefix to one application, and the rest to another."""

    def __init__(self, prefix: str, under: AsgiApp, other: AsgiApp) -> None:
        self._prefix = prefix
        self._under = under
        self._other = other

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI asks."""
        path = scope["path"]
        is_under = path == self._prefix or path.startswith(f"{self._prefix}/")
        await (self._under if is_under else self._other)(scope, receive, send)


def operations_of(
    registry: OperatorRegistry, feed: FleetFeed, letters: OpenLetters | None, clock: Clock
) -> list[Operation]:
    """List all that the Admin API of a process can; `letters` is None where it has no rights to the dead letters."""
    reads = Reads(LastKnown(registry, clock), lambda: feed.newest)
    made_by = partial(Operations, registry, clock)
    return [*reads.operations(), *Writes(made_by).operations(), *LetterDesk(letters, made_by).operations()]


async def open_admin(
    stack: AsyncExitStack,
    settings: Settings,
    registry: OperatorRegistry,
    feed: FleetFeed,
    letters: OpenLetters | None,
    observer: Observer,
) -> AdminApi:
    """Open the Admin API of a process; warn of what is amiss with its tokens. Raises ConfigError."""
    for warning in settings.api.token_source().warnings():
        structlog.get_logger("tokens").warning("the tokens should be kept better", why=warning)
    believers: list[Believer] = [Tokens(settings.api.token_source(), _CLOCK)]
    if settings.api.oidc_issuer:
        believers.append(await _provider(stack, settings.api))
    return admin_api(believers, registry, feed, letters, _CLOCK, Unforeseen(observer, _CLOCK))


def admin_api(
    believers: Sequence[Believer],
    registry: OperatorRegistry,
    feed: FleetFeed,
    letters: OpenLetters | None,
    clock: Clock,
    unforeseen: Unforeseen,
) -> AdminApi:
    """Make the Admin API of a process."""
    operations = operations_of(registry, feed, letters, clock)
    return AdminApi(operations, Gate(believers), read_body, SharedTime(clock), unforeseen, own_version())


async def _provider(stack: AsyncExitStack, api: ApiSection) -> Believer:
    try:
        from router.adapters.oidc import Oidc, OidcConfig  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError("api.oidc_issuer: needs more packages: pip install 'cellrouter[oidc]'") from error
    config = OidcConfig(api.oidc_issuer, api.oidc_audience, api.oidc_role_claim, api.oidc_view, api.oidc_operate)
    return Oidc(config, await stack.enter_async_context(http_session(limit=2)), _CLOCK)
