"""A worker says how much CPU it has and uses, how long it waits for it, and what else may make it slow."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from prometheus_client import generate_latest

from cell_worker import clock
from cell_worker.contract import protocol
from cell_worker.metrics import WorkerMetrics
from cell_worker.store.store import StoreError
from cell_worker.vitals.host import cpu_quota, usable_cpus, waited_s
from cell_worker.vitals.signs import SPAN_S, GcClock, Reading, VitalSigns, vitals_of
from tests.support.runtime_world import batch, emit, in_loop, make, one_result, turns

BEGIN = Reading(100.0, 10.0, 1.0, 2.0, 0.5, 1000, 3.0, 9.0, 9.0)


def tree(folder: Path, files: Mapping[str, str]) -> Path:
    """Write a kernel's files under a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return folder


def test_the_quota_of_a_container_is_that_of_its_own_group(tmp_path: Path) -> None:
    """Its control group is all that it sees of them, as on Fargate and in Docker."""
    proc = tree(tmp_path / "proc", {"self/cgroup": "0::/"})
    stat = "usage_usec 5\nnr_periods 10\nnr_throttled 6\nthrottled_usec 1500000"
    groups = tree(tmp_path / "cgroup", {"cpu.max": "50000 100000", "cpu.stat": stat})
    quota = cpu_quota(proc, groups)
    assert quota is not None
    assert (quota.cpus, quota.throttled_s(), usable_cpus(quota)) == (0.5, 1.5, 0.5)


def test_the_smallest_quota_around_a_process_is_what_limits_it(tmp_path: Path) -> None:
    """A task's quota holds for all of its containers, whatever each may use by itself."""
    proc = tree(tmp_path / "proc", {"self/cgroup": "0::/task/one"})
    files = {"task/one/cpu.max": "max 100000", "task/cpu.max": "75000 100000", "cpu.max": "25000 100000"}
    quota = cpu_quota(proc, tree(tmp_path / "cgroup", files))
    assert quota is not None
    assert quota.cpus == 0.25
    assert quota.throttled_s() is None  # the kernel does not count it here


@pytest.mark.parametrize("seen", ["cpu,cpuacct/docker/one", "cpu,cpuacct"])
def test_control_groups_of_version_one_are_understood(tmp_path: Path, seen: str) -> None:
    """Their times are in nanoseconds, and a container may see its own group as the topmost one."""
    proc = tree(tmp_path / "proc", {"self/cgroup": "7:memory:/docker/one\n4:cpu,cpuacct:/docker/one\n0::/docker/one"})
    quota = {"cpu.cfs_quota_us": "200000", "cpu.cfs_period_us": "100000", "cpu.stat": "throttled_time 2500000000"}
    groups = tree(tmp_path / "cgroup", {f"{seen}/{name}": text for name, text in quota.items()})
    found = cpu_quota(proc, groups)
    assert found is not None
    assert (found.cpus, found.throttled_s()) == (2.0, 2.5)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"cpu.max": "max 100000"},
        {"cpu.max": "0 0"},
        {"cpu.max": "-5 100000"},
        {"cpu.max": "much"},
        {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
    ],
)
def test_without_a_quota_none_is_told(tmp_path: Path, files: Mapping[str, str]) -> None:
    """Neither where there are no control groups nor where they say something else than the kernel does."""
    proc = tree(tmp_path / "proc", {"self/cgroup": "3:cpu:/\n0::/../../elsewhere\nrubbish"})
    assert cpu_quota(proc, tree(tmp_path / "cgroup", files)) is None
    assert cpu_quota(tmp_path / "nothing", tmp_path / "nothing") is None


def test_the_wait_for_a_core_is_that_of_the_main_thread(tmp_path: Path) -> None:
    """A kernel that does not count it says 0 for everything, and no other system has the file."""
    assert waited_s(tree(tmp_path / "a", {"self/schedstat": "9000000000 2500000000 77"})) == 2.5
    assert waited_s(tree(tmp_path / "b", {"self/schedstat": "0 0 0"})) is None
    assert waited_s(tree(tmp_path / "c", {"self/schedstat": ""})) is None
    assert waited_s(tmp_path / "nothing") is None


