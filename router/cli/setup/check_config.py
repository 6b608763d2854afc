"""`cellrouter check-config`: every fault of the configuration, all at once."""

from __future__ import annotations

import json
import os

import typer

from cell_worker.contract.addresses import without_passwords
from router.bootstrap.handler_check import handler_faults
from router.bootstrap.queues import why_no_start
from router.bootstrap.tracing import why_no_traces
from router.cli.options import AsJson
from router.cli.registry import run
from router.settings import check


def check_config(*, as_json: AsJson = False) -> None:
    """Name every fault of the configuration, with its key and line, all at once; exits 2 when there is one."""
    settings, faults = check(os.environ)
    warnings = list(settings.secrets.warnings()) if settings is not None else []
    if settings is not None:
        of_handler, doubts = run(handler_faults(settings.cells, dict(os.environ)))
        faults += run(why_no_start(settings)) + of_handler + why_no_traces(settings, os.environ)
        warnings += doubts
    faults = [without_passwords(fault) for fault in faults]
    if as_json:
        typer.echo(json.dumps({"good": not faults, "faults": faults, "warnings": warnings}))
        raise typer.Exit(2 if faults else 0)
    for fault in faults:
        typer.echo(fault, err=True)
    if faults:
        typer.echo(f"{len(faults)} fault{'s' if len(faults) > 1 else ''}", err=True)
        raise typer.Exit(2)
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo("The configuration is good.")
