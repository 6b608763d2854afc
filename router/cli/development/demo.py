"""`cellrouter demo`: a workload in cells on this machine, with faults and a ledger. The shop is the other workload."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from router.cli.development.dev import HIGHEST_FIRST_PORT
from router.cli.registry import run

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def demo(
    context: typer.Context,
    *,
    files: Annotated[int, typer.Option(min=1, help="How many log files to send.")] = 400,
    accounts: Annotated[int, typer.Option(min=1, max=100_000, help="Of how many accounts: the partition keys.")] = 40,
    cells: Annotated[int, typer.Option(min=1, max=50, help="How many cells.")] = 4,
    seconds: Annotated[float, typer.Option(min=0, help="Over how many seconds the files are sent.")] = 30,
    data: Annotated[
        Path | None, typer.Option(help="A folder of real CloudTrail files (.json, .json.gz) instead of generated ones.")
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="A folder of Sigma rules instead of the shipped ones."),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="With --rules: leave out bad rule files, and list them.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep running after the ledger, until Ctrl-C.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the ledger to this file too.")] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1024, max=HIGHEST_FIRST_PORT, help="The first of four ports; 8180 with --keep, else any."),
    ] = None,
    attach: Annotated[
        str | None,
        typer.Option(metavar="ROUTER,CONTROLLER", help="Use a running system: the URLs of its router and controller."),
    ] = None,
) -> None:
    """Run the main job on this machine: S3 → SQS → router → cells → findings. One cell is killed, one gets slow.

    Exits 0 only when nothing was lost, both cells were replaced and the findings are the expected ones (with --rules:
    whatever they are).
    """
    if context.invoked_subcommand is not None:
        return
    if attach is not None and rules is not None:
        raise typer.BadParameter(
            "a running system has its own rules: CELL_SECURITY_RULES of its workers", param_hint="--rules"
        )
    if skip_bad and rules is None:
        raise typer.BadParameter("it is about the folder of --rules, and there is none", param_hint="--skip-bad")
    from router.adapters.clock import SystemClock  # noqa: PLC0415 - check-config and --help stay quick
    from router.cli.texts import Screen  # noqa: PLC0415 - as above
    from router.demo.run import DemoOptions, run_demo  # noqa: PLC0415 - as above

    options = DemoOptions(files, accounts, cells, seconds, data, rules, skip_bad, keep, port, json_file, attach)
    raise typer.Exit(run(run_demo(options, os.environ, Screen(), SystemClock())))


@app.command("shop")
def demo_shop(
    *,
    orders: Annotated[int, typer.Option(min=1, max=100_000, help="How many orders customers place.")] = 1000,
    shops: Annotated[int, typer.Option(min=1, max=1000, help="At how many shops: the partition keys.")] = 20,
    cells: Annotated[int, typer.Option(min=1, max=50, help="How many cells.")] = 4,
    seconds: Annotated[float, typer.Option(min=0, help="Over how many seconds the orders are placed.")] = 40,
    keep: Annotated[bool, typer.Option("--keep", help="Keep running after the ledger, until Ctrl-C.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the ledger to this file too.")] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1024, max=HIGHEST_FIRST_PORT - 1, help="The first of five ports; left out: any free ones."),
    ] = None,
    attach: Annotated[
        str | None,
        typer.Option(
            metavar="ROUTER,CONTROLLER,SHOP", help="Use a running system: the URLs of its router, controller and shop."
        ),
    ] = None,
) -> None:
    """Run the shop on this machine: order API → SQS → router → cells → stock, vendors, sales, SQL.

    A storefront and an operations dashboard are open meanwhile. Customers order, one order in twenty twice. One cell is
    killed, one gets slow. At the end a ledger compares all books. Exits 0 only when they are equal, to the last piece
    of every product of every shop, and both cells were replaced.
    """
    from router.adapters.clock import SystemClock  # noqa: PLC0415 - --help stays quick
    from router.cli.texts import Screen  # noqa: PLC0415 - as above
    from router.demo.shop.run import ShopDemoOptions, run_shop_demo  # noqa: PLC0415 - as above

    options = ShopDemoOptions(orders, shops, cells, seconds, keep, port, json_file, attach)
    raise typer.Exit(run(run_shop_demo(options, os.environ, Screen(), SystemClock())))
