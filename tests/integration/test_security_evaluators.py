"""The processes that evaluate logs: what ends an evaluation, and that nothing of it is left or held against others."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from cell_worker import clock
from cell_worker.api import RejectEvent, RetryEvent
from cell_worker.handlers.security.evaluation import pool
from cell_worker.handlers.security.evaluation.analysis import analyse
from cell_worker.handlers.security.evaluation.pool import EvaluationEnded, Evaluators
from cell_worker.handlers.security.settings import MIB
from cell_worker.handlers.security.sigma import RuleSet, load_rules
from tests.support.aio import run, until
from tests.support.evaluators import PATIENCE_S, SOURCE, evaluating, shipped
from tests.support.paths import REPOSITORY
from tests.support.security_world import record

SLOW_RULE = {
    "title": "each with each",
    "id": "00000001-2222-4333-8444-555555555555",
    "logsource": {"product": "aws", "service": "cloudtrail"},
    "detection": {"s": {"a|fieldref|contains": "b"}, "condition": "s"},
}
"""A rule of an operator that takes the square of the values of a record. No record of CloudTrail has many."""
SLOW = json.dumps({"Records": [{"a": ["x"] * 40_000, "b": [f"y{n}" for n in range(50_000)]}]}).encode()
ORDINARY = json.dumps({"Records": [record("iam", "CreateUser", {"userName": "u"})]}).encode()


def slow_rules(folder: Path) -> RuleSet:
    """Rules of which one takes minutes for the log SLOW."""
    (folder / "slow.yml").write_text(yaml.safe_dump(SLOW_RULE))
    rules = load_rules(folder)
    assert rules.skipped == []
    return rules


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let slow logs have the time that they need on a busy machine, where little CPU is left."""
    monkeypatch.setattr(pool, "WALL_S", PATIENCE_S)


async def _bytes(stored: bytes) -> bytes:
    return stored


def scenario(story: Callable[[Evaluators], Awaitable[None]]) -> None:
    """Run a story with evaluators, and see that none of their processes is left at its end."""

    async def inside() -> None:
        evaluators = evaluating()
        try:
            await story(evaluators)
        finally:
            await evaluators.close()
        assert descendants(os.getpid()) == []

    run(inside(), limit_s=300)


def children(pid: int) -> list[int]:
    """The evaluators that a process has started, or the children of an evaluator."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1]) if folder.name.isdigit() else 0
            ours = b"security.evaluation.child" in (folder / "cmdline").read_bytes() if parent else False
        except (OSError, IndexError):
            continue
        if parent == pid and ours:
            found.append(int(folder.name))
    return found


def descendants(pid: int) -> list[int]:
    """The evaluators below a process, and their children."""
    return [each for child in children(pid) for each in (child, *descendants(child))]


def environment_of(pid: int) -> bytes:
    """The environment that a process was started with."""
    return Path(f"/proc/{pid}/environ").read_bytes()


def test_a_process_finds_what_the_handler_finds() -> None:
    """The answer is the same, field for field, and what is no log is rejected with the same words."""

    async def story(evaluators: Evaluators) -> None:
        rules = shipped()
        found = await evaluators.evaluate("k", SOURCE, partial(_bytes, ORDINARY), MIB, rules)
        assert found == analyse([ORDINARY], SOURCE, MIB, rules)
        with pytest.raises(RejectEvent, match="is not JSON"):
            await evaluators.evaluate("k", SOURCE, partial(_bytes, b"{"), MIB, rules)

    scenario(story)


def test_an_evaluation_that_takes_too_much_cpu_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names the cap. The process itself goes on, with the rules that it has compiled."""
    monkeypatch.setattr(pool, "CPU_S", 1)

    async def story(evaluators: Evaluators) -> None:
        rules = slow_rules(tmp_path)
        with pytest.raises(RejectEvent, match="takes more than 1 s of CPU"):
            await evaluators.evaluate("k", SOURCE, partial(_bytes, SLOW), 32 * MIB, rules)
        before = descendants(os.getpid())
        assert (await evaluators.evaluate("k", SOURCE, partial(_bytes, ORDINARY), MIB, rules)).records == 1
        assert descendants(os.getpid()) == before

    scenario(story)


