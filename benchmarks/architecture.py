"""The structure of the code, read from its import graph: rooms, arrows, floors and the longest chain of imports.

A room is a package or a module that stands directly in the package that is looked at. An arrow leads from one room to
another when anything in the first imports anything in the second. A room's floor is one above the highest room that it
has an arrow to; the lowest is floor 1. The longest chain is counted in modules.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import grimp

ROOTS = ("router", "cell_worker", "benchmarks")
Graph = Mapping[str, frozenset[str]]
"""What each module, or room, imports."""


def modules() -> Graph:
    """Read the imports of every module between ROOTS, without their packages' own empty `__init__` modules."""
    found = grimp.build_graph(*ROOTS, cache_dir=None)
    return {name: frozenset(found.find_modules_directly_imported_by(name)) for name in found.modules}


def rooms_of(imports: Graph, package: str | None) -> Graph:
    """The rooms directly inside a package and the arrows between them; of the whole house for None."""

    def room(module: str) -> str | None:
        if package is None:
            return ".".join(module.split(".")[:2]) if module.startswith("router.") else module.split(".", maxsplit=1)[0]
        head, _, rest = module.removeprefix(package).partition(".")
        return f"{package}.{rest.split('.')[0]}" if module.startswith(f"{package}.") and not head else None

    arrows: dict[str, set[str]] = {}
    for module, others in imports.items():
        if (own := room(module)) is not None and (package is None or own != package) and own != "router":
            targets = {there for each in others if (there := room(each)) is not None}
            arrows.setdefault(own, set()).update(targets - {own, "router"})
    return {own: frozenset(targets) for own, targets in arrows.items()}


def longest_chain(imports: Graph) -> list[str]:
    """The longest way along arrows, from its first module to its last. A circle raises RecursionError."""

    @cache
    def below(module: str) -> tuple[str, ...]:
        return max(((each, *below(each)) for each in sorted(imports.get(module, ()))), key=len, default=())

    return max(([module, *below(module)] for module in sorted(imports)), key=len, default=[])


def described(title: str, rooms: Graph) -> str:
    """One line of figures about a package's rooms."""
    arrows = sum(map(len, rooms.values()))
    return f"{title:34}{len(rooms):>7}{arrows:>8}{len(longest_chain(rooms)):>8}"


def packages() -> Iterable[str]:
    """Every package of the router and of the worker that holds more than one module, by name."""
    folders = (folder for root in ROOTS[:2] for folder in (Path(root), *Path(root).rglob("*")) if folder.is_dir())
    crowded = (folder for folder in folders if sum(1 for file in folder.glob("*.py") if file.name != "__init__.py") > 1)
    return sorted(".".join(folder.parts) for folder in crowded)


def main(asked: list[str]) -> None:
    """Print the figures of these packages, or of the whole house and every package in it."""
    imports = modules()
    print(f"{'':34}{'rooms':>7}{'arrows':>8}{'floors':>8}")
    if not asked:
        print(described("the house", rooms_of(imports, None)))
    for package in asked or packages():
        print(described(package, rooms_of(imports, package)))
    chain = longest_chain(imports)
    print(f"\nlongest chain of imports, {len(chain)} modules:\n  " + "\n  ".join(chain))


if __name__ == "__main__":
    main(sys.argv[1:])
