"""What a stress run has found, for people: a table, what is other than in an earlier run, and the file for later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from rich.table import Table

from router.core.load.findings import Figures, LoadReport, PhaseFound
from router.core.load.profiles import Profile
from router.demo.stress.events import StressError

MAX_REPORT_BYTES: Final = 16 * 1024 * 1024
SAME: Final = 0.1  # so much more or less is the chance of two runs
_QUANTILES: Final = ("p50", "p90", "p99", "p999")


def phases_table(report: LoadReport) -> Table:
    """Show the phases of a run, a row each."""
    table = Table(title=f"{report.profile} up to {report.rate:g} events/s, environment {report.environment}")
    columns = ("phase", "events/s", "sent", "done", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "sent late", "open", "")
    for column in columns:
        table.add_column(column, justify="left" if column in ("phase", "") else "right")
    for phase in report.phases:
        sent, took = phase.sent, phase.took
        table.add_row(
            *(sent.name, f"{sent.rate:g}", str(sent.sent), str(took.count)),
            *(f"{getattr(took, name):.0f}" for name in _QUANTILES),
            *(f"{sent.late_p99_ms:.0f}", str(sent.open_after), _more(phase)),
        )
    return table


def parts_table(title: str, parts: dict[str, Figures]) -> Table:
    """Show the figures of some cells or tenants, a row each."""
    table = Table(title=title)
    for column in ("", "events", "p50 ms", "p99 ms", "p99.9 ms"):
        table.add_column(column, justify="right" if column else "left")
    for name, took in parts.items():
        table.add_row(name, str(took.count), *(f"{getattr(took, each):.0f}" for each in ("p50", "p99", "p999")))
    return table


def lines_of(report: LoadReport) -> Iterator[str]:
    """Tell what is not in the tables."""
    if report.profile == Profile.RAMP:
        knee = f"{report.knee.rate:g} events/s" if report.knee.rate else "below the lowest load"
        yield f"Knee: {knee}: {report.knee.why}"
    if report.unfinished:
        yield f"Not done at the end: {report.unfinished} events: they wait, or are dead letters (cellrouter dlq list)"
    again = sum(phase.again for phase in report.phases)
    if again:
        yield f"Delivered again after they were done: {again} events, which their cells knew"


def differences(before: LoadReport, now: LoadReport) -> Iterator[str]:
    """Tell what is other than in an earlier run, phase by phase, and whether the two can be compared at all."""
    for name in ("profile", "rate", "seconds", "tenants", "zipf", "seed"):
        if (was := getattr(before, name)) != (is_now := getattr(now, name)):
            yield f"note: {name} was {was} and is {is_now}: the runs are not alike"
    if before.profile == now.profile and before.knee.rate != now.knee.rate:
        yield f"knee: {before.knee.rate:g} → {now.knee.rate:g} events/s"
    earlier = {phase.sent.name: phase for phase in before.phases}
    for phase in now.phases:
        if (was_phase := earlier.get(phase.sent.name)) is not None:
            yield from _changed(phase.sent.name, was_phase.took, phase.took)


def read_report(path: Path) -> LoadReport:
    """Read the file of an earlier run. Raises StressError."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_REPORT_BYTES + 1)
        if len(raw) > MAX_REPORT_BYTES:
            raise StressError(f"{path}: is no report of cellrouter stress: it is too long")
        return msgspec.json.decode(raw, type=LoadReport)
    except OSError as error:
        raise StressError(f"{path}: can't be read: {error}") from error
    except (msgspec.MsgspecError, RecursionError) as error:
        raise StressError(f"{path}: is no report of cellrouter stress: {error}") from error


def _changed(name: str, before: Figures, now: Figures) -> Iterator[str]:
    for each in ("p50", "p99"):
        was, is_now = getattr(before, each), getattr(now, each)
        if was and abs(is_now / was - 1) > SAME:
            yield f"{name}: {each} {was:.0f} → {is_now:.0f} ms ({100 * (is_now / was - 1):+.0f} %)"


def _more(phase: PhaseFound) -> str:
    parts = (f"{phase.sent.refused} refused", phase.sent.refused), (f"{phase.failures} attempts failed", phase.failures)
    return ", ".join(text for text, count in parts if count)
