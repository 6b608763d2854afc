"""Injected faults: what each kind does to events, canaries and components, and that every fault ends."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from functools import partial

import pytest

from cell_worker.api import Cell, Event
from cell_worker.chaos import GARBAGE, Chaos
from cell_worker.contract.protocol import EventResult, Fault, FaultKind, Outcome
from cell_worker.runtime import Runtime
from tests.support.aio import until
from tests.support.memory_store import MemoryStore
from tests.support.runtime_world import Handle, batch, emit, in_loop, make, one_result, results, turns


async def make_with_faults(handler: Handle = emit) -> tuple[Runtime, Chaos, MemoryStore]:
    """Make a runtime into whose handler faults can be injected."""
    chaos = Chaos(allowed=True)
    runtime, store = await make(chaos.around_handler(handler), concurrency=50)
    return runtime, chaos, store


async def answers(runtime: Runtime) -> list[EventResult]:
    """The results of one event and of one canary, in this order."""
    return [result for _, result in sorted((await results(runtime, batch("a", "canary"))).items())]


async def times(runtime: Runtime) -> list[float]:
    """How many seconds an event and a canary took."""
    return [result.duration_s for result in await answers(runtime)]


@in_loop
async def test_nothing_injected_changes_nothing() -> None:
    """Events and canaries are ok, also with a handler that has no canary of its own."""
    runtime, chaos, _ = await make_with_faults()
    assert [result.outcome for result in await answers(runtime)] == [Outcome.OK, Outcome.OK]
    assert chaos.why_failing() is None
    assert chaos.line(b"x") == b"x"


@in_loop
async def test_slow_adds_to_every_event_and_canary() -> None:
    """Each takes the delay longer, until the fault ends by itself."""
    runtime, chaos, _ = await make_with_faults()
    chaos.inject(Fault(FaultKind.SLOW, 0.3, delay_s=0.1))
    assert chaos.why_failing() == "slow (+0.1 s, x1) for 0 s more"
    assert all(took >= 0.09 for took in await times(runtime))

    async def over() -> bool:
        return chaos.why_failing() is None

    await until(over, "it has ended by itself")
    assert all(took < 0.09 for took in await times(runtime))


@in_loop
async def test_slow_hits_a_share_of_events_where_it_has_a_rate() -> None:
    """As one bad thread of several does: of 40, some are delayed and some are not."""
    _, chaos, _ = await make_with_faults()
    chaos.inject(Fault(FaultKind.SLOW, delay_s=300, rate=0.5))
    assert str(chaos.why_failing()).startswith("slow (+300 s, x1, rate 0.5)")
    calls = [asyncio.create_task(chaos.call(partial(turns, 0))) for _ in range(40)]
    await turns()
    assert 0 < sum(call.done() for call in calls) < 40
    chaos.end_all()
    await asyncio.gather(*calls)


@in_loop
async def test_slow_multiplies_what_the_handler_takes() -> None:
    """A handler that takes 50 ms takes 200 ms at factor 4."""

    async def handler(event: Event, cell: Cell) -> None:
        await asyncio.sleep(0.05)  # noqa: TID251 - the time that is multiplied

    runtime, chaos, _ = await make_with_faults(handler)
    chaos.inject(Fault(FaultKind.SLOW, factor=4))
    assert (await times(runtime))[0] >= 0.19
    chaos.end_all()


@in_loop
async def test_the_end_of_slow_releases_the_events_that_it_delays() -> None:
    """An event that is being delayed goes on when a person ends the fault (0 seconds) or the worker drains."""
    for end in (lambda chaos: chaos.inject(Fault(FaultKind.SLOW, 0)), Chaos.end_all):
        runtime, chaos, _ = await make_with_faults()
        chaos.inject(Fault(FaultKind.SLOW, delay_s=300))
        asking = asyncio.create_task(one_result(runtime))
        await turns()
        assert not asking.done()
        end(chaos)
        assert (await asking).outcome is Outcome.OK


@in_loop
async def test_errors_fail_events_at_their_rate() -> None:
    """Events fail at the given rate and nothing of them is committed; canaries are answered with retry."""
    runtime, chaos, store = await make_with_faults()
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
    """Its check fails, and events and canaries get retry. A restart of another component changes nothing."""
    runtime, chaos, store = await make_with_faults()
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
    """The fault goes on when the component's restart raises."""

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
async def test_hang_blocks_until_it_ends_or_nobody_waits() -> None:
    """A hung worker answers when the fault ends. A second hang in place of the first goes on blocking."""
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
    """Faults of several kinds run side by side. Of one kind, the later fault decides the end."""
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
    """The process kills itself without any cleaning up."""
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr("cell_worker.chaos.os.kill", lambda pid, number: killed.append((pid, number)))
    Chaos().inject(Fault(FaultKind.CRASH))
    assert killed == [(os.getpid(), signal.SIGKILL)]
