"""What the Admin API and its client read of what others send, each as a function of the bytes that came."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, Final, Self, cast

import msgspec

from router.adapters.api_tokens import TokenSource
from router.api.admin.bodies import ChangeBody, LettersBody, PlanBody, UndoBody
from router.api.admin.callers import Gate
from router.api.admin.problems import PROBLEM_JSON, ProblemError
from router.api.admin.reads import AUDIT
from router.api.admin.surface import Operation
from router.bootstrap.admin import read_body
from router.bootstrap.admin_client import AdminClient
from router.core.callers import Role
from router.core.edits.kinds import UnpinEdit
from router.core.edits.orders import decided
from router.core.edits.plan import planned
from router.core.errors import CellRouterError
from router.core.models import CellRecord
from router.core.registry import Snapshot
from router.core.slot_map.slots import SLOTS, SlotMap
from tests.support.fake_clock import FakeClock
from tests.support.fuzz_routers import OF_ROUTERS

CELLS: Final = ("cell-0000", "cell-0003")
SNAPSHOT: Final = Snapshot(
    1, SlotMap(1, CELLS * (SLOTS // 2)), {name: CellRecord(name, generation=1) for name in CELLS}, (), ""
)


class Answering:
    """Stands in for a session whose every call gets this answer."""

    def __init__(self, *answers: bytes, status: int = 200) -> None:
        self.status = status
        self.content_type = PROBLEM_JSON
        self.content = SimpleNamespace(iter_any=self._parts, read=self._read)
        self._answers = answers
        self._calls = 0
        self._raw = b""

    def request(self, *_: object, **__: object) -> Self:
        self._raw = self._answers[min(self._calls, len(self._answers) - 1)]
        self._calls += 1
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    async def _parts(self) -> AsyncIterator[bytes]:
        yield self._raw

    async def _read(self, most: int) -> bytes:
        found, self._raw = self._raw[:most], self._raw[most:]
        return found


def body(kind: type[Any]) -> Callable[[bytes], object]:
    """Make what reads a body, and looks at what an edit in it comes to."""

    def read(raw: bytes) -> object:
        value, why = read_body(kind, raw)
        assert (value is None) != (why is None)
        if isinstance(value, ChangeBody | PlanBody):
            with suppress(CellRouterError):
                return msgspec.json.encode(planned(decided(value.change, SNAPSHOT, value.why), SNAPSHOT))
        return value

    return read


def answer(ask: Callable[[AdminClient], Awaitable[object]], status: int = 200) -> Callable[[bytes], object]:
    """Make what reads an answer, as the command line does."""

    async def asked(raw: bytes) -> object:
        client = AdminClient(cast("Any", Answering(raw, status=status)), "http://127.0.0.1:1", "", lambda _: None)
        with suppress(CellRouterError):
            return await ask(client)
        return None

    return lambda raw: asyncio.run(asked(raw))


def tokens_file(raw: bytes) -> object:
    """Read a file of tokens."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "tokens")
        path.write_bytes(raw)
        return TokenSource("", path).read()


def address(raw: bytes) -> object:
    """Read the values of an address."""
    operation = Operation("GET", "/audit", "audit", "", Role.VIEW, None, cast("Any", None), AUDIT)
    with suppress(ProblemError):
        return operation.values({}, raw)
    return None


def headers(raw: bytes) -> object:
    """Let in who sends these headers, or not."""
    names = (b"authorization", b"origin", b"host", b"sec-fetch-site", b"x-other")
    scope = {"query_string": raw, "headers": [(name, raw) for name in names], "client": ("127.0.0.1", 1)}
    with suppress(ProblemError):
        return asyncio.run(Gate([]).caller(scope))
    return None


def provider(raw: bytes) -> object:
    """Read what an identity provider says of itself and of its keys, and a token of it; nothing without the extra."""
    try:
        from router.adapters.oidc import Oidc, OidcConfig  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    config = OidcConfig("https://a", "b", "roles", "view", "operate")
    session = SimpleNamespace(get=Answering(raw).request)
    believer = Oidc(config, cast("Any", session), FakeClock())

    async def asked() -> object:
        found = await believer.caller_of(raw.decode("utf-8", "replace"))
        session.get = Answering(b'{"issuer":"https://a","jwks_uri":"https://a/jwks"}', raw).request
        head = urlsafe_b64encode(b'{"alg":"ES256","kid":"k"}').decode()
        return found or await believer.caller_of(f"{head}.{urlsafe_b64encode(raw[:4000]).decode()}.e30")

    return asyncio.run(asked())


UNPIN: Final = UnpinEdit("k")
ADMIN: Final[Mapping[str, Callable[[bytes], object]]] = {
    "change body": body(ChangeBody),
    "plan body": body(PlanBody),
    "undo body": body(UndoBody),
    "dead letters body": body(LettersBody),
    "registry of the admin api": answer(lambda client: client.snapshot()),
    "audit of the admin api": answer(lambda client: client.audit(9)),
    "history of the admin api": answer(lambda client: client.history()),
    "outcome of the admin api": answer(lambda client: client.change(UNPIN, "")),
    "undoing of the admin api": answer(lambda client: client.undo(None, "")),
    "problem of the admin api": answer(lambda client: client.change(UNPIN, ""), 409),
    "tokens file": tokens_file,
    "address of the admin api": address,
    "headers of the admin api": headers,
    "discovery of a provider": provider,
    "keys of a provider": provider,
    **OF_ROUTERS,
}
