"""The border to the handler, which is somebody else's code: starts and stops it, and reads what it emits and raises."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from traceback import extract_tb
from typing import Any, Final

import msgspec

from cell_worker.api import Cell, Component, Event
from cell_worker.components.sink import MAX_LINE_BYTES
from cell_worker.contract.protocol import MAX_REASON_CHARS, Reason, WireEvent

_NOT_THEIRS: Final = (__file__, importlib.__file__, "<frozen importlib")
"""How the names of the files begin through which a handler is imported."""
OF_THE_RUN: Final = frozenset({"cell_id", "generation", "processing_id"})
"""The members of an emitted record that say where and when it was made."""


class HandlerError(Exception):
    """The handler that CELL_HANDLER names can't be used; the text says why."""


def load_handler(name: str) -> Any:
    """Import the handler `package.module:name`; of a class, make an object. Raises HandlerError."""
    module_name, _, attribute = name.partition(":")
    try:
        return usable(getattr(importlib.import_module(module_name), attribute))
    except HandlerError as error:
        raise HandlerError(f"CELL_HANDLER={name}: {error}") from error
    except Exception as error:
        raise HandlerError(
            f"CELL_HANDLER={name}: {said_by(error, f'{type(error).__name__}: ')}{_place(error)}"
        ) from error


def usable(found: Any) -> Any:
    """Make an object of a handler's class, and leave any other handler as it is. Raises HandlerError for no handler."""
    handler = found() if inspect.isclass(found) else found
    if not (inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)):
        raise HandlerError("neither a coroutine function nor a class with an async __call__")
    for probe in ("canary", "rehearse"):
        if not inspect.iscoroutinefunction(getattr(handler, probe, start_handler)):
            raise HandlerError(f"its {probe} is no coroutine method")
    return handler


def _place(error: Exception) -> str:
    """Where in the handler's code an exception was raised; empty when it was not raised in any."""
    frames = [frame for frame in extract_tb(error.__traceback__) if not frame.filename.startswith(_NOT_THEIRS)]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


async def start_handler(handler: Any, cell: Cell) -> Sequence[Component]:
    """Start a handler that has `start` and `stop`. Returns its components; raises HandlerError, whatever it raises."""
    try:
        return await handler.start(cell) if _starts_and_stops(handler) else ()
    except Exception as error:
        raise HandlerError(f"the handler can't start: {type(error).__name__}: {error}") from error


async def stop_handler(handler: Any) -> None:
    """Stop a handler that `start_handler` has started."""
    if _starts_and_stops(handler):
        await handler.stop()


def _starts_and_stops(handler: Any) -> bool:
    return all(hasattr(handler, name) for name in ("start", "stop"))


def event_of(wire: WireEvent) -> Event:
    """Make the event that a handler gets of what a router has sent."""
    attributes: dict[str, str | bytes] = {**wire.attributes, **wire.binaries}
    return Event(
        *(wire.event_id, wire.partition_key, wire.attempt, bytes(wire.body)),
        sent_at_ms=wire.sent_at_ms,
        attributes=attributes,
        types=wire.types,
        trace_header=wire.trace_header,
        trace=wire.trace,
    )


def lines_of(emitted: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Encode records as lines. Raises ValueError for one too long for the sink: it would block all lines after it."""
    if not emitted:
        return []
    lines = [msgspec.json.encode(record) + b"\n" for record in emitted]
    if longest := max((len(line) for line in lines if len(line) > MAX_LINE_BYTES), default=0):
        raise ValueError(f"an emitted record has {longest} bytes, more than the {MAX_LINE_BYTES} that the sink takes")
    return lines


def digest_of(emitted: Sequence[Mapping[str, Any]]) -> str:
    """Digest what a handler has emitted, so that two runs for one event can be compared; empty for nothing.

    What names the run and not what it found is left out.
    """
    if not emitted:
        return ""
    digest = hashlib.blake2b(digest_size=8)
    for record in emitted:
        digest.update(msgspec.json.encode({name: record[name] for name in record if name not in OF_THE_RUN}) + b"\n")
    return digest.hexdigest()


def said_by(error: BaseException, prefix: str = "") -> Reason:
    """The text of an exception, fit for a result line, even when its `__str__` raises. Its type if it has no text."""
    try:
        text = f"{prefix}{error}"
    except Exception:  # noqa: BLE001 - a handler's exceptions are the handler's code
        text = f"{prefix}(its text can't be shown)"
    text = text[:MAX_REASON_CHARS].encode(errors="replace").decode()  # JSON has no lone surrogates
    return text or type(error).__name__


def main() -> None:
    """Import the handler that the first argument names, and exit with 1 and a line that says why it can't be used."""
    why = ""
    try:
        load_handler(sys.argv[1])
    except HandlerError as error:
        why = str(error)
    except BaseException as error:  # noqa: BLE001 - whatever an import raises, no worker could start
        why = f"CELL_HANDLER={sys.argv[1]}: {error!r}"
    print(" ".join(why.split()), file=sys.stderr, flush=True)  # noqa: T201 - who asked reads the last line
    os._exit(1 if why else 0)  # threads that the import has started keep nobody waiting


if __name__ == "__main__":
    main()
