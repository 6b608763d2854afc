"""The command line: what all commands have in common, and how their errors are said."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Final, TextIO, cast

import typer

from cell_worker.contract.texts import NeutralStream, is_text
from router.cli.options import INTERRUPTED
from router.cli.panels import PanelGroup
from router.core.config_text import FILE_VARIABLE, SERVER_VARIABLE, TOKEN_FILE_VARIABLE, TOKEN_VARIABLE
from router.core.errors import CellRouterError, ConfigError

app = typer.Typer(
    name="cellrouter",
    cls=PanelGroup,
    help="Routes events to isolated cells, so that one bad tenant never hurts the others.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its messages hold what others have sent, and would be read as markup
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)

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
        from router.cli.setup.env import ask_only  # noqa: PLC0415 - --help stays quick

        ask_only(env)
    elif context.invoked_subcommand not in OWN_SYSTEM:
        from router.demo import local_context  # noqa: PLC0415 - as above

        if (said := local_context.adopt(os.environ)) is not None:
            typer.echo(said, err=True)
    if any(name.lower() in ("http_proxy", "https_proxy") for name in os.environ):
        from cell_worker.contract.place import without_local_proxies  # noqa: PLC0415 - --help stays quick

        os.environ.update(without_local_proxies(os.environ, os.environ.get("CELLROUTER_AWS_ENDPOINT_URL")))


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
        sys.exit(INTERRUPTED)
    except ConfigError as error:
        typer.echo(f"{_said(error)}\ncellrouter: the configuration has faults (see cellrouter check-config)", err=True)
        sys.exit(2)
    except CellRouterError as error:
        sys.exit(f"cellrouter: {_said(error)}")


def _said(error: Exception) -> str:
    """Return what an error says, without the passwords of addresses in it."""
    from cell_worker.contract.addresses import without_passwords  # noqa: PLC0415 - --help stays quick

    return without_passwords(str(error))
