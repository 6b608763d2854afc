"""What the demo shows: a live view in a terminal, plain lines elsewhere, and the ledger at the end."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from router.demo.ledger import Ledger

NEWS_SHOWN: Final = 8  # lines, the newest
PLAIN_EVERY_S: Final = 2.0  # where there is no terminal
_STATE_STYLE: Final = {"serving": "green", "down": "bold red", "starting": "yellow", "ejected": "bold yellow"}


@dataclass(slots=True)
class DemoState:
    """How far the demo is, and how its cells are, at one moment."""

    lanes: Sequence[Mapping[str, Any]] = ()  # as the router's GET /cells has them
    rates: Mapping[str, float] = field(default_factory=dict)  # cell → events/s
    files: int = 0  # that will be sent in all
    sent: int = 0
    processed: int = 0
    dead_lettered: int = 0


class LiveView:
    """Shows the demo's state and its news, as they come."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._news: deque[str] = deque(maxlen=NEWS_SHOWN)
        self._live = _live(console) if console.is_terminal else None
        self._next_plain = 0.0
        self._state = DemoState()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
            for line in self._news:
                self._console.print(line, highlight=False, soft_wrap=True)

    def news(self, elapsed_s: float, text: str) -> None:
        """Show that something has just happened, `elapsed_s` seconds after the demo's start."""
        line = f"{elapsed_s:6.1f} s  {text}"
        self._news.append(line)
        if self._live:
            self._live.update(self._render())
        else:
            self._console.print(line, highlight=False, soft_wrap=True)

    def show(self, elapsed_s: float, now: DemoState) -> None:
        """Show the present state: at once in a terminal, elsewhere every PLAIN_EVERY_S seconds."""
        self._state = now
        if self._live:
            self._live.update(self._render())
        elif elapsed_s >= self._next_plain:
            self._next_plain = elapsed_s + PLAIN_EVERY_S
            self._console.print(f"{elapsed_s:6.1f} s  {_in_a_line(now)}", highlight=False, soft_wrap=True)

    def ledger(self, ledger: Ledger, titles: Mapping[str, str]) -> None:
        """Show the findings by the titles of their rules, and the ledger."""
        self._console.print(_findings_table(ledger.findings, titles))
        self._console.print(_ledger_table(ledger))

    def _render(self) -> Group:
        now = self._state
        bar = ProgressBar(total=max(1, now.files), completed=now.processed + now.dead_lettered, width=60)
        numbers = Text(
            f" sent {now.sent}/{now.files}   processed {now.processed}"
            f"   dead-lettered {now.dead_lettered}   {sum(now.rates.values()):.0f} events/s"
        )
        news = Panel("\n".join(self._news), title="what just happened", title_align="left")
        return Group(_cells_table(now), bar, numbers, news)


def _live(console: Console) -> Live:
    # What else is printed meanwhile goes its own way, in which it is made harmless for the terminal.
    return Live(console=console, refresh_per_second=8, transient=True, redirect_stdout=False, redirect_stderr=False)


def _cells_table(now: DemoState) -> Table:
    table = Table("cell", "state", "generation", "slots", "events/s", "p50 ms", "p99 ms", "in flight", "waiting")
    for column in table.columns[2:]:
        column.justify = "right"
    for lane in now.lanes:
        state = str(lane["state"])
        table.add_row(
            str(lane["cell_id"]),
            Text(state, style=_STATE_STYLE.get(state, "")),
            str(lane["generation"]),
            str(lane["slots"]),
            f"{now.rates.get(str(lane['cell_id']), 0.0):.1f}",
            f"{lane['p50_ms']:.1f}",
            f"{lane['p99_ms']:.1f}",
            str(lane["in_flight"]),
            str(lane["waiting"]),
        )
    return table


def _in_a_line(now: DemoState) -> str:
    serving = sum(lane["state"] == "serving" for lane in now.lanes)
    p99 = max((float(lane["p99_ms"]) for lane in now.lanes), default=0.0)
    rate = sum(now.rates.values())
    return (
        f"sent {now.sent}/{now.files}, processed {now.processed}, "
        f"{rate:.0f} events/s, slowest p99 {p99:.0f} ms, {serving}/{len(now.lanes)} cells serving"
    )


def _ledger_table(ledger: Ledger) -> Table:
    table = Table(title="Ledger", title_justify="left", show_header=False, min_width=44)
    table.add_column()
    table.add_column(justify="right")
    seconds = {
        "time to replace the killed cell": ledger.replaced_in_s,
        "time to find and replace the slow cell": ledger.slow_replaced_in_s,
        "first event processed": ledger.first_event_s,
    }
    for name, number in (
        ("sent", ledger.sent),
        ("processed", ledger.processed),
        ("duplicates (effects committed twice)", ledger.duplicates),
        ("dead-lettered", ledger.dead_lettered),
        ("lost", ledger.lost),
        ("keys moved by the replacements", ledger.keys_moved),
    ):
        bad = number and name not in {"sent", "processed", "dead-lettered"}
        table.add_row(name, Text(str(number), style="bold red" if bad else ""))
    if ledger.never_replaced:
        table.add_row("failed and never replaced", Text(", ".join(ledger.never_replaced), style="bold red"))
    for name, value in seconds.items():
        table.add_row(name, "-" if value is None else f"{value:.2f} s")
    return table


def _findings_table(findings: Mapping[str, int], titles: Mapping[str, str]) -> Table:
    table = Table("rule", "findings", title=f"{sum(findings.values())} findings", title_justify="left")
    table.columns[1].justify = "right"
    for rule, count in sorted(findings.items(), key=lambda item: (-item[1], titles.get(item[0], ""))):
        table.add_row(titles.get(rule, rule), str(count))
    return table
