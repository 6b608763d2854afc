"""How commands in other terminals find the system that runs here: a file in the user's state folder names it.

It counts only where nobody says otherwise: any `CELLROUTER_*` variable or `--config` wins over all of it, so that no
command ever asks half of one system and half of another.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

FILE_NAME: Final = "context.json"
_OURS: Final = ("AWS_", "CELLROUTER_")
"""How the variables begin that say which system is meant, and with which rights it is asked."""


@dataclass(frozen=True, slots=True)
class LocalContext:
    """What a command has to know of the system that runs on this machine."""

    command: str  # which has started it, as a person types it
    pid: int  # of that command: when it has ended, the system has
    variables: dict[str, str]


def context_file(environ: Mapping[str, str]) -> Path:
    """Return where the context lies: `cellrouter/context.json` in $XDG_STATE_HOME, which is ~/.local/state if unset."""
    state = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME", "/")) / ".local" / "state"
    return Path(state) / "cellrouter" / FILE_NAME


@contextmanager
def written(command: str, variables: Mapping[str, str], environ: Mapping[str, str]) -> Iterator[str | None]:
    """Let other terminals find the system of these variables while the block runs; the block gets why they can't.

    Only this user may read the file: the system's secret is in it.
    """
    path, why = context_file(environ), None
    told = {name: value for name, value in variables.items() if name.startswith(_OURS)}
    try:
        _write(path, json.dumps(asdict(LocalContext(command, os.getpid(), told))))
    except OSError as error:
        why = f"Other terminals can't find it by themselves: {error}"
    try:
        yield why
    finally:
        if (now := _read(path)) is not None and now.pid == os.getpid():
            path.unlink(missing_ok=True)


def adopt(environ: MutableMapping[str, str]) -> str | None:
    """Have this process ask the system that runs here, unless its own variables name one; say so, or return None."""
    if any(name.startswith("CELLROUTER_") for name in environ):
        return None
    found = _read(context_file(environ))
    if found is None or not _runs(found.pid):
        return None
    for name in [name for name in environ if name.startswith("AWS_")]:
        del environ[name]  # a profile or a proxy of the user's is for another AWS
    environ.update(found.variables)
    return f"Asking the system of `{found.command}` here, since no CELLROUTER_* variable and no --config names one"


def to_try(key: str, cell_id: str, *, event: str = "") -> list[str]:
    """Say what a person may try next in another terminal, a line for each command; `event` is one to send first."""
    command = "cellrouter" if shutil.which("cellrouter") else f"{sys.executable} -m router"
    tries = {
        **({f"send '{event}'": "an event for your handler"} if event else {}),
        "tail --follow": "what cells emit",
        f"where {key}": "where the events of this key go",
        f"explain {cell_id}": "how a cell is, and what was done about it",
        f"chaos crash {cell_id}": "kill its instance, and explain it again",
        "dlq list": "what was refused, and why",
    }
    return ["From any other terminal:", *(f"  {command} {do}   # {what}" for do, what in tries.items())]


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_text(content)
    new.replace(path)


def _read(path: Path) -> LocalContext | None:
    try:
        found = json.loads(path.read_text("utf-8"))
        variables = {str(name): str(value) for name, value in found["variables"].items()}
        return LocalContext(str(found["command"]), int(found["pid"]), variables)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _runs(pid: int) -> bool:
    with suppress(PermissionError):  # another user's: it runs
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
    return True
