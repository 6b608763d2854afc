"""`cellrouter cell-secret`, `token` and `secrets`: what a worker and a person get, and how far a rotation is."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from router.cli.options import AsJson
from router.cli.registry import configured, look
from router.cli.texts import Screen
from router.core.callers import Role, line_of, tokens_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.core.registry import Snapshot


@dataclass(frozen=True, slots=True)
class SecretUse:
    """One of the valid secrets, and who uses it: an entry of `secrets --json`."""

    secret: str  # its public name
    signs: bool  # new instances get theirs from it
    instances: int  # with a live lease that is proven by it
    cells: list[str]  # that have such an instance


def cell_secret(cell_id: Annotated[str, typer.Argument(metavar="CELL", help="The cell, as cell-0003.")]) -> None:
    """Print a cell's own secret, the value of CELL_SECRET, for a worker that no provisioner starts.

    Whoever has it can act as this cell, and as nothing else.
    """
    from router.bootstrap.registry import keyring_of  # noqa: PLC0415 - --help stays quick
    from router.settings_values import NAME, NAME_WORDS  # noqa: PLC0415 - --help stays quick

    if re.fullmatch(NAME, cell_id) is None:
        raise typer.BadParameter(NAME_WORDS, param_hint="CELL")
    typer.echo(keyring_of(configured()).cell_secret(cell_id))


def token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is, as the audit shall name them.")],
    *,
    role: Annotated[Role, typer.Option(help="view: may look at everything; operate: and change it.")] = Role.VIEW,
    as_json: AsJson = False,
) -> None:
    """Make a token for the Admin API. It is shown once; the system keeps no more than its hash.

    Who has it may ask once its line is in api.tokens, or in the file of api.tokens_file.
    """
    from secrets import token_urlsafe  # noqa: PLC0415 - --help stays quick

    made = f"crt_{token_urlsafe(32)}"
    line = line_of(name, role, made)
    if isinstance(tokens_in(line), str):
        raise typer.BadParameter("lower-case letters, digits and . _ @ -, at most 80", param_hint="NAME")
    if as_json:
        typer.echo(json.dumps({"token": made, "line": line}))
        return
    typer.echo(made)
    typer.echo(f"It is believed once this line is in api.tokens, or in the file of api.tokens_file: {line}", err=True)


def secrets(*, as_json: AsJson = False) -> None:
    """Show which of the environment's secrets the instances use, by public names: whether an old one can go.

    It reads the secrets that this command has, so run it where a controller runs.
    """
    from router.bootstrap.registry import keyring_of  # noqa: PLC0415 - --help stays quick

    found = uses_of(keyring_of(configured()).ids, look())
    if as_json:
        typer.echo(json.dumps([asdict(use) for use in found]))
        return
    table = Table("secret", "", "instances", "cells")
    for use in found:
        table.add_row(use.secret, "signs" if use.signs else "believed", str(use.instances), ", ".join(use.cells) or "-")
    Screen().print(table)
    typer.echo(what_is_next(found))


def uses_of(ids: Sequence[str], snapshot: Snapshot) -> list[SecretUse]:
    """Count who uses each secret; the first one signs."""
    live = [lease for lease in snapshot.leases if lease.live]
    counts = Counter(lease.secret_id for lease in live)
    return [
        SecretUse(name, name == ids[0], counts[name], sorted({e.cell_id for e in live if e.secret_id == name}))
        for name in ids
    ]


def what_is_next(uses: Sequence[SecretUse]) -> str:
    """Say in words what can be done next."""
    older = sum(use.instances for use in uses if not use.signs)
    if len(uses) == 1:
        return "There is one secret, and every instance that is believed uses it"
    if not older:
        return "No instance uses a secret but the first: the others can go, once every router and controller has it"
    return f"{older} instances use another secret than the first: cellrouter replace CELL gives each a new one"
