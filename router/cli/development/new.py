"""`cellrouter new NAME`: a package with a handler, its canary and tests, to begin one's own with."""

from __future__ import annotations

import keyword
import re
import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final

import typer

FILES: Final = {
    "pyproject.toml": "pyproject.toml",
    "NAME/__init__.py": "",
    "NAME/handler.py": "handler.py",
    "tests/test_handler.py": "test_handler.py",
    "Dockerfile": "Dockerfile",
    "compose.override.yml": "compose.override.yml",
}
"""What is made, and the template that it is made from; empty: an empty file."""
_STANDS_FOR_NAME: Final = "my_workload"
_TAKEN: Final = {"router", "cell_worker", "tests", *sys.stdlib_module_names}


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The package's name, as my_workload.")],
) -> None:
    """Make a folder with a handler of your own: the handler, a canary, tests, a Dockerfile and a compose override."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) or keyword.iskeyword(name):
        raise typer.BadParameter("must be a name for a Python package: a-z, 0-9 and _", param_hint="NAME")
    if name in _TAKEN:
        raise typer.BadParameter(f"{name} is the name of a package that is there already", param_hint="NAME")
    root = Path(name)
    try:
        root.mkdir()
    except OSError as error:
        raise typer.BadParameter(f"the folder {root} can't be made: {error.strerror}", param_hint="NAME") from error
    for path, text in contents(name).items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(text)
    typer.echo(f"Made {name}/ with a handler, {name}/{name}/handler.py, and its tests. Next:")
    for line in (f"cd {name}", "python -m pytest", f"cellrouter dev {name}.handler:Handler"):
        typer.echo(f"  {line}")


def contents(name: str) -> dict[str, str]:
    """Return the files of a new package by their paths in its folder."""
    templates = files("router.cli.development") / "template"
    return {
        path.replace("NAME", name): (templates / f"{template}.txt").read_text("utf-8").replace(_STANDS_FOR_NAME, name)
        if template
        else ""
        for path, template in FILES.items()
    }
