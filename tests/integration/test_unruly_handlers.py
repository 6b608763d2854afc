"""Real workers whose handlers misbehave: others go on, and the worker ends only where it must."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cell_worker.contract import protocol
from router.adapters.clock import SystemClock
from router.adapters.provisioners.subprocess import SubprocessConfig, SubprocessProvisioner
from tests.support.aio import run, until
from tests.support.keys import ring
from tests.support.unruly import NOTES
from tests.support.worker_process import WorkerProcess, body, get, outcomes, post

pytestmark = pytest.mark.one_kind  # it is about the worker's process

EVENTS = protocol.EVENTS_PATH
HANDLER = "tests.support.unruly:handle"


@pytest.fixture(scope="module")
def worker(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """One worker for all tests that must not end it."""
    with WorkerProcess(redis_url, tmp_path_factory.mktemp("unruly"), handler=HANDLER) as made:
        yield made


def ask(worker: WorkerProcess, *ids: str, generation: int = 1) -> list[str]:
    """The outcomes for a batch of these events."""
    status, lines = post(f"{worker.url()}{EVENTS}", body(*ids, generation=generation))
    assert status == 200, (lines, worker.said())
    found = outcomes(lines)
    return [found[index] for index in range(len(ids))]


def result(worker: WorkerProcess, name: str) -> dict[str, object]:
    """The result of one event."""
    found: dict[str, object] = json.loads(post(f"{worker.url()}{EVENTS}", body(name))[1])
    return found


@pytest.mark.parametrize("deed", ["fork", "process", "pool", "forgets", "awaits", "threaded"])
def test_a_forked_child_never_acts_as_the_worker(worker: WorkerProcess, deed: str) -> None:
    """It is terminated, or returns to the worker's code: the worker goes on, and answers each event once."""
    assert ask(worker, f"{deed}-alone") == ["ok"]
    assert ask(worker, f"{deed}-{deed}", f"ok-{deed}") == ["ok", "ok"]
    assert ask(worker, f"ok-after-{deed}") == ["ok"]
    assert worker.process.poll() is None, worker.said()
    assert "a task ended" not in worker.said(), "the copy of the worker's own tasks has run in the child"


@pytest.mark.parametrize("deed", ["exits", "interrupts", "exitsthread"])
def test_exit_and_interrupt_fail_their_own_event_and_nothing_else(worker: WorkerProcess, deed: str) -> None:
    """In whatever task or thread they are raised, and when the loop is stopped, the worker goes on."""
    assert ask(worker, f"{deed}-{deed}", f"ok-{deed}") == ["failed", "ok"]
    assert ask(worker, f"ok-after-{deed}") == ["ok"]
    assert worker.process.poll() is None, worker.said()


def test_a_forked_child_keeps_no_connection_of_the_worker(redis_url: str, tmp_path: Path) -> None:
    """The worker's sockets are closed when the worker closes them, whatever its children do."""
    with pytest.MonkeyPatch().context() as patch:
        patch.setenv(NOTES, str(tmp_path))
        with WorkerProcess(redis_url, tmp_path, handler=HANDLER) as worker:
            assert ask(worker, "orphans") == ["ok"]
            child = Path("/proc", (tmp_path / "fork").read_text())
            port = int(worker.ready().address.rpartition(":")[2])
            ours = {inode for inode, ports in inodes(child / "net" / "tcp").items() if port in ports}
            assert ours & set(sockets(Path("/proc", str(worker.process.pid), "fd"))), "the worker listens"
            assert not ours & set(sockets(child / "fd"))


def sockets(folder: Path) -> Iterator[str]:
    """The inodes of the sockets that a process has open."""
    for descriptor in folder.iterdir():
        with suppress(OSError):
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                yield target[8:-1]


def inodes(table: Path) -> dict[str, set[int]]:
    """Both ports of every TCP socket by its inode, as the kernel lists them."""
    rows = [line.split() for line in table.read_text().splitlines()[1:]]
    return {row[9]: {int(end.rpartition(":")[2], 16) for end in row[1:3]} for row in rows}


@pytest.mark.parametrize("how", ["asked to", "crash"])
def test_no_child_outlives_its_worker(redis_url: str, tmp_path: Path, how: str) -> None:
    """Forks, commands and children of children that have ended; one of them ignores SIGTERM.

    A worker that is killed can't do so itself: its container does, and so does the provisioner that has started it.
    """
    with pytest.MonkeyPatch().context() as patch:
        patch.setenv(NOTES, str(tmp_path))
        with WorkerProcess(redis_url, tmp_path, handler=HANDLER, drain_timeout_s=1) as worker:
            assert [ask(worker, deed) for deed in ("orphans", "lingers")] == [["ok"], ["ok"]], worker.said()
            pids = [int((tmp_path / name).read_text()) for name in ("fork", "command", "daemon")]
            assert all(alive(pid) for pid in pids)
            if how == "asked to":
                worker.process.terminate()
                assert worker.process.wait(20) == 0, worker.said()
            else:
                assert post(f"{worker.url()}{EVENTS}", body("segfault"))[0] == 0
                assert worker.process.wait(20) == -signal.SIGSEGV
                assert all(os.getpgid(pid) == worker.process.pid for pid in pids), "the provisioner finds them"
                os.killpg(worker.process.pid, signal.SIGKILL)

            async def gone() -> bool:
                return not any(alive(pid) for pid in pids)

            run(until(gone, "no child is left"))


