"""Works through the Admin API of a router or a controller, as the command line does with `--server`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import SplitResult, urlencode, urlsplit

import aiohttp
import msgspec

from cell_worker.contract.secret_file import why_exposed
from cell_worker.contract.strict_reader import StrictReader, Unreadable, read_regular_file
from router.adapters.http_session import http_session
from router.api.admin.bodies import AuditPage, ChangeBody, PolicyHistory, Registry, UndoBody
from router.api.admin.known import AUDIT_READ
from router.api.admin.problems import PROBLEM_JSON, Problem
from router.api.admin.surface import PREFIX
from router.core.callers import MAX_TOKEN_CHARS
from router.core.config_text import SERVER_VARIABLE, TOKEN_FILE_VARIABLE, TOKEN_VARIABLE
from router.core.detection.samples import RouterSample
from router.core.edits.decided import EditOutcome
from router.core.edits.kinds import BY_HAND, Edit
from router.core.edits.undoing import Undoing
from router.core.errors import (
    BadEditError,
    CellRouterError,
    ConfigError,
    NoSuchCellError,
    NothingToChangeError,
    PolicyRefusedError,
    RegistryUnavailableError,
)
from router.core.models import Traffic
from router.core.registry import AuditEntry, Condition, PolicyVersion, Snapshot
from router.core.slot_map.slots import SlotMap

T = TypeVar("T")

WITHIN_S: Final = 15.0  # an answer takes at most the five seconds in which a leader rules, and Redis' patience
MAX_ANSWER: Final = 64 * 1024 * 1024
MAX_SMALL: Final = 1024 * 1024

REGISTRY: Final = StrictReader[Registry]("registry of the admin api", Registry, MAX_ANSWER)
AUDIT: Final = StrictReader[AuditPage]("audit of the admin api", AuditPage, MAX_ANSWER)
HISTORY: Final = StrictReader[PolicyHistory]("history of the admin api", PolicyHistory, MAX_ANSWER)
OUTCOME: Final = StrictReader[EditOutcome]("outcome of the admin api", EditOutcome, MAX_SMALL)
UNDOING: Final = StrictReader[Undoing]("undoing of the admin api", Undoing, MAX_ANSWER)
PROBLEM: Final = StrictReader[Problem]("problem of the admin api", Problem, MAX_SMALL)

_ERRORS: Final[Mapping[str, type[CellRouterError]]] = {
    "no-such-cell": NoSuchCellError,
    "bad-values": BadEditError,
    "unchanged": NothingToChangeError,
    "refused": PolicyRefusedError,
    "out-of-reach": RegistryUnavailableError,
    "busy": RegistryUnavailableError,
}


class AdminClient:
    """An OperatorReader and an Operator, through the Admin API at a URL; `warn` gets what a person must know."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str, warn: Callable[[str], None]) -> None:
        self._session = session
        self._url = url.rstrip("/") + PREFIX
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._warn = warn
        self._registry: Registry | None = None  # as last read

    async def snapshot(self) -> Snapshot:
        """Read everything that routing depends on, and what else is told with it."""
        self._registry = found = await self._get(REGISTRY, "/registry")
        if found.age_s:
            self._warn(f"Redis is out of reach there: what follows was so {found.age_s:g} s ago")
        wire = found.snapshot
        try:
            slot_map = SlotMap.from_wire(wire.slot_map) if wire.slot_map is not None else None
        except ValueError as error:
            raise RegistryUnavailableError(f"{self._url}: its slot map can't be read: {error}") from error
        leases, routers = tuple(wire.leases), tuple(wire.routers)
        cushioned = frozenset(wire.cushioned)
        return Snapshot(wire.now_ms, slot_map, wire.cells, leases, wire.leader, wire.policy, routers, cushioned)

    async def conditions(self) -> Mapping[str, Condition]:
        """Return what the leader said of every cell, as of the last snapshot."""
        return (await self._read()).conditions

    async def samples(self) -> Mapping[str, RouterSample]:
        """Return what routers saw, as of the last snapshot."""
        return (await self._read()).samples

    async def traffic(self) -> list[Mapping[str, Traffic]]:
        """Return what routers have sent, as of the last snapshot."""
        return (await self._read()).traffic

    async def audit(self, limit: int) -> list[AuditEntry]:
        """Read the newest `limit` entries, oldest first; no more than the API tells at once."""
        return (await self._get(AUDIT, f"/audit?{urlencode({'limit': min(limit, AUDIT_READ)})}")).entries

    async def history(self) -> list[PolicyVersion]:
        """Read the versions of the policy, oldest first."""
        return [
            PolicyVersion(each.policy, each.audit) for each in (await self._get(HISTORY, "/policy/history")).versions
        ]

    async def change(self, edit: Edit, why: str) -> EditOutcome:
        """Have the leader make an edit."""
        body = ChangeBody(edit, why.strip() or BY_HAND)  # type: ignore[arg-type] # every edit is one of the union
        return await self._post(OUTCOME, "/changes", body)

    async def undo(self, to: int | None, why: str) -> Undoing:
        """Take back the last change of a person, or all since version `to`."""
        return await self._post(UNDOING, "/undo", UndoBody(why.strip() or BY_HAND, to))

    async def _read(self) -> Registry:
        if self._registry is None:
            await self.snapshot()
        assert self._registry is not None
        return self._registry

    async def _get(self, reader: StrictReader[T], path: str) -> T:
        return await self._asked(reader, "GET", path, None)

    async def _post(self, reader: StrictReader[T], path: str, body: Any) -> T:
        return await self._asked(reader, "POST", path, msgspec.json.encode(body))

    async def _asked(self, reader: StrictReader[T], method: str, path: str, content: bytes | None) -> T:
        kind = {"content-type": "application/json"} if content is not None else {}
        try:
            async with (
                asyncio.timeout(WITHIN_S),
                self._session.request(
                    method, self._url + path, data=content, headers={**self._headers, **kind}, allow_redirects=False
                ) as response,
            ):
                raw = await _bounded(response, reader.max_bytes)
                status, is_problem = response.status, response.content_type == PROBLEM_JSON
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            why = str(error) or type(error).__name__
            raise RegistryUnavailableError(f"{self._url} does not answer: {why}") from error
        if status != 200:  # noqa: PLR2004 - what every operation answers
            raise _as_error(f"{self._url}{path}", status, PROBLEM.read(raw) if is_problem else None)
        found = reader.read(raw)
        if isinstance(found, Unreadable):
            raise RegistryUnavailableError(
                f"{self._url}: its answer can't be read: {found.why}; is it a cellrouter of this version?"
            )
        return found


