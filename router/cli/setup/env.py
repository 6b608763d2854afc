"""`cellrouter env`: environments beside each other, on this machine, in Docker, or as stacks on AWS."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from router.cli.deploy import Yes
from router.cli.destroy import checked, destroyed
from router.cli.options import AsJson, DryRun
from router.cli.registry import configured, run
from router.core.environments import PRESETS, preset
from router.core.errors import CellRouterError, ConfigError, ProvisionError
from router.demo import local_context

app = typer.Typer(help="Make, list and destroy environments, which share nothing.", no_args_is_help=True)

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,13}")
"""As the templates of AWS take it, so that a name that is good here is good there."""


class On(StrEnum):
    """Where an environment is."""

    LOCAL = "local"
    DOCKER = "docker"
    AWS = "aws"


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise typer.BadParameter(f"{name} is no name: lower-case letters, digits and hyphens, at most 14")
    return name


Name = Annotated[str, typer.Argument(metavar="NAME", help="As live, stress, replay.", callback=_named)]
Like = Annotated[str, typer.Option(metavar="NAME", help="The environment that it is configured as.")]
Cells = Annotated[int, typer.Option(min=1, max=50, help="How many cells, on this machine.")]
Handler = Annotated[str, typer.Option(help="package.module:name, on this machine; left out: as it is configured.")]
Port = Annotated[
    int | None,
    typer.Option(min=1024, max=65000, help="The first of four ports, on this machine; left out: any free ones."),
]
ComposeFile = Annotated[Path, typer.Option(help="In Docker: the file of docker compose.")]


def ask_only(name: str) -> None:
    """Have this command ask this environment and no other. Raises BadParameter when there is no way to it."""
    if local_context.adopt_environment(os.environ, _named(name)) is not None:
        typer.echo(f"Asking the environment {name}, which runs here", err=True)
        return
    why = "none of that name runs here, and no configuration names one"
    if _configured():
        try:
            found = configured().environment
        except ConfigError as error:
            why = f"none of that name runs here, and the configuration has faults: {str(error).splitlines()[0]}"
        else:
            if found == name:
                return
            why = f"the configuration is that of {found}"
    raise typer.BadParameter(f"{name} can't be asked: {why}. See `cellrouter env list`", param_hint="--env")


@app.command()
def create(
    name: Name,
    *,
    like: Like = "",
    on: Annotated[On, typer.Option(help="Where to make it.")] = On.LOCAL,
    cells: Cells = 4,
    handler: Handler = "",
    port: Port = None,
    compose_file: ComposeFile = Path("docker-compose.yml"),
    s3_bucket: Annotated[str, typer.Option(help="On AWS: a bucket that takes the template.")] = "",
    parameter: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="On AWS: of the platform's template; may be repeated."),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Make an environment: queues, cells, map, policy, Redis keys, secret and buckets of its own.

    `live`, `stress` and `replay` come configured; another name is configured as --like says. Handlers may change things
    outside their cells in `live` alone. On AWS it is made like the platform of --like, which has to be named.
    """
    found = preset(name, like)
    typer.echo(
        f"{name}: {found.purpose}; side effects {_on(on=found.side_effects)}, fault injection {_on(on=found.chaos)}"
    )
    match on:
        case On.LOCAL:
            _create_here(name, like, cells, handler, port, dry_run=dry_run)
        case On.DOCKER:
            _create_in_docker(name, like, compose_file, dry_run=dry_run)
        case On.AWS:
            run(_create_in_aws(name, like, s3_bucket, _pairs(parameter or []), dry_run=dry_run))


@app.command("list")
def listed(
    *, on: Annotated[On | None, typer.Option(help="Only what is there.")] = None, as_json: AsJson = False
) -> None:
    """List the environments, where each is, and in which state."""
    import json  # noqa: PLC0415 - --help stays quick

    rows, notes = found_environments(on)
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        typer.echo(f"{row['environment']:<16} {row['on']:<8} {row['state']:<24} {row['more']}".rstrip())
    if not rows:
        typer.echo(f"There is none. Configured by their names: {', '.join(PRESETS)}")


