"""The tutorial on one's own workload, typed as it stands on its page: what it says is shown is shown."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from router.adapters.clock import SystemClock
from router.demo.local_ports import LocalPorts
from tests.support.aio import run, until
from tests.support.paths import REPOSITORY

PAGE: Final = REPOSITORY / "docs" / "tutorials" / "your-own-workload.md"
BLOCK: Final = re.compile(r"^```(console|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LOOKS: Final = ("tail", "dlq list", "where", "explain")
"""The commands of cellrouter that only look: a person types them again when there is nothing to see yet."""
LIMIT_S: Final = 60.0


class Terminals:
    """The shell of somebody who follows the page: the first terminal runs `dev`, the others are one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._commands(folder / "bin")
        self._log = folder / "first-terminal.log"
        self._dev: subprocess.Popen[bytes] | None = None
        self._environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "PATH": os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(REPOSITORY),
            "XDG_STATE_HOME": str(folder / "state"),
            "COLUMNS": "200",
        }

    def type(self, command: str, shown: list[str]) -> None:
        """Type a command, and see what the page says."""
        if command.startswith("cd "):
            self.folder /= command.removeprefix("cd ")
        elif command.startswith("cellrouter dev "):
            self._start(command)
            self.see(shown)
        else:
            again = command.startswith(tuple(f"cellrouter {look}" for look in LOOKS))
            expect(shown, lambda: self._said(command), again=again, where=f"$ {command}")

    def see(self, shown: list[str]) -> None:
        """See these lines in the first terminal."""
        expect(shown, self._log.read_text, again=True, where="the first terminal")

    def interrupt(self) -> int:
        """Press Ctrl-C in the first terminal; return the exit code."""
        assert self._dev is not None
        self._dev.send_signal(signal.SIGINT)
        return self._dev.wait(LIMIT_S)

    def close(self) -> None:
        """End what still runs."""
        if self._dev is not None and self._dev.poll() is None:
            self.interrupt()

    def _commands(self, folder: Path) -> None:
        """Put `cellrouter` into a folder: that of this checkout, whatever else is installed."""
        folder.mkdir()
        (folder / "cellrouter").write_text(f'#!/bin/sh\nexec {sys.executable} -m router "$@"\n')
        (folder / "cellrouter").chmod(0o755)

    def _start(self, command: str) -> None:
        own = f"{command} --port {LocalPorts.free().router}"  # other tests run beside this one
        with self._log.open("wb") as log:
            self._dev = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {own}"], cwd=self.folder, env=self._environ, stdout=log, stderr=log
            )

    def _said(self, command: str) -> str:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.folder,
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        return done.stdout


def expect(shown: list[str], say: Callable[[], str], *, again: bool, where: str) -> None:
    """See all of these lines, in any order; with `again`, look until they are there."""
    said = ""

    async def there() -> bool:
        nonlocal said
        said = say()
        return all(line in said for line in shown)

    with suppress(AssertionError):  # the one below says more
        run(until(there, where, LIMIT_S if again else 0), limit_s=2 * LIMIT_S)
    assert all(line in said for line in shown), f"{where}: {shown} is not in\n{said}"


def typed(block: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a block, with the lines that are shown after it."""
    for part in f"\n{block}".split("\n$ ")[1:]:
        command, *shown = part.strip().splitlines()
        yield command, shown


@contextmanager
def terminals(folder: Path) -> Iterator[Terminals]:
    """Open terminals in a folder, and end what runs in them."""
    opened = Terminals(folder)
    try:
        yield opened
    finally:
        opened.close()


def test_every_command_of_the_tutorial_does_what_the_page_says(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """From an empty folder to a handler that is killed, replaced and changed. Only the installation is left out."""
    began = SystemClock().monotonic()
    blocks = BLOCK.findall(PAGE.read_text())
    assert [kind for kind, _ in blocks].count("console") >= 6
    with terminals(tmp_path) as person:
        for kind, block in blocks:
            if kind == "text":
                person.see(block.splitlines())
            else:
                for command, shown in typed(block):
                    person.type(command, shown)
        assert person.interrupt() == 128 + signal.SIGINT
    assert not list((tmp_path / "state").rglob("*.json"))
    record_property("seconds", round(SystemClock().monotonic() - began))
