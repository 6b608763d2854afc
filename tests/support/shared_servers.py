"""Real servers that all test processes of one run share: the first one that needs a kind of server starts it.

A server belongs to a keeper, a process of its own. Users hold a shared lock on a file while they use the server; the
keeper ends the server and itself once it can lock that file alone. So nothing is left when the tests are killed.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tests.support.containers import localstack, redis
from tests.support.docker import require_engine
from tests.support.paths import REPOSITORY
from tests.support.servers import ministack, valkey

START_POLLS: Final = 1800
POLL_S: Final = 0.1
SERVERS: Final[Mapping[str, Callable[[], AbstractContextManager[str]]]] = {
    "ministack": ministack,
    "valkey": valkey,
    "localstack": localstack,
    "redis": redis,
}
IN_DOCKER: Final = frozenset({"localstack", "redis"})


@dataclass(frozen=True, slots=True)
class Servers:
    """The kind of servers that a test runs on: the name of its AWS, and what `shared` calls its AWS and its Redis.

    The last two are empty for a fake in memory.
    """

    aws_name: str
    aws: str
    redis: str


KINDS: Final = {
    "embedded": Servers("MiniStack", "ministack", "valkey"),
    "containers": Servers("LocalStack", "localstack", "redis"),
    "memory": Servers("", "", ""),
    "strict": Servers("strict SQS", "", ""),
}


@contextmanager
def shared(kind: str, folder: Path) -> Iterator[str]:
    """Use the run's server of this kind; yields its URL. `folder` is where the processes of the run find each other.

    Skips the test, or with CI=true fails it, when the server needs Docker and there is none. Raises RuntimeError with
    the keeper's last words when the server doesn't start.
    """
    if kind in IN_DOCKER:
        require_engine()
    with (folder / f"{kind}.users").open("ab") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        yield _url(kind, folder)


def _url(kind: str, folder: Path) -> str:
    file, log = folder / f"{kind}.url", folder / f"{kind}.log"
    with (folder / f"{kind}.start").open("ab") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not file.exists():
            _ended(file).unlink(missing_ok=True)
            with log.open("wb") as words:
                command = [sys.executable, "-m", __name__, kind, str(folder)]
                subprocess.run(command, cwd=REPOSITORY, stdout=words, stderr=words, check=True)
            _wait(file, log)
        return file.read_text()


def _wait(file: Path, log: Path) -> None:
    pause, ended = threading.Event(), _ended(file)
    for _ in range(START_POLLS):
        if file.exists():
            return
        if ended.exists():
            break
        pause.wait(POLL_S)
    raise RuntimeError(f"the server doesn't start:\n{log.read_text(errors='replace')[-2000:]}")


def _ended(file: Path) -> Path:
    return file.with_suffix(".ended")


def keep(kind: str, folder: Path) -> None:
    """Run the server until nobody uses it any more."""
    file = folder / f"{kind}.url"
    with (folder / f"{kind}.users").open("ab") as users:
        try:
            with SERVERS[kind]() as url:
                part = file.with_suffix(".part")
                part.write_text(url)
                part.replace(file)
                while not _is_mine_alone(users):
                    threading.Event().wait(POLL_S)
                file.unlink()
        finally:  # before the next user gets the lock, who would take it for the end of the next keeper
            _ended(file).touch()


def _is_mine_alone(users: IO[bytes]) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def main() -> None:
    """Become the keeper: a process that outlives the one that started it, and hears none of its signals."""
    if os.fork():
        os._exit(0)
    os.setsid()
    keep(sys.argv[1], Path(sys.argv[2]))


if __name__ == "__main__":
    main()