@app.command()
def destroy(
    name: Name,
    *,
    on: Annotated[On | None, typer.Option(help="Where it is; needed if there are several of that name.")] = None,
    yes: Yes = False,
    with_dead_letters: Annotated[bool, typer.Option(help="Give up what lies in the dead-letter queue.")] = False,
    with_outboxes: Annotated[bool, typer.Option(help="Give up what may wait in outboxes that can't be asked.")] = False,
    compose_file: ComposeFile = Path("docker-compose.yml"),
) -> None:
    """Destroy an environment and nothing of any other. Refuses while events are left in it."""
    rows, notes = found_environments(on)
    there = [On(row["on"]) for row in rows if row["environment"] == name]
    if len(there) != 1:
        where = f"there are several: --on {' or '.join(there)}" if there else "; ".join(("there is none", *notes))
        raise typer.BadParameter(f"{name}: {where}", param_hint="NAME")
    match there[0]:
        case On.LOCAL:
            _destroy_here(name, yes=yes, dead_letters=with_dead_letters, outboxes=with_outboxes)
        case On.DOCKER:
            given = {"--with-dead-letters": with_dead_letters, "--with-outboxes": with_outboxes}
            _destroy_in_docker(name, compose_file, [option for option, wanted in given.items() if wanted], yes=yes)
        case On.AWS:
            _only(name)
            run(destroyed(yes=yes, dead_letters=with_dead_letters, outboxes=with_outboxes, stack=None))


@app.command("run", hidden=True)
def keep(name: Name, *, like: Like = "", cells: Cells = 4, handler: Handler = "", port: Port = None) -> None:
    """Be the process of an environment on this machine; `create` starts it."""
    from router.adapters.clock import SystemClock  # noqa: PLC0415 - --help stays quick
    from router.demo.environments import local  # noqa: PLC0415 - as above

    options = local.LocalOptions(name, like, cells, handler, port)
    raise typer.Exit(run(local.keep(options, dict(os.environ), SystemClock())))


def found_environments(on: On | None) -> tuple[list[dict[str, str]], list[str]]:
    """Return a row for each environment that there is, and a note for each place that could not be looked at."""
    rows: list[dict[str, str]] = []
    notes: list[str] = []
    places = {On.LOCAL: _here, On.DOCKER: _in_docker, On.AWS: _in_aws}
    for place, look in places.items():
        if on not in (None, place) or (on is None and place is On.AWS and not _configured()):
            continue
        try:
            rows += [{"environment": name, "on": place.value, "state": s, "more": m} for name, s, m in look()]
        except CellRouterError as error:
            notes.append(f"not looked at, {place.value}: {str(error).splitlines()[0]}")
    return rows, notes


def _here() -> list[tuple[str, str, str]]:
    found = local_context.environments(os.environ)
    return [
        (name, "runs" if local_context.runs(each) else "ended", _address(each.variables))
        for name, each in found.items()
    ]


def _in_docker() -> list[tuple[str, str, str]]:
    from router.demo.environments import compose  # noqa: PLC0415 - --help stays quick

    return [(name, state, f"project {compose.PROJECT}{name}") for name, state in compose.states(os.environ).items()]


def _in_aws() -> list[tuple[str, str, str]]:
    if not _configured():
        raise ConfigError("no CELLROUTER_* variable and no --config says which prefix and region")
    settings = configured()

    async def states() -> Mapping[str, str]:
        from router.bootstrap.environments import open_platforms  # noqa: PLC0415 - --help stays quick

        async with open_platforms(settings) as platforms:
            return await platforms.states()

    prefix = settings.aws.prefix
    return [(name, state, f"stack {prefix}-{name}-platform") for name, state in run(states()).items()]


def _configured() -> bool:
    return any(name.startswith("CELLROUTER_") for name in os.environ)


def _address(variables: Mapping[str, str]) -> str:
    port = variables.get("CELLROUTER_API_PORT", "")
    return f"http://127.0.0.1:{port}/" if port else ""