def test_an_evaluation_that_takes_too_much_memory_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names the cap, whatever the largest log may be, and the next one is evaluated."""
    monkeypatch.setattr(pool, "MEMORY_FACTOR", 1)
    many = b'{"Records": [' + b"{}," * 45_000 + b"{}]}"

    async def story(evaluators: Evaluators) -> None:
        rules = shipped()
        with pytest.raises(RejectEvent, match="takes more than 1 MiB of memory"):
            await evaluators.evaluate("k", SOURCE, partial(_bytes, many), MIB, rules)
        assert (await evaluators.evaluate("k", SOURCE, partial(_bytes, many), 32 * MIB, rules)).records == 45_001

    scenario(story)


@pytest.mark.parametrize("which", ["the child", "the evaluator"])
def test_an_evaluation_that_is_killed_is_no_proof_against_the_log(which: str, tmp_path: Path) -> None:
    """Out of memory, the kernel kills anybody. The event is tried again, by a new process if need be."""

    async def story(evaluators: Evaluators) -> None:
        rules = slow_rules(tmp_path)
        going = asyncio.create_task(
            evaluators.evaluate("k", SOURCE, partial(_bytes, SLOW), 32 * MIB, rules, large=True)
        )
        await until(lambda: _true(len(descendants(os.getpid())) == 2), "an evaluator and its child")
        evaluator, child = descendants(os.getpid())
        os.kill(child if which == "the child" else evaluator, signal.SIGKILL)
        with pytest.raises(EvaluationEnded, match="was ended by signal 9" if which == "the child" else "has ended"):
            await going
        await until(lambda: _true(child not in descendants(1) + descendants(os.getpid())), "the child has ended")
        assert (await evaluators.evaluate("k", SOURCE, partial(_bytes, ORDINARY), MIB, rules)).records == 1

    scenario(story)


def test_a_cancelled_evaluation_ends(tmp_path: Path) -> None:
    """An event that has no more time leaves nothing at work."""

    async def story(evaluators: Evaluators) -> None:
        going = asyncio.create_task(
            evaluators.evaluate("k", SOURCE, partial(_bytes, SLOW), 32 * MIB, slow_rules(tmp_path), large=True)
        )
        await until(lambda: _true(len(descendants(os.getpid())) == 2), "an evaluator and its child")
        going.cancel()
        await asyncio.wait([going])
        await until(lambda: _true(not descendants(os.getpid())), "both have ended")

    scenario(story)


def test_an_evaluation_that_finds_no_cpu_is_tried_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has what others leave, which may be nothing for long. So it counts as no attempt, and its process ends."""
    monkeypatch.setattr(pool, "WALL_S", 3.0)

    async def story(evaluators: Evaluators) -> None:
        rules = shipped()
        await evaluators.start(rules)
        for pid in descendants(os.getpid()):
            os.kill(pid, signal.SIGSTOP)
        with pytest.raises(RetryEvent, match="took longer than 3 s: the CPU or S3 is busy"):
            await evaluators.evaluate("k", SOURCE, partial(_bytes, ORDINARY), MIB, rules)

    scenario(story)


@pytest.mark.parametrize("large", [True, False], ids=["known to be slow", "found to be slow"])
def test_slow_logs_have_only_the_cpu_that_is_left(large: bool, tmp_path: Path) -> None:
    """Whoever else wants the CPU has it at once, also from a log that was ordinary until it took long."""

    async def story(evaluators: Evaluators) -> None:
        rules = slow_rules(tmp_path)
        going = asyncio.create_task(
            evaluators.evaluate("k", SOURCE, partial(_bytes, SLOW), 32 * MIB, rules, large=large)
        )

        def stands_back() -> bool:
            return any(
                _policy(child) == os.SCHED_IDLE and _policy(evaluator) == (os.SCHED_IDLE if large else os.SCHED_OTHER)
                for evaluator in children(os.getpid())
                for child in children(evaluator)
            )

        async with asyncio.timeout(60):
            while not stands_back():
                await clock.sleep(0.01)
        going.cancel()
        await asyncio.wait([going])

    scenario(story)


@pytest.mark.parametrize("keys", [["heavy"] * 5, [f"heavy-{number}" for number in range(5)]], ids=["one key", "many"])
def test_slow_logs_leave_a_place_to_others(keys: list[str], tmp_path: Path) -> None:
    """While one key or several have slow logs at work and waiting, another key's log is evaluated."""

    async def story(evaluators: Evaluators) -> None:
        rules = slow_rules(tmp_path)
        heavy = [
            asyncio.create_task(evaluators.evaluate(key, SOURCE, partial(_bytes, SLOW), 32 * MIB, rules))
            for key in keys
        ]
        await until(lambda: _true(len(descendants(os.getpid())) >= 2), "one slow log at work")
        light = await evaluators.evaluate("light", SOURCE, partial(_bytes, ORDINARY), MIB, rules)
        assert (light.records, [each.done() for each in heavy]) == (1, [False] * 5)
        for each in heavy:
            each.cancel()
        await asyncio.wait(heavy)

    scenario(story)


def test_new_rules_get_a_new_process(tmp_path: Path) -> None:
    """After the rules were reloaded no log is evaluated by the old ones, though the old process was idle."""

    async def story(evaluators: Evaluators) -> None:
        first = await evaluators.evaluate("k", SOURCE, partial(_bytes, ORDINARY), MIB, shipped())
        second = await evaluators.evaluate("k", SOURCE, partial(_bytes, ORDINARY), MIB, slow_rules(tmp_path))
        assert (len(first.sightings), len(second.sightings)) == (1, 0)

    scenario(story)


def test_a_process_knows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes over an evaluator finds neither the cell's secret nor credentials of AWS in its environment."""
    monkeypatch.setenv("CELL_SECRET", "hidden-hidden-hidden")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-too")

    async def story(evaluators: Evaluators) -> None:
        await evaluators.evaluate("k", SOURCE, partial(_bytes, ORDINARY), MIB, shipped())
        (evaluator,) = descendants(os.getpid())
        assert b"hidden" not in environment_of(evaluator)

    scenario(story)


WORKER = """
import asyncio, sys
from functools import partial
from pathlib import Path
from tests.integration import test_security_evaluators as t
rules = t.slow_rules(Path(sys.argv[1]))
asyncio.run(t.evaluating().evaluate("k", t.SOURCE, partial(t._bytes, t.SLOW), 32 * t.MIB, rules, large=True))
"""


def test_a_killed_worker_leaves_no_process(tmp_path: Path) -> None:
    """The evaluator and its child, in the midst of their work, end with the worker that a SIGKILL has ended."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)], env=environment)

    async def story() -> None:
        await until(lambda: _true(len(descendants(worker.pid)) == 2), "an evaluator and its child")
        started = descendants(worker.pid)
        worker.kill()
        worker.wait()
        await until(lambda: _true(not any(_runs(pid) for pid in started)), "both have ended")

    try:
        run(story(), limit_s=120)
    finally:
        worker.kill()
        worker.wait()


def _policy(pid: int) -> int | None:
    with suppress(ProcessLookupError):
        return os.sched_getscheduler(pid)
    return None


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def _true(value: Any) -> bool:
    return bool(value)
