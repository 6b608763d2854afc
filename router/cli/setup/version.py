"""`cellrouter version`: which version this is, and what it runs on."""

from __future__ import annotations

import json
import platform
from typing import Final

import typer

from cell_worker.contract.texts import version_of
from router.cli.options import AsJson

PACKAGES: Final = ("redis", "aiobotocore", "msgspec", "uvloop")  # of which a version may explain what is seen


def version(*, as_json: AsJson = False) -> None:
    """Show which version this is, with those of Python and of the packages that matter."""
    python = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    found = {"cellrouter": version_in_words("cellrouter"), "python": python}
    found |= {name: version_in_words(name) for name in PACKAGES}
    if as_json:
        typer.echo(json.dumps(found))
        return
    for name, text in found.items():
        typer.echo(f"{name} {text}")


def version_in_words(package: str) -> str:
    """Return the version of an installed package, in words where it is none."""
    return version_of(package) or "not installed"
