"""How commands in other terminals find a system that runs here: a file in the user's state folder names it.

One file names the system that was started last by `dev` or the demo. It counts only where nobody says otherwise: any
`CELLROUTER_*` variable or `--config` wins over all of it, so that no command ever asks half of one system and half of
another. Each environment that `cellrouter env create` has made here has a file of its own, and is asked where it is
named.
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
    born: float = 0.0  # when that process was started, so that no other one of its number is taken for it; 0: not known


def context_file(environ: Mapping[str, str], environment: str = "") -> Path:
    """Return where the context lies: `cellrouter/context.json` in $XDG_STATE_HOME, which is ~/.local/state if unset.

    That of an environment lies beside it, in a folder for all of them.
    """
    state = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME", "/")) / ".local" / "state"
    folder = Path(state) / "cellrouter"
    return folder / "environments" / f"{environment}.json" if environment else folder / FILE_NAME


@contextmanager
def written(
    command: str, variables: Mapping[str, str], environ: Mapping[str, str], environment: str = ""
) -> Iterator[str | None]:
    """Let other terminals find the system of these variables while the block runs; the block gets why they can't.

    Only this user may read the file: the system's secret is in it.
    """
    path, why = context_file(environ, environment), None
    born = (_born(os.getpid()) or 0.0) if environment else 0.0
    told = {name: value for name, value in variables.items() if name.startswith(_OURS)}
    try:
        _write(path, json.dumps(asdict(LocalContext(command, os.getpid(), told, born))))
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
    if found is None or not runs(found):
        return None
    _take(found, environ)
    return f"Asking the system of `{found.command}` here, since no CELLROUTER_* variable and no --config names one"


def adopt_environment(environ: MutableMapping[str, str], environment: str) -> LocalContext | None:
    """Have this process ask the environment of this name that runs here, and nothing else; None when none runs."""
    found = of_environment(environ, environment)
    if found is None or not runs(found):
        return None
    for name in [name for name in environ if name.startswith("CELLROUTER_")]:
        del environ[name]
    _take(found, environ)
    return found


def of_environment(environ: Mapping[str, str], environment: str) -> LocalContext | None:
    """Return what is known of an environment that was made here; it may have ended since."""
    return _read(context_file(environ, environment))


def environments(environ: Mapping[str, str]) -> dict[str, LocalContext]:
    """Return the environments that were made here, by their names."""
    files = sorted(context_file(environ, "any").parent.glob("*.json"))
    return {file.stem: found for file in files if (found := _read(file)) is not None}


def _take(found: LocalContext, environ: MutableMapping[str, str]) -> None:
    for name in [name for name in environ if name.startswith("AWS_")]:
        del environ[name]  # a profile or a proxy of the user's is for another AWS
    environ.update(found.variables)


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
        return LocalContext(str(found["command"]), int(found["pid"]), variables, float(found.get("born", 0)))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def runs(found: LocalContext) -> bool:
    """Whether the process that has started a system still runs."""
    with suppress(PermissionError):  # another user's: it runs
        try:
            os.kill(found.pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
    return not found.born or _born(found.pid) == found.born


def _born(pid: int) -> float | None:
    """Return when a process was started; None when there is none of this number."""
    import psutil  # noqa: PLC0415 - where nothing runs here, commands begin without it

    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None
