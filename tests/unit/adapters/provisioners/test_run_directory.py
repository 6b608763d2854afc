"""The run directory of the subprocess provisioner, in which anybody may have put anything."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from router.adapters.provisioners import log_files
from router.adapters.provisioners.subprocess import MAX_PID_FILE_BYTES, SubprocessConfig, SubprocessProvisioner, _read
from router.core.errors import ProvisionError
from router.core.telemetry import BadInput
from tests.support.aio import run
from tests.support.fake_clock import FakeClock

LIMIT_S = 60
CELL = "cell-0000"


def provisioner(directory: Path, told: list[BadInput]) -> SubprocessProvisioner:
    """Make the provisioner of a controller on this directory."""
    return SubprocessProvisioner(SubprocessConfig(directory, {}, directory, 1, str), FakeClock(), told.append)


def note(directory: Path, cell_id: str, pid: int) -> None:
    """Write the process id file of an instance."""
    (directory / f"{cell_id}.g1.pid").write_text(f'{{"cell_id":"{cell_id}","generation":1,"pid":{pid}}}')


@contextmanager
def without_descriptors() -> Iterator[None]:
    """Let this process open nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def instance(directory: Path) -> subprocess.Popen[bytes]:
    """Start a process that looks like an instance of the cell."""
    environ = {"CELL_ID": CELL, "CELL_GENERATION": "1", "CELL_DATA_DIR": str(directory / CELL)}
    process = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    note(directory, CELL, process.pid)
    return process


ENTRIES: dict[str, Callable[[Path], object]] = {
    "folder": Path.mkdir,
    "garbage": lambda path: path.write_bytes(b"\xff[[["),
    "empty": Path.touch,
    "too long": lambda path: path.write_bytes(b" " * (MAX_PID_FILE_BYTES + 1)),
    "named pipe": os.mkfifo,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("kind", ENTRIES)
def test_an_entry_that_cannot_be_read_costs_only_itself(kind: str, tmp_path: Path) -> None:
    """The instances beside it are found, and the second look, not the first or a later one, tells of it."""
    told: list[BadInput] = []
    ENTRIES[kind](tmp_path / "backup.pid")
    with instance(tmp_path) as process:
        try:
            there = provisioner(tmp_path, told)
            for number in range(4):
                (found,) = run(there.observe())
                assert (found.cell_id, found.generation, found.running) == (CELL, 1, True)
                assert len(told) == (1 if number else 0)
        finally:
            process.kill()
    assert (told[0].source, told[0].name) == ("process id file", "backup.pid")


def test_an_entry_that_cannot_be_removed_costs_nothing(tmp_path: Path) -> None:
    """An instance whose process id file has become a folder ends as any other."""
    with instance(tmp_path) as process:
        there = provisioner(tmp_path, [])
        assert [view.running for view in run(there.observe())] == [True]
        (tmp_path / f"{CELL}.g1.pid").unlink()
        (tmp_path / f"{CELL}.g1.pid").mkdir()
        process.kill()
        process.wait(LIMIT_S)
    assert [view.running for view in run(there.observe())] == [False]


def test_without_a_file_descriptor_nothing_is_said_of_any_instance(tmp_path: Path) -> None:
    """A look that can't be had is no news: else every instance would be gone that can't be looked at."""
    told: list[BadInput] = []
    with instance(tmp_path) as process:
        try:
            there = provisioner(tmp_path, told)

            async def looks_without_any() -> None:
                with without_descriptors(), pytest.raises(ProvisionError, match=r"looked at: .*Too many open files"):
                    await there.observe()

            run(looks_without_any())
            assert [view.running for view in run(there.observe())] == [True]
            run(looks_without_any())
            assert [view.running for view in run(there.observe())] == [True]
        finally:
            process.kill()
    assert told == []


def test_without_a_file_descriptor_no_entry_is_called_bad(tmp_path: Path) -> None:
    """Also when the last one went between the look at the folder and the look at the entry."""
    note(tmp_path, CELL, 1)
    with without_descriptors(), pytest.raises(OSError, match="Too many open files"):
        _read(tmp_path / f"{CELL}.g1.pid")


def test_a_run_directory_that_is_gone_is_told_of(tmp_path: Path) -> None:
    """It does not look as if no instance ran."""
    directory = tmp_path / "run"
    there = provisioner(directory, [])
    directory.rmdir()
    with pytest.raises(ProvisionError, match="can't be looked at"):
        run(there.observe())


def test_a_log_that_gets_too_long_keeps_its_end_and_its_writer(tmp_path: Path) -> None:
    """A handler that prints without end fills no disk: no more than two files of MAX_BYTES stay."""
    log, old = tmp_path / f"{CELL}.g1.log", tmp_path / f"{CELL}.g1.log.1"
    process = instance(tmp_path)
    try:
        with log.open("ab", buffering=0) as writer:
            for number in range(3):
                writer.write(b"%d" % number + b"x" * log_files.MAX_BYTES + b"\n")
                run(provisioner(tmp_path, []).observe())
                writer.write(b"%d goes on\n" % number)
                assert log.read_bytes() == b"%d goes on\n" % number
                assert old.read_bytes() == b"x" * (log_files.MAX_BYTES - 1) + b"\n"
    finally:
        process.kill()
        process.communicate()


def test_a_log_that_is_not_too_long_is_left_alone(tmp_path: Path) -> None:
    """Nothing is lost of it."""
    log = tmp_path / f"{CELL}.g1.log"
    log.write_bytes(b"x" * log_files.MAX_BYTES)
    log_files.bound(log)
    assert [path.name for path in tmp_path.iterdir()] == [log.name]
    assert log.stat().st_size == log_files.MAX_BYTES


def test_only_the_last_generations_of_a_cell_keep_their_logs(tmp_path: Path) -> None:
    """A cell that ends again and again fills no disk; other cells' logs, and other files, are not touched."""
    for generation in range(8, 14):
        for suffix in ("log", "log.1", "pid"):
            (tmp_path / f"{CELL}.g{generation}.{suffix}").touch()
    for name in ("cell-0001.g1.log", f"{CELL}.gx.log", f"{CELL}0.g1.log"):
        (tmp_path / name).touch()
    log_files.remove_old(tmp_path, CELL)
    gone = {f"{CELL}.g8.log", f"{CELL}.g8.log.1"}
    left = {path.name for path in tmp_path.iterdir()}
    assert not gone & left
    assert len(left) == 6 * 3 + 3 - len(gone)
