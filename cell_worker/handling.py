"""The border to the handler, which is somebody else's code: starts and stops it, and reads what it emits and raises."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cell_worker.api import Cell, Component, Event
from cell_worker.components.sink import MAX_LINE_BYTES
from cell_worker.contract.protocol import MAX_REASON_CHARS, Reason, WireEvent


class HandlerError(Exception):
    """The handler that CELL_HANDLER names can't be used; the text says why."""


def load_handler(name: str) -> Any:
    """Import the handler `package.module:name`; of a class, make an object. Raises HandlerError."""
    module_name, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
        handler = found() if inspect.isclass(found) else found
    except Exception as error:
        raise HandlerError(f"CELL_HANDLER={name}: {said_by(error, f'{type(error).__name__}: ')}") from error
    if not (inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)):
        raise HandlerError(f"CELL_HANDLER={name}: neither a coroutine function nor a class with an async __call__")
    for probe in ("canary", "rehearse"):
        if not inspect.iscoroutinefunction(getattr(handler, probe, start_handler)):
            raise HandlerError(f"CELL_HANDLER={name}: its {probe} is no coroutine method")
    return handler


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
    )


def lines_of(emitted: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Encode records as lines. Raises ValueError for one too long for the sink: it would block all lines after it."""
    lines = [msgspec.json.encode(record) + b"\n" for record in emitted]
    if longest := max((len(line) for line in lines if len(line) > MAX_LINE_BYTES), default=0):
        raise ValueError(f"an emitted record has {longest} bytes, more than the {MAX_LINE_BYTES} that the sink takes")
    return lines


def said_by(error: BaseException, prefix: str = "") -> Reason:
    """The text of an exception, fit for a result line, even when its `__str__` raises. Its type if it has no text."""
    try:
        text = f"{prefix}{error}"
    except Exception:  # noqa: BLE001 - a handler's exceptions are the handler's code
        text = f"{prefix}(its text can't be shown)"
    text = text[:MAX_REASON_CHARS].encode(errors="replace").decode()  # JSON has no lone surrogates
    return text or type(error).__name__
