"""Injected faults: what each does to events, canaries and components, and that it ends."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter

import pytest

from cell_worker.api import Cell, Event
from cell_worker.chaos import GARBAGE, Chaos
from cell_worker.protocol import EventResult, Fault, FaultKind, Outcome
from cell_worker.runtime import Runtime
from tests.support.aio import until
from tests.support.memory_store import MemoryStore
from tests.support.runtime_world import Handle, batch, emit, in_loop, make, one_result, results, turns


async def make_with(handler: Handle = emit) -> tuple[Runtime, Chaos, MemoryStore]:
    """A runtime into whose handler faults can be injected."""
    chaos = Chaos(allowed=True)
    runtime, store = await make(chaos.around_handler(handler), concurrency=50)
    return runtime, chaos, store


async def answers(runtime: Runtime) -> list[EventResult]:
    """Of an event and of a canary."""
    return [result for _, result in sorted((await results(runtime, batch("a", "canary"))).items())]


async def times(runtime: Runtime) -> list[float]:
    """That an event and a canary took."""
    return [result.duration_s for result in await answers(runtime)]


@in_loop
async def test_nothing_injected_changes_nothing() -> None:
    """Handlers without a canary have none all the same."""
    runtime, chaos, _ = await make_with()
    assert [result.outcome for result in await answers(runtime)] == [Outcome.OK, Outcome.OK]
    assert chaos.why_failing() is None
    assert chaos.line(b"x") == b"x"


@in_loop
async def test_slow_adds_to_every_event_and_canary() -> None:
    """Until its time is over."""
    runtime, chaos, _ = await make_with()
    chaos.inject(Fault(FaultKind.SLOW, 0.3, delay_s=0.1))
    assert chaos.why_failing() == "slow (+0.1 s, x1) for 0 s more"
    assert all(took >= 0.09 for took in await times(runtime))

    async def over() -> bool:
        return chaos.why_failing() is None

    await until(over, "it has ended by itself")
    assert all(took < 0.09 for took in await times(runtime))


@in_loop
async def test_slow_multiplies_what_the_handler_takes() -> None:
    """A handler of 50 ms at x4 takes 200."""

    async def handler(event: Event, cell: Cell) -> None:
        await asyncio.sleep(0.05)  # noqa: TID251 - the time that is multiplied

    runtime, chaos, _ = await make_with(handler)
    chaos.inject(Fault(FaultKind.SLOW, factor=4))
    assert (await times(runtime))[0] >= 0.19
    chaos.end_all()


@in_loop
async def test_an_end_lets_go_on_what_is_being_slowed_down() -> None:
    """By hand (0 seconds), or because the worker drains."""
    for end in (lambda chaos: chaos.inject(Fault(FaultKind.SLOW, 0)), Chaos.end_all):
        runtime, chaos, _ = await make_with()
        chaos.inject(Fault(FaultKind.SLOW, delay_s=300))
        asking = asyncio.create_task(one_result(runtime))
        await turns()
        assert not asking.done()
        end(chaos)
        assert (await asking).outcome is Outcome.OK


@in_loop
async def test_errors_fail_events_at_their_rate() -> None:
    """Events are failed, with nothing committed; canaries say retry."""
    runtime, chaos, store = await make_with()
    chaos.inject(Fault(FaultKind.ERRORS))
    assert [result.outcome for result in await answers(runtime)] == [Outcome.FAILED, Outcome.RETRY]
    assert store.volume.processed == set()
    chaos.inject(Fault(FaultKind.ERRORS, rate=0.5))
    many = batch(*(f"e{number}" for number in range(60)))
    found = Counter(result.outcome for result in (await results(runtime, many)).values())
    assert min(found[Outcome.OK], found[Outcome.FAILED]) > 5
    chaos.end_all()
    assert [result.outcome for result in await answers(runtime)] == [Outcome.OK, Outcome.OK]


class Part:
    """A component that counts its restarts."""

    name = "s3"
    restarts = 0

    async def check(self) -> str:
        return "fine"

    async def restart(self) -> None:
        self.restarts += 1


@in_loop
async def test_a_component_fails_until_it_is_restarted() -> None:
    """Its check, events and canaries; another's restart mends nothing."""
    runtime, chaos, store = await make_with()
    real, other = Part(), Part()
    other.name = "rules"
    runtime.components = {each.name: chaos.around_component(each) for each in (real, other)}
    chaos.inject(Fault(FaultKind.COMPONENT, component="s3"))
    await runtime.components["rules"].restart()
    assert [part.healthy for part in await runtime.health()] == [False, True]
    assert [result.outcome for result in await answers(runtime)] == [Outcome.RETRY, Outcome.RETRY]
    assert (await answers(runtime))[0].reason == "injected: the component s3 fails"
    assert store.volume.processed == set()
    await runtime.components["s3"].restart()
    assert real.restarts == 1
    assert [part.healthy for part in await runtime.health()] == [True, True]
    assert [result.outcome for result in await answers(runtime)] == [Outcome.OK, Outcome.OK]


@in_loop
async def test_a_restart_that_fails_mends_nothing() -> None:
    """The component is as it was."""

    class Stubborn(Part):
        async def restart(self) -> None:
            raise OSError("no")

    chaos = Chaos()
    part = chaos.around_component(Stubborn())
    chaos.inject(Fault(FaultKind.COMPONENT, component="s3"))
    with pytest.raises(OSError, match="no"):
        await part.restart()
    assert (chaos.why_failing() or "").startswith("component (s3)")
    chaos.end_all()


@in_loop
async def test_hang_holds_until_it_is_over_or_nobody_waits() -> None:
    """And a second one instead of the first goes on holding."""
    chaos, gone = Chaos(), asyncio.get_running_loop().create_future()
    chaos.inject(Fault(FaultKind.HANG))
    holding, leaving = (asyncio.create_task(chaos.wait_while_hung(f)) for f in (asyncio.Future[None](), gone))
    await turns()
    chaos.inject(Fault(FaultKind.HANG, 0.05))
    gone.set_result(None)
    await turns()
    assert (holding.done(), leaving.done()) == (False, True)
    await holding


@in_loop
async def test_a_fault_replaces_only_one_of_its_kind() -> None:
    """Several kinds may be there together; the later end counts."""
    chaos = Chaos()
    chaos.inject(Fault(FaultKind.GARBAGE, 0.01))
    chaos.inject(Fault(FaultKind.GARBAGE, 60))
    chaos.inject(Fault(FaultKind.ERRORS, 60, rate=0.25))
    await asyncio.sleep(0.05)  # noqa: TID251 - longer than the first one's time
    assert chaos.why_failing() == "garbage for 60 s more, errors (rate 0.25) for 60 s more"
    assert chaos.line(b"x") == GARBAGE
    chaos.end(FaultKind.GARBAGE)
    assert chaos.why_failing() == "errors (rate 0.25) for 60 s more"
    chaos.end_all()


@in_loop
async def test_crash_is_a_sigkill_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is put in order before."""
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr("cell_worker.chaos.os.kill", lambda pid, number: killed.append((pid, number)))
    Chaos().inject(Fault(FaultKind.CRASH))
    assert killed == [(os.getpid(), signal.SIGKILL)]
