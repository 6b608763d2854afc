"""What OpenTelemetry's own variables say about traces, as far as cellrouter heeds them itself, or why it can't."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final

import msgspec

from cell_worker.contract.strict_reader import Unreadable
from cell_worker.contract.tracing.context import TraceContext

SAMPLER: Final = "OTEL_TRACES_SAMPLER"
SHARE: Final = "OTEL_TRACES_SAMPLER_ARG"
DEFAULT_SHARE: Final = 0.01
"""Of the events whose producers began no trace, where OTEL_TRACES_SAMPLER says nothing."""
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HTTP: Final = "http/protobuf"
_PACKAGES: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
_LOW_BITS: Final = 2**64 - 1
_BY_PARENT: Final = "parentbased_"
_SHARES: Final = {"always_on": 1.0, "always_off": 0.0}


class Sampling(msgspec.Struct, frozen=True):
    """Which events are traced."""

    by_parent: bool  # those whose producers have sampled them, and none of those that they have not
    share: float  # of the others, by their trace ids: 0 to 1

    def takes(self, parent: TraceContext | None, trace_id: int) -> bool:
        """Whether an event of this trace is traced: every process says the same of it."""
        if self.by_parent and parent is not None and parent.sampled is not None:
            return parent.sampled
        return trace_id & _LOW_BITS < self.share * 2**64


def sampling_in(environ: Mapping[str, str]) -> Sampling | Unreadable:
    """Return which events are traced by OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG."""
    name = environ.get(SAMPLER) or f"{_BY_PARENT}traceidratio"
    by_parent, kind = name.startswith(_BY_PARENT), name.removeprefix(_BY_PARENT)
    if kind in _SHARES:
        return Sampling(by_parent, _SHARES[kind])
    if kind != "traceidratio":
        return Unreadable(f"{SAMPLER} is no sampler that cellrouter knows: take parentbased_traceidratio")
    default = "1" if environ.get(SAMPLER) else str(DEFAULT_SHARE)  # as OpenTelemetry has it
    try:
        share = float(environ.get(SHARE) or default)
    except ValueError:
        share = -1.0
    return Sampling(by_parent, share) if 0 <= share <= 1 else Unreadable(f"{SHARE} is no number from 0 to 1")


def why_no_export(environ: Mapping[str, str]) -> str | None:
    """Return why spans can't be exported here at all: a missing package, or another protocol than the one there is."""
    try:
        missing = any(find_spec(name) is None for name in _PACKAGES)
    except ModuleNotFoundError:
        missing = True
    if missing:
        return "needs more packages: pip install 'cellrouter[tracing]'"
    name = next(filter(environ.get, _PROTOCOLS), "")
    if name and environ[name] != _HTTP:
        return f"{name} asks for another protocol than {_HTTP}, the only one that spans are exported by here"
    return None
