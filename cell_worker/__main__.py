"""The entry point of a cell worker, `python -m cell_worker`. The module `worker` says how it ends."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final

import structlog
import uvloop

from cell_worker.containment.children import end_group, lead_group
from cell_worker.contract.place import region_in, without_local_proxies
from cell_worker.contract.process import (
    configure_logs,
    finish_streams,
    guard_streams,
    in_json,
    raise_descriptor_limit,
)
from cell_worker.handling import HandlerError
from cell_worker.listening import ListenError
from cell_worker.settings import SettingsError, WorkerSettings, load
from cell_worker.store.store import StoreError
from cell_worker.worker import TaskDiedError, TooManyAbandonedError, Worker

CANT_GO_ON: Final = 1
FAULTY_SETTINGS: Final = 2
TOO_MANY_ABANDONED: Final = 3


def main() -> None:
    """Run one worker until it ends. The exit code says how it ended."""
    guard_streams(as_json=in_json(os.environ, "CELL_LOG_FORMAT"))
    raise_descriptor_limit()
    _as_aws_says()
    try:
        settings = load()
    except SettingsError as error:
        print(f"{error}\ncell-worker: its environment has faults", file=sys.stderr)  # noqa: T201 - no log yet
        sys.exit(FAULTY_SETTINGS)
    configure_logs(settings.log_format)
    others = lead_group()
    code = _ended(settings)
    finish_streams()
    end_group(others)
    os._exit(code)  # Python would wait for threads and children that handlers have left


def _as_aws_says() -> None:
    """Have each AWS client of this process, a handler's too, heed AWS_REGION, and ask no proxy for what is near.

    botocore alone would heed AWS_DEFAULT_REGION only.
    """
    if region := region_in(os.environ):
        os.environ["AWS_DEFAULT_REGION"] = region
    os.environ.update(without_local_proxies(os.environ))


def _ended(settings: WorkerSettings) -> int:
    """Run a worker to its end, say why it ended unless it was asked to, and return the exit code."""
    try:
        _run(Worker(settings).run())
    except TooManyAbandonedError as error:
        return _last_words(str(error), TOO_MANY_ABANDONED)
    except (HandlerError, ListenError, StoreError, TaskDiedError) as error:
        return _last_words(str(error), CANT_GO_ON)
    except BaseException as error:  # noqa: BLE001 - the process ends with it
        traceback.print_exc()
        return _last_words(f"an error that nobody foresaw: {error!r}", CANT_GO_ON)
    return 0


def _last_words(words: str, code: int) -> int:
    with suppress(OSError):
        print(f"cell-worker: {words}", file=sys.stderr)  # noqa: T201 - the audit shows it as it is
    return code


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run the loop until this work is done, whatever else stops it.

    SystemExit or KeyboardInterrupt in any task of a handler stops the loop, and so does a handler's `loop.stop()`. No
    signal does: the worker handles signals itself.
    """
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    working = loop.create_task(work)
    while not working.done():
        try:
            loop.run_until_complete(working)
        except (SystemExit, KeyboardInterrupt, RuntimeError) as error:  # RuntimeError: stopped before it was done
            if loop.is_closed():
                raise
            if not working.done():
                structlog.get_logger("worker").error(
                    "a handler's code tried to end the worker, which goes on", error=f"{type(error).__name__}: {error}"
                )
    working.result()


if __name__ == "__main__":
    main()
