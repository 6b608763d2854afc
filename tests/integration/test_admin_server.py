"""The Admin API on a real port: the command line works through it, and a fuzzer of APIs finds nothing wrong."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event as ThreadEvent
from threading import Thread
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from typer.testing import CliRunner

from cell_worker.contract.http_server import listen_on
from router.api.app import create_app
from router.bootstrap.processes import serve_api
from router.cli.main import app
from router.settings import load
from tests.support.admin_rig import OPERATOR, VIEWER, AdminRig
from tests.support.command_line import CommandLine
from tests.support.keys import SECRET


async def _nothing(*_: object) -> list[Any]:
    return []


@contextmanager
def served(rig: AdminRig) -> Iterator[str]:
    """Serve an Admin API on a port of its own, from another thread, and yield its URL."""
    ready, url, stop = ThreadEvent(), list[str](), list[object]()

    async def serve() -> None:
        from prometheus_client import CollectorRegistry  # noqa: PLC0415 - a registry of its own

        pages = create_app("router", CollectorRegistry(), list, list, _nothing, _nothing)
        with listen_on("127.0.0.1", 0) as listener:
            url.append(f"http://127.0.0.1:{listener.getsockname()[1]}")
            loop, ended = asyncio.get_running_loop(), asyncio.Event()
            stop.append(lambda: loop.call_soon_threadsafe(ended.set))
            serving = asyncio.create_task(
                serve_api(pages, rig.feed, listener, load({"CELLROUTER_SECRET": SECRET}), rig.api)
            )
            ready.set()
            await ended.wait()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    thread = Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait()
    try:
        yield url[0]
    finally:
        stop[0]()  # type: ignore[operator]
        thread.join()


@pytest.mark.parametrize(
    ("token", "examples"),
    [(OPERATOR, 2), (VIEWER, 1), ("", 1)],
    ids=["operate", "view", "no credentials"],
)
def test_a_fuzzer_of_apis_finds_no_answer_that_the_description_does_not_hold(token: str, examples: int) -> None:
    """Each answer has a status, a type and a shape that the description names, whatever is asked, good or bad.

    What the description can't say, that one value depends on another or on what there is, is refused all the same: so
    the check that all that it allows is done is left out.
    """
    schemathesis = pytest.importorskip("schemathesis", reason="it is no package of the lowest versions")
    rig, seen = AdminRig(), set[int]()
    with served(rig) as url:
        reader = {"Authorization": f"Bearer {VIEWER}"}
        description = schemathesis.openapi.from_url(f"{url}/v1/openapi.json", headers=reader)
        for operation in (result.ok() for result in description.get_all_operations()):
            for mode in schemathesis.GenerationMode:
                try:
                    strategy = operation.as_strategy(generation_mode=mode)
                    _fuzz(strategy, examples, {"Authorization": f"Bearer {token}"} if token else {}, seen)
                except schemathesis.errors.SchemathesisError:
                    assert not operation.path_parameters, "nothing can be asked of it in another way"
    assert rig.told == [], "nothing happened that nobody foresaw"
    assert seen == {401} if not token else 200 in seen
    assert token != VIEWER or 403 in seen
    assert token == OPERATOR or rig.contents.versions == []


def _fuzz(strategy: Any, examples: int, headers: dict[str, str], seen: set[int]) -> None:
    """Ask for what a strategy makes up, and have each answer checked."""
    import schemathesis  # noqa: PLC0415 - as above

    left_out = [schemathesis.checks.positive_data_acceptance]

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=strategy)
    def is_answered(case: Any) -> None:
        answer = case.call(headers=headers)
        seen.add(answer.status_code)
        case.validate_response(answer, excluded_checks=left_out)

    is_answered()


def through(url: str, *arguments: str, token: str = OPERATOR, code: int = 0) -> str:
    """Run a command through the API, without any other configuration; return what it prints on both streams."""
    environ = {"CELLROUTER_SERVER": url, "CELLROUTER_TOKEN": token, "CELLROUTER_SECRET": None, "COLUMNS": "200"}
    try:
        result = CliRunner().invoke(app, arguments, env=environ)
    finally:
        os.environ.pop("CELLROUTER_SERVER", None)
    assert result.exit_code == code, f"{arguments}: {result.output}{result.exception!r}"
    return result.output


def test_the_command_line_says_the_same_through_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read is shown alike, what is changed is changed alike, and a mistake has the same words and code."""
    rig = AdminRig()
    direct = CommandLine(monkeypatch, rig.registry)
    with served(rig) as url:
        monkeypatch.setattr("router.bootstrap.registry.open_registry", None)
        said = through(url, "apply", "drain", "cell-0001", "--why", "its disk is old")
        assert said == "In force within a second: cell-0001: draining\n"
        assert rig.contents.audit[-1].who == "otto"
        assert "there is no cell cell-0009; there are: cell-0000, cell-0001" in " ".join(
            through(url, "apply", "drain", "cell-0009", code=2).split()
        )
        assert through(url, "apply", "unpin", "k", code=1) == "k is not pinned\n"
        assert "Taken back: drain cell-0001" in through(url, "undo")
        assert "there is no version 99 yet" in " ".join(through(url, "undo", "--to", "99", code=2).split())
        through(url, "freeze", "cell-0000", "--why", "to look")
        through(url, "scale", "--cells=2")
        looks = (
            *(("cells", "--json"), ("where", "k", "--json"), ("audit",), ("policy", "show"), ("policy", "history")),
            *(
                ("plan", "drain", "cell-0001"),
                ("explain", "cell-0000"),
                ("blast-radius",),
                ("scale", "--cells=3", "--dry-run"),
            ),
        )
        seen = [through(url, *look, token=VIEWER) for look in looks]
        refused = CliRunner().invoke(
            app, ["apply", "cordon", "cell-0000"], env={"CELLROUTER_SERVER": url, "CELLROUTER_TOKEN": VIEWER}
        )
        assert "may only look" in str(refused.exception)
        assert "does not work through the Admin API" in str(
            CliRunner().invoke(app, ["dlq", "list"], env={"CELLROUTER_SERVER": url}).exception
        )
        os.environ.pop("CELLROUTER_SERVER", None)
    again = CommandLine(monkeypatch, rig.registry)
    assert direct.registry is again.registry
    for look, text in zip(looks, seen, strict=True):
        if look[0] != "explain":  # it tells ages
            assert again(*look) == text, look
