"""Signs requests that another process sends: that process needs neither credentials nor a client of AWS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from cell_worker.contract.aws_session import UnredirectedSession
from cell_worker.handlers.security.evaluation.wire import SignedGet

_lending: Final = ContextVar("lending", default=False)


class Lent(Exception):
    """A call ended before its request was sent. Whoever has the request may send it once more, and nothing else."""

    def __init__(self, request: SignedGet) -> None:
        super().__init__("its request was lent")
        self.request = request


@contextmanager
def lending() -> Iterator[None]:
    """Have calls inside raise Lent with their request, signed, instead of sending it."""
    token = _lending.set(True)
    try:
        yield
    finally:
        _lending.reset(token)


class LendingSession(UnredirectedSession):
    """The HTTP session of a client whose requests can be lent, with all that the client knows of how to send them."""

    async def send(self, request: Any) -> Any:
        """Send a request, or raise Lent with it."""
        if not _lending.get():
            return await super().send(request)
        headers = {name: value if isinstance(value, str) else value.decode() for name, value in request.headers.items()}
        proxy = self._proxy_config.proxy_url_for(request.url)
        proxy_headers = self._proxy_config.proxy_headers_for(proxy) if proxy else {}
        raise Lent(SignedGet(request.url, headers, proxy, proxy_headers))
