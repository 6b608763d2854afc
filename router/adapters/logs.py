"""Structured logs, a JSON object a line; `console` for people."""

from __future__ import annotations

import logging
import sys
from functools import singledispatchmethod
from typing import Any, Literal

import structlog

from router.core import telemetry


def configure(level: str, fmt: Literal["json", "console"]) -> None:
    """Set up structlog, and send the standard library's warnings (uvicorn, aiobotocore) the same way."""
    renderer: Any = structlog.processors.JSONRenderer() if fmt == "json" else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_ToStructlog()], force=True)


class _ToStructlog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger(record.name).log(record.levelno, record.getMessage(), exc_info=record.exc_info)


class LogObserver:
    """Observer that writes the rare records; the frequent ones are for metrics only."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("cellrouter")

    @singledispatchmethod
    def observe(self, record: telemetry.Record) -> None:
        """Log it, or pass it over."""

    @observe.register
    def _(self, record: telemetry.LaneFailed) -> None:
        self._log.warning("lane failed", cell=record.cell_id, error=record.error)

    @observe.register
    def _(self, record: telemetry.EventDeadLettered) -> None:
        self._log.warning("dead-lettered", reason=record.reason)

    @observe.register
    def _(self, record: telemetry.LeadershipChanged) -> None:
        self._log.info("leadership", leads=record.leads, epoch=record.epoch)

    @observe.register
    def _(self, record: telemetry.ActionTaken) -> None:
        self._log.info(record.action, cell=record.cell_id, why=record.why)


class Observers:
    """Several observers as one."""

    def __init__(self, *observers: Any) -> None:
        self._observers = observers

    def observe(self, record: telemetry.Record) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.observe(record)
