"""`cellrouter where KEY`: all that decides about one key's events."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer
from rich.table import Table

from router.cli.options import AsJson, Key
from router.cli.registry import look
from router.cli.texts import Screen
from router.core.fleet.routes import route_of, route_rows


def where(
    key: Key,
    *,
    as_json: AsJson = False,
) -> None:
    """Show where a key's events go: slot, cell, instance, pin, limits, turns, quarantine."""
    route = route_of(key, look())
    if as_json:
        typer.echo(json.dumps(asdict(route)))
        return
    table = Table(show_header=False)
    for name, text in route_rows(route):
        table.add_row(name, text)
    Screen().print(table)