def test_figures_are_of_the_seconds_between_the_readings() -> None:
    """The worst of the second before the first reading is not among them."""
    end = Reading(105.0, 12.45, 3.0, 5.0, 0.6, 1100, 3.5, 0.25, 0.125)
    assert vitals_of([BEGIN, end], cpus=0.5) == protocol.Vitals(0.5, 0.98, 0.4, 0.6, 0.125, 0.02, 0.005, 0.25)


def test_what_can_not_be_measured_is_not_told() -> None:
    """On macOS there is neither a quota nor a wait; and one reading says nothing."""
    begin, end = [Reading(at, at, None, None, 0.0, 5, 1.0, 0.5, 0.0) for at in (1.0, 2.0)]
    assert vitals_of([begin, end], cpus=8) == protocol.Vitals(8, 0.125, None, None, 0.0, 0.0, 0.0, 0.5)
    assert vitals_of([begin], cpus=8) is None


def test_whatever_was_counted_the_lease_can_be_read() -> None:
    """A clock that jumps, or a group that is made anew, must not cost the instance its lease."""
    wild = Reading(101.0, 1e9, 1e9, 0.0, 0.0, 1001, 1e12, 1e12, 1e12)
    for readings in ([BEGIN, wild], [moved_to(wild, 1.0), moved_to(BEGIN, 2.0)]):
        found = vitals_of(readings, cpus=0.01)
        lease = protocol.Lease(1, ready=True, record="", vitals=found)
        assert protocol.LEASE.read(msgspec.json.encode(lease)) == lease


def moved_to(reading: Reading, at: float) -> Reading:
    """The reading at another time."""
    return Reading(at, *[getattr(reading, name) for name in Reading.__slots__[1:]])


def test_collections_of_garbage_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """From when Python begins one until it is over."""
    times = iter([1.0, 1.25])
    watch = GcClock()
    watch.start()
    try:
        monkeypatch.setattr(clock, "monotonic", lambda: next(times))
        gc.collect()
    finally:
        watch.stop()
    assert watch.seconds == 0.25
    gc.collect()  # which asks for no time any more


@in_loop
async def test_the_time_of_commits_canaries_and_failed_writes_is_counted() -> None:
    """A store that fails after a time is as slow as one that does it."""
    runtime, _ = await make(emit)
    strain = runtime._metrics.strain
    await one_result(runtime)
    await one_result(runtime, batch("canary"))
    assert strain.writes == 2

    async def failing() -> None:
        raise StoreError("full")

    with pytest.raises(StoreError):
        await strain.timed(failing())
    assert strain.writes == 3
    assert strain.writes_s >= strain.take_slowest_write_s(0.0) > 0 == strain.take_slowest_write_s(0.0)


@in_loop
async def test_a_write_that_never_ends_is_told_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the oldest that counts; and when it is cancelled, it was as slow as that."""
    now, strain = [100.0], WorkerMetrics().strain
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    hung = asyncio.create_task(strain.timed(asyncio.Event().wait()))
    await turns()
    now[0] = 107.0
    younger = asyncio.create_task(strain.timed(asyncio.Event().wait()))
    await turns()
    assert [strain.take_slowest_write_s(at) for at in (107.0, 112.0)] == [7.0, 12.0]
    for task in (hung, younger):
        task.cancel()
    await turns()
    assert [strain.take_slowest_write_s(at) for at in (113.0, 114.0)] == [7.0, 0.0]
    assert strain.writes == 2


def test_a_reading_a_second_is_shown_and_ready_for_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures are of the last seconds, and older ones are forgotten."""
    now, metrics = [100.0], WorkerMetrics()
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    monkeypatch.setattr(clock, "cpu_s", lambda: now[0] / 4)
    signs = VitalSigns(metrics)
    signs._cpus, signs._quota = 0.5, None
    signs._read()
    assert signs.said is None
    metrics.late(0.75)
    for _ in range(SPAN_S):
        now[0] += 1
        signs._read()
    assert signs.said is not None
    assert (signs.said.cpu, signs.said.throttled, signs.said.lag_s) == (0.5, None, 0.75)
    text = generate_latest(metrics.registry).decode()
    assert "cell_cpu_ratio 0.5" in text
    assert "cell_loop_lag_worst_seconds 0.75" in text
    assert "cell_cpu_throttled_ratio NaN" in text
    now[0] += 1
    signs._read()
    assert signs.said.lag_s == 0.0