async def _bounded(response: aiohttp.ClientResponse, most: int) -> bytes:
    raw = bytearray()
    async for chunk in response.content.iter_any():
        raw += chunk
        if len(raw) > most:
            raise ValueError(f"its answer has more than {most} bytes")
    return bytes(raw)


def _as_error(where: str, status: int, problem: Problem | Unreadable | None) -> CellRouterError:
    if not isinstance(problem, Problem):
        return CellRouterError(f"{where} answers with HTTP {status}: is it the API of a router or a controller?")
    kind = _ERRORS.get(problem.type.rpartition(":")[2])
    if kind is PolicyRefusedError and problem.reasons:
        return PolicyRefusedError("\n".join(problem.reasons))
    return kind(problem.detail) if kind is not None else CellRouterError(f"{where}: {problem.detail}")


@asynccontextmanager
async def open_admin_client(
    server: str, environ: Mapping[str, str], warn: Callable[[str], None]
) -> AsyncIterator[AdminClient]:
    """Open the Admin API at a URL for one command. Raises ConfigError for a bad URL, or a token that can't be read."""
    url, token = _url_of(server), _token_of(environ, warn)
    if token and url.scheme == "http" and not _is_here(url.hostname or ""):
        warn("The token goes over the network in the clear: put TLS before the API, and give https:// to --server")
    async with http_session() as session:
        yield AdminClient(session, url.geturl(), token, warn)


def _url_of(server: str) -> SplitResult:
    try:
        url = urlsplit(server)
        good = url.scheme in ("http", "https") and bool(url.hostname) and "@" not in url.netloc and url.port != 0
    except ValueError:
        good = False
    if not good or url.query or url.fragment:
        raise ConfigError(f"--server, {SERVER_VARIABLE}: must be as http://127.0.0.1:8080, without a user or password")
    return url


def _token_of(environ: Mapping[str, str], warn: Callable[[str], None]) -> str:
    token, path = environ.get(TOKEN_VARIABLE, "").strip(), environ.get(TOKEN_FILE_VARIABLE, "")
    if path and not token:
        try:
            raw = read_regular_file(Path(path), MAX_TOKEN_CHARS)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{TOKEN_FILE_VARIABLE}: {path}: can't be read: {error}") from error
        if isinstance(raw, Unreadable):
            raise ConfigError(f"{TOKEN_FILE_VARIABLE}: {path}: {raw.why}")
        if (exposed := why_exposed(Path(path))) is not None:
            warn(f"{path}: {exposed}")
        token = raw.decode("utf-8", "replace").strip()
    if len(token) > MAX_TOKEN_CHARS or any(not "!" <= character <= "~" for character in token):
        raise ConfigError(f"{TOKEN_VARIABLE}, {TOKEN_FILE_VARIABLE}: this is no token: it is one word of ASCII")
    return token


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
