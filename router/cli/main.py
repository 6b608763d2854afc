"""The command line: puts the commands together, and runs the ones that are processes of the system."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TextIO, cast

import typer

from cell_worker.contract.addresses import without_passwords
from cell_worker.contract.texts import NeutralStream, is_text
from router.cli import cells, chaos, deploy, destroy, dlq, explain, policy, secrets
from router.cli.change import scale, undo
from router.cli.change.drill import drill
from router.cli.change.replay import replay
from router.cli.change.shadow import shadow
from router.cli.development import demo, shop
from router.cli.development.dev import dev
from router.cli.development.new import new
from router.cli.development.send import send
from router.cli.development.stress import stress
from router.cli.development.tail import tail
from router.cli.look import audit, blast_radius, status, where
from router.cli.options import AsJson
from router.cli.panels import Panel, PanelGroup
from router.cli.registry import configured, run
from router.cli.setup import doctor, version
from router.cli.setup import env as env_commands
from router.core.config_text import FILE_VARIABLE, SERVER_VARIABLE, TOKEN_FILE_VARIABLE, TOKEN_VARIABLE
from router.core.errors import CellRouterError, ConfigError
from router.demo import local_context

if TYPE_CHECKING:
    from router.settings import Settings

app = typer.Typer(
    name="cellrouter",
    cls=PanelGroup,
    help="Routes events to isolated cells, so that one bad tenant never hurts the others.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its messages hold what others have sent, and would be read as markup
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
app.command(rich_help_panel=Panel.LOOK)(status.cells)
app.command(rich_help_panel=Panel.LOOK)(status.watch)
app.command(rich_help_panel=Panel.LOOK)(explain.explain)
app.command(rich_help_panel=Panel.LOOK)(where.where)
app.command(rich_help_panel=Panel.LOOK)(audit.audit)
app.add_typer(policy.policy, name="policy", rich_help_panel=Panel.LOOK)
app.command("blast-radius", rich_help_panel=Panel.LOOK)(blast_radius.blast_radius)
app.command(rich_help_panel=Panel.LOOK)(secrets.secrets)
app.add_typer(policy.plan, name="plan", rich_help_panel=Panel.CHANGE)
app.add_typer(policy.apply, name="apply", rich_help_panel=Panel.CHANGE)
app.command(rich_help_panel=Panel.CHANGE)(undo.undo)
app.command(rich_help_panel=Panel.CHANGE)(scale.scale)
app.add_typer(deploy.app, name="deploy", rich_help_panel=Panel.CHANGE)
for _order in cells.COMMANDS:
    app.command(rich_help_panel=Panel.REPAIR)(_order)
app.add_typer(dlq.app, name="dlq", rich_help_panel=Panel.REPAIR)
app.command(rich_help_panel=Panel.REPAIR)(replay)
app.command(rich_help_panel=Panel.REPAIR)(shadow)
app.command(rich_help_panel=Panel.REPAIR)(doctor.doctor)
app.command(rich_help_panel=Panel.SET_UP)(version.version)
app.add_typer(env_commands.app, name="env", rich_help_panel=Panel.SET_UP)
app.add_typer(chaos.app, name="chaos", rich_help_panel=Panel.SET_UP)
app.command(rich_help_panel=Panel.SET_UP)(drill)
app.command("cell-secret", rich_help_panel=Panel.SET_UP)(secrets.cell_secret)
app.command(rich_help_panel=Panel.SET_UP)(secrets.token)
app.command(rich_help_panel=Panel.SET_UP)(destroy.destroy)
for _run in (dev, send, stress):
    app.command(rich_help_panel=Panel.RUN)(_run)
app.command(rich_help_panel=Panel.LOOK)(tail)
app.add_typer(demo.app, name="demo", rich_help_panel=Panel.RUN)
app.add_typer(shop.app, name="shop", rich_help_panel=Panel.RUN)
app.command(rich_help_panel=Panel.SET_UP)(new)

OWN_SYSTEM: Final = frozenset(
    {"router", "controller", "init", "check-config", "demo", "dev", "drill", "env", "new", "stress", "version", "token"}
)
"""The commands that say themselves which system they are about: they never ask the one that runs here."""


@app.callback()
def _common(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", envvar=FILE_VARIABLE, help="A TOML file; CELLROUTER_* variables win."),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar=SERVER_VARIABLE,
            help=f"Work through the Admin API of this router or controller, with the token in {TOKEN_VARIABLE} or in "
            f"the file that {TOKEN_FILE_VARIABLE} names; Redis need not be reached.",
        ),
    ] = None,
    env: Annotated[
        str | None, typer.Option("--env", metavar="NAME", help="The environment that is meant; nothing else is asked.")
    ] = None,
) -> None:
    if config is not None:
        os.environ[FILE_VARIABLE] = str(config)
    os.environ.pop(SERVER_VARIABLE, None)
    if server and context.invoked_subcommand not in OWN_SYSTEM:
        os.environ[SERVER_VARIABLE] = server
    if env is not None and server:
        told = "it means an environment that runs here, and --server one elsewhere"
        raise typer.BadParameter(told, param_hint="--env")
    if env is not None:
        env_commands.ask_only(env)
    elif context.invoked_subcommand not in OWN_SYSTEM and (said := local_context.adopt(os.environ)) is not None:
        typer.echo(said, err=True)
    if any(name.lower() in ("http_proxy", "https_proxy") for name in os.environ):
        from cell_worker.contract.place import without_local_proxies  # noqa: PLC0415 - --help stays quick

        os.environ.update(without_local_proxies(os.environ, os.environ.get("CELLROUTER_AWS_ENDPOINT_URL")))


@app.command(rich_help_panel=Panel.RUN)
def router() -> None:
    """Run a router: the data plane."""
    from router.bootstrap.processes import run_router  # noqa: PLC0415 - check-config and --help stay quick

    run(run_router(_ready()))


@app.command(rich_help_panel=Panel.RUN)
def controller() -> None:
    """Run a controller: it launches, admits and replaces cells. Several may run; one leads."""
    from router.bootstrap.processes import run_controller  # noqa: PLC0415 - check-config and --help stay quick

    run(run_controller(_ready()))


@app.command(rich_help_panel=Panel.SET_UP)
def init(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be made or changed; exits 3 if anything would be.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make what events arrive on, where it is missing: queues, bucket, notification.

    Of what is there, it changes one statement in the source queue's policy and one rule of the bucket's notifications;
    all that others have put there stays. Exits 1 when something is refused, which is said.
    """
    from router.cli.init import run_init  # noqa: PLC0415 - check-config and --help stay quick

    raise typer.Exit(run(run_init(_ready(), dry_run=dry_run, as_json=as_json)))


