"""`cellrouter router` and `cellrouter controller`: the commands that are processes of the system."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cell_worker.contract import process
from cell_worker.contract.place import without_local_proxies
from router.cli.registry import configured, run

if TYPE_CHECKING:
    from router.settings import Settings


def router() -> None:
    """Run a router: the data plane."""
    from router.bootstrap.processes import run_router  # noqa: PLC0415 - `init` needs `ready` alone

    run(run_router(ready()))


def controller() -> None:
    """Run a controller: it launches, admits and replaces cells. Several may run; one leads."""
    from router.bootstrap.processes import run_controller  # noqa: PLC0415 - as above

    run(run_controller(ready()))


def ready() -> Settings:
    """Load the settings, and set up what a process stands on as they say. Raises ConfigError."""
    process.guard_streams(as_json=process.in_json(os.environ, "CELLROUTER_LOG_FORMAT"))
    process.raise_descriptor_limit()
    settings = configured()
    os.environ.update(without_local_proxies(os.environ, settings.aws.endpoint_url))
    process.configure_logs(settings.log.format, settings.log.level)
    return settings
