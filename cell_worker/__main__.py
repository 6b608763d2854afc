"""The entry point of a cell worker, `python -m cell_worker`. The module `worker` says how it ends."""

from __future__ import annotations

import sys

import uvloop

from cell_worker.process import configure_logs, guard_streams, raise_descriptor_limit
from cell_worker.runtime import HandlerError
from cell_worker.settings import SettingsError, load
from cell_worker.store.store import StoreError
from cell_worker.worker import ListenError, TaskDiedError, Worker


def main() -> None:
    """Run one worker until it ends. Exits with 2 for a faulty environment, and with 1 when the worker can't go on."""
    guard_streams()
    raise_descriptor_limit()
    try:
        settings = load()
    except SettingsError as error:
        print(f"{error}\ncell-worker: its environment has faults", file=sys.stderr)  # noqa: T201 - no log yet
        sys.exit(2)
    configure_logs(settings.log_format)
    try:
        uvloop.run(Worker(settings).run())
    except (HandlerError, ListenError, StoreError, TaskDiedError) as error:
        sys.exit(f"cell-worker: {error}")


if __name__ == "__main__":
    main()
