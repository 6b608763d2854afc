"""A component's name, which an instance gives itself, leads a restart to that component and nowhere else."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

import pytest
from yarl import URL

from router.adapters.cells.control import HttpCellControl
from router.core.errors import CellUnavailableError
from tests.support.aio import run
from tests.support.fuzz_readers import Response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.mark.parametrize("name", ["../drain?", "..", ".", "a/../../drain", "x?y=1", "x#y", "%2e%2e", "a b", "@evil:1/"])
def test_a_name_is_one_part_of_the_path(name: str) -> None:
    """Or no request is made at all."""
    asked: list[str] = []

    class Session:
        @asynccontextmanager
        async def request(self, _method: str, url: str, **_: Any) -> AsyncIterator[Response]:
            asked.append(url)
            yield Response(b"{}")

    with suppress(CellUnavailableError):
        run(HttpCellControl(cast("Any", Session()), "a-secret-for-tests").restart("127.0.0.1:80", name, 1))
    for url in map(URL, asked):
        assert (url.host, url.port, url.query_string, url.fragment) == ("127.0.0.1", 80, "", "")
        assert url.raw_parts[:3] == ("/", "v1", "components")
        assert (len(url.raw_parts), url.parts[3], url.raw_parts[4]) == (5, name, "restart") or "/" in name
    assert bool(asked) is (name not in (".", ".."))