def test_the_provisioner_ends_what_a_killed_worker_has_left(redis_url: str, tmp_path: Path) -> None:
    """It kills the rest of the worker's process group, and no other process."""
    worker = WorkerProcess(redis_url, tmp_path, handler=HANDLER)  # only its settings and its lease
    environ, secret_of = {**worker.environ(), NOTES: str(tmp_path)}, ring(worker.environment).cell_secret
    config = SubprocessConfig(tmp_path / "run", environ, tmp_path, 5, secret_of)

    async def story() -> None:
        provisioner = SubprocessProvisioner(config, SystemClock(), print)
        await provisioner.launch("cell-0000", 1)

        async def ready() -> bool:
            return (lease := worker.lease()) is not None and lease[0].ready

        await until(ready, "it is ready")
        lease = worker.lease()
        assert lease is not None
        assert (await asyncio.to_thread(post, f"http://{lease[1].address}{EVENTS}", body("orphans")))[0] == 200
        pids = [int((tmp_path / name).read_text()) for name in ("fork", "command", "daemon")]
        (instance,) = await provisioner.observe()
        os.kill(int(instance.detail.removeprefix("pid ")), signal.SIGKILL)

        async def gone() -> bool:
            return not [each for each in await provisioner.observe() if each.running] and not any(map(alive, pids))

        await until(gone, "no child is left")

    run(story())


def alive(pid: int) -> bool:
    """Whether a process runs: a zombie doesn't."""
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_can_not_be_cancelled_gives_its_place_back(redis_url: str, tmp_path: Path) -> None:
    """The event fails soon after its time, others go on, and what ends late is not committed."""
    settings = {"handler": HANDLER, "concurrency": 1, "event_timeout_s": 1}
    with pytest.MonkeyPatch().context() as patch:
        patch.setenv(NOTES, str(tmp_path))
        with WorkerProcess(redis_url, tmp_path, **settings) as worker:
            late = result(worker, "outlast-1")
            assert late["outcome"] == "failed"
            assert "took longer than 1 s, and goes on after its cancellation" in str(late["reason"])
            assert ask(worker, "ok-1") == ["ok"]
            again = result(worker, "outlast-1")
            assert again["outcome"] == "failed"
            assert "an earlier attempt still runs here" in str(again["reason"])
            assert ask(worker, "thread-1", "quick-1") == ["failed", "ok"]
            assert "an earlier attempt still runs here" in str(result(worker, "thread-1")["reason"])
            assert "2 handlers go on after their time" in worker.components(worker.url())["worker"][1]
            assert "cell_worker_abandoned_events_total 2.0" in get(f"{worker.url()}/metrics")[1]
            (tmp_path / "go").touch()

            async def ended() -> bool:
                return "an abandoned handler has ended" in worker.said()

            run(until(ended, "the late one has ended"))
            assert worker.events() == {"ok-1", "quick-1"}
            worker.process.terminate()
            assert worker.process.wait(20) == 0, worker.said()


@pytest.mark.parametrize("deeds", [["swallow"] * 4, ["threads"] * 3], ids=lambda deeds: deeds[0])
def test_too_many_abandoned_runs_end_the_worker_in_order(redis_url: str, tmp_path: Path, deeds: list[str]) -> None:
    """As many as it has places, or as many threads as it has: its exit code and its last words say so."""
    ids = [f"{deed}-{number}" for number, deed in enumerate(deeds)]
    with WorkerProcess(redis_url, tmp_path, handler=HANDLER, concurrency=4, event_timeout_s=0.5) as worker:
        assert set(ask(worker, *ids, "ok-1")) == {"failed", "ok"}
        assert worker.process.wait(20) == 3, worker.said()
        assert "after their time" in worker.said().splitlines()[-1]
        assert worker.lease() is None
        assert worker.events() == {"ok-1"}


def test_a_blocked_loop_is_named_in_log_page_and_lease(redis_url: str, tmp_path: Path) -> None:
    """While it is blocked the log names the handler's code; afterwards the page, the lease and the metrics do."""
    told = re.compile(r"handler blocks the loop: \d+ s in `tests.support.unruly.block_for`")
    with WorkerProcess(redis_url, tmp_path, handler=HANDLER) as worker:
        assert ask(worker, "block-1") == ["ok"]
        assert re.search(f"{told.pattern} so far", worker.said())
        assert told.search(worker.components(worker.url())["worker"][1])

        async def noted() -> bool:
            lease = worker.lease()
            return lease is not None and told.search(lease[0].note) is not None

        run(until(noted, "the lease says it"))
        assert "cell_worker_loop_blocked_total 0.0" not in get(f"{worker.url()}/metrics")[1]


def test_a_worker_that_was_blocked_longer_than_its_lease_commits_nothing_of_its_successor(
    redis_url: str, tmp_path: Path
) -> None:
    """Its successor takes the store meanwhile. It wakes, is refused, and ends as one that is fenced."""

    async def story() -> None:
        with WorkerProcess(redis_url, tmp_path, handler=HANDLER, generation=1) as old:
            url = await asyncio.to_thread(old.url)
            asking = asyncio.create_task(asyncio.to_thread(post, f"{url}{EVENTS}", body("stall-1", "ok-1")))

            async def ended() -> bool:
                return "the loop: " in old.said()

            await until(ended, "it is blocked for longer than its lease of 1 s")
            with WorkerProcess(redis_url, tmp_path, handler=HANDLER, generation=2, environment=old.environment) as new:
                new.admit(2)
                await asyncio.to_thread(new.has_taken)
                (tmp_path / "go").touch()
                assert "ok" not in outcomes((await asking)[1]).values()
                assert await asyncio.to_thread(old.process.wait, 20) == 0, old.said()
                assert "fenced" in old.said()
                assert new.events() == set()

    with pytest.MonkeyPatch().context() as patch:
        patch.setenv(NOTES, str(tmp_path))
        run(story(), limit_s=90)