def _create_here(name: str, like: str, cells: int, handler: str, port: int | None, *, dry_run: bool) -> None:
    from router.adapters.clock import SystemClock  # noqa: PLC0415 - --help stays quick
    from router.demo.environments import local  # noqa: PLC0415 - as above

    if dry_run:
        _tell_belongings(name, cells)
        return
    typer.echo(f"Starting Valkey, MiniStack, a controller, a router and {cells} cells of its own …")
    options = local.LocalOptions(name, like, cells, handler, port)
    found = run(local.create(options, dict(os.environ), SystemClock()))
    typer.echo(f"The environment {name} runs: {_address(found.variables)}")
    typer.echo(f"  cellrouter --env {name} cells   # and so each command; cellrouter env destroy {name} ends it")


def _tell_belongings(name: str, cells: int) -> None:
    from router.bootstrap.belongings import belongings  # noqa: PLC0415 - --help stays quick
    from router.settings import load  # noqa: PLC0415 - as above

    unused = {"CELLROUTER_SECRET": "0123456789abcdef" * 4}  # of an environment that is never made
    given = {"CELLROUTER_ENVIRONMENT": name, "CELLROUTER_CELLS_COUNT": str(cells)}
    typer.echo("Nothing is made; without --dry-run it would own:")
    for kind, names in belongings(load(unused | given)).items():
        typer.echo(f"  {kind}: {', '.join(names)}")


def _create_in_docker(name: str, like: str, file: Path, *, dry_run: bool) -> None:
    from router.demo.environments import compose  # noqa: PLC0415 - --help stays quick

    found = compose.ComposeEnvironment(name, file, dict(os.environ), like)
    if dry_run:
        typer.echo(f"Nothing is made; without --dry-run: the project {compose.PROJECT}{name} of {file}")
        return
    found.up()
    typer.echo(f"The environment {name} runs: docker compose --project-name {compose.PROJECT}{name} ps")


async def _create_in_aws(name: str, like: str, bucket: str, given: Mapping[str, str], *, dry_run: bool) -> None:
    from router.adapters.aws.templates import template  # noqa: PLC0415 - --help stays quick
    from router.bootstrap.environments import open_platforms  # noqa: PLC0415 - as above

    if not like or not (bucket or dry_run):
        raise typer.BadParameter("on AWS --like and --s3-bucket are needed", param_hint="--on")
    async with open_platforms(configured()) as platforms:
        parameters = await platforms.plan(name, like, given)
        for key, value in sorted(parameters.items()):
            typer.echo(f"  {key}={value}")
        if dry_run:
            typer.echo(f"Nothing is made; without --dry-run the stack {platforms.stack_of(name)} would be")
            return
        await platforms.make(name, parameters, template("platform"), bucket, typer.echo)


def _destroy_here(name: str, *, yes: bool, dead_letters: bool, outboxes: bool) -> None:
    from router.adapters.clock import SystemClock  # noqa: PLC0415 - --help stays quick
    from router.demo.environments import local  # noqa: PLC0415 - as above

    environ = dict(os.environ)
    if local_context.adopt_environment(os.environ, name) is not None:
        run(checked(dead_letters=dead_letters, outboxes=outboxes))
    if not yes:
        typer.echo(f"Would end all processes of {name}, with its Redis and its AWS. --yes does it")
        return
    run(local.end(name, environ, SystemClock()))
    typer.echo(f"The environment {name} is gone")


def _destroy_in_docker(name: str, file: Path, options: list[str], *, yes: bool) -> None:
    from router.demo.environments import compose  # noqa: PLC0415 - --help stays quick

    found = compose.ComposeEnvironment(name, file, dict(os.environ))
    found.check(*options)
    if not yes:
        typer.echo(f"Would remove the project {compose.PROJECT}{name} with its volumes. --yes does it")
        return
    found.down()
    typer.echo(f"The environment {name} is gone")


def _only(name: str) -> None:
    """Refuse to go on with the settings, and so with the secret, of another environment."""
    if (found := configured().environment) != name:
        raise ProvisionError(
            f"the configuration is that of {found}: set CELLROUTER_ENVIRONMENT={name} and the secret of {name}, which "
            "its instances are asked with whether events are left"
        )


def _pairs(given: list[str]) -> dict[str, str]:
    if wrong := [pair for pair in given if not pair.partition("=")[1]]:
        raise typer.BadParameter(f"{wrong[0]} is not NAME=VALUE", param_hint="--parameter")
    return dict(pair.split("=", 1) for pair in given)


def _on(*, on: bool) -> str:
    return "on" if on else "off"
