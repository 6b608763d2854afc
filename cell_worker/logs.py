"""Where the worker's log goes, and in which form."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog


class _Stderr:
    """Standard error. A log that can't be written, since the disk is full or nobody reads it, must stop no event."""

    def write(self, text: str) -> None:
        with suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


class _ToStructlog(logging.Handler):
    """Gives the log entries of libraries (asyncio, uvicorn, botocore) the form that the worker's own entries have."""

    def emit(self, record: logging.LogRecord) -> None:
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        log = structlog.get_logger("library").bind(logger=record.name)
        log.log(level, record.getMessage().strip(), exc_info=record.exc_info)


def configure_logs(fmt: str) -> None:
    """Send the log of the worker and of its libraries to standard error, as `json` or, for people, as `console`."""
    renderer: Any = structlog.processors.JSONRenderer() if fmt == "json" else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Stderr())),
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_ToStructlog()], force=True)
