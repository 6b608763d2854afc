"""`cellrouter version`: which version this is, and what it runs on."""

from __future__ import annotations

import json
import platform
from typing import Final

import typer

from router.cli.options import AsJson

PACKAGES: Final = ("redis", "aiobotocore", "msgspec", "uvloop")  # of which a version may explain what is seen


def version_of(package: str = "cellrouter") -> str:
    """Return the version of an installed package, in words where it is none."""
    from importlib.metadata import PackageNotFoundError  # noqa: PLC0415 - --help stays quick
    from importlib.metadata import version as installed  # noqa: PLC0415 - as above

    try:
        return installed(package)
    except PackageNotFoundError:
        return "not installed"


def version(*, as_json: AsJson = False) -> None:
    """Show which version this is, with those of Python and of the packages that matter."""
    python = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    found = {"cellrouter": version_of(), "python": python} | {name: version_of(name) for name in PACKAGES}
    if as_json:
        typer.echo(json.dumps(found))
        return
    for name, text in found.items():
        typer.echo(f"{name} {text}")
