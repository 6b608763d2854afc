"""Makes the tracer of a router, where the settings want one, and tells workers what they need to trace as well."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from cell_worker.contract.metrics.spans import register_spans
from cell_worker.contract.strict_reader import Unreadable
from cell_worker.contract.tracing.variables import sampling_in, why_no_export
from router.core.errors import ConfigError
from router.ports import EventTracer
from router.settings import Settings

_NOT_FOR_WORKERS: Final = ("OTEL_SERVICE_NAME", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG")
"""Variables that say something of the router alone."""


def tracer_of(
    stack: AsyncExitStack, settings: Settings, router_id: str, registry: CollectorRegistry
) -> EventTracer | None:
    """Make the tracer, which closes with the stack; None where nothing is traced. Raises ConfigError."""
    if not settings.tracing.on:
        return None
    sampling = sampling_in(os.environ)
    if (faults := why_no_traces(settings, os.environ)) or isinstance(sampling, Unreadable):
        raise ConfigError("\n".join(faults))
    from router.adapters.tracing.spans import OtelTracer  # noqa: PLC0415 - an extra

    try:
        tracer = OtelTracer(sampling, router_id, settings.environment)
    except ValueError as error:
        raise ConfigError(
            f"tracing.on: a variable of OpenTelemetry (OTEL_*) is not as it should be: {error}"
        ) from error
    stack.push_async_callback(tracer.tracing.close)
    register_spans("cellrouter", registry, tracer.tracing.counts)
    structlog.get_logger("tracing").info("traces events", share=sampling.share, by_parent=sampling.by_parent)
    return tracer


def why_no_traces(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """Name what keeps a router from tracing, as `tracing.on: what is wrong`; nothing where it traces nothing."""
    if not settings.tracing.on:
        return []
    sampling = sampling_in(environ)
    reasons = [why_no_export(environ), sampling.why if isinstance(sampling, Unreadable) else None]
    return [f"tracing.on: {why}" for why in reasons if why is not None]


def for_workers(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which workers trace. A collector's headers, which hold secrets, are not among them."""
    if not settings.tracing.on:
        return {}
    said = {
        name: value
        for name, value in environ.items()
        if name.startswith("OTEL_") and name not in _NOT_FOR_WORKERS and not name.endswith("_HEADERS")
    }
    return {**said, "CELL_TRACING": "true"}
