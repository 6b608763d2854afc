"""Names all that an environment owns, so that it can be seen that no two of them share anything. Pure."""

from __future__ import annotations

from cell_worker.contract.protocol import redis_key
from cell_worker.contract.tls import cell_host
from router.adapters.aws.resources import ResourceNames
from router.bootstrap.queues import names_of
from router.core.models import cell_ids
from router.settings import Settings


def belongings(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Return the names of what an environment of these settings owns, by their kind; they need not be there yet."""
    names, cells = names_of(settings), cell_ids(settings.cells.count)
    source = settings.source
    return {
        "queues": (
            *(source.queue, source.dead_letter_queue, source.quarantine_queue),
            *filter(None, (names.aside_queue,)),
            *map(names.hold_queue, cells),
        ),
        "buckets": (names.source_bucket, *map(names.cell, cells)),
        "streams": tuple(map(names.cell, cells)),
        "tables": tuple(map(names.cell, cells)),
        "stacks": (names.cell("platform"), *map(names.cell, cells)),
        "Redis keys": (redis_key(settings.environment, "*"),),
        "containers and volumes": tuple(_container(settings, cell_id) for cell_id in cells),
        "folders": (str(settings.cells.data_dir),),
        "names of TLS": tuple(cell_host(cell_id, settings.environment) for cell_id in cells),
        "tags": _tags(names),
    }


def _container(settings: Settings, cell_id: str) -> str:
    return f"{settings.docker.prefix}-{settings.environment}-{cell_id}"


def _tags(names: ResourceNames) -> tuple[str, ...]:
    return tuple(f"{name}={value}" for name, value in names.tags.items())