@app.command("check-config", rich_help_panel=Panel.SET_UP)
def check_config(*, as_json: AsJson = False) -> None:
    """Name every fault of the configuration, with its key and line, all at once; exits 2 when there is one."""
    from router.bootstrap.handler_check import handler_faults  # noqa: PLC0415 - --help stays quick
    from router.bootstrap.queues import why_no_start  # noqa: PLC0415 - --help stays quick
    from router.bootstrap.tracing import why_no_traces  # noqa: PLC0415 - --help stays quick
    from router.settings import check  # noqa: PLC0415 - as above

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


def _ready() -> Settings:
    """Load the settings, and set up what the process stands on as they say."""
    from cell_worker.contract import process  # noqa: PLC0415 - as above
    from cell_worker.contract.place import without_local_proxies  # noqa: PLC0415 - as above

    process.guard_streams(as_json=process.in_json(os.environ, "CELLROUTER_LOG_FORMAT"))
    process.raise_descriptor_limit()
    settings = configured()
    os.environ.update(without_local_proxies(os.environ, settings.aws.endpoint_url))
    process.configure_logs(settings.log.format, settings.log.level)
    return settings


def main() -> None:
    """Run the command line; an expected error becomes a message and an exit code of 1 or 2, never a traceback.

    Whatever is printed, by our code or a library's: nothing in it steers the terminal.
    """
    sys.stdout, sys.stderr = (cast("TextIO", NeutralStream(stream)) for stream in (sys.stdout, sys.stderr))
    if no_texts := [word for word in sys.argv[1:] if not is_text(word)]:
        typer.echo(f"cellrouter: every argument must be UTF-8, and this is not: {', '.join(no_texts)}", err=True)
        sys.exit(2)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on, commands end in order
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(dlq.INTERRUPTED)
    except ConfigError as error:
        typer.echo(
            f"{without_passwords(str(error))}\ncellrouter: the configuration has faults (see cellrouter check-config)",
            err=True,
        )
        sys.exit(2)
    except CellRouterError as error:
        sys.exit(f"cellrouter: {without_passwords(str(error))}")
