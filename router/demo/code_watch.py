"""Sees when the code of a handler changes."""

from __future__ import annotations

import importlib.machinery
from collections.abc import Iterator, Sequence
from pathlib import Path

_Stamps = dict[Path, tuple[int, int]]
"""When each file was written last, in ns, and its size."""


class CodeWatch:
    """Watches a folder of code by looking at it. An editor that writes a file in several steps makes one change."""

    def __init__(self, root: Path) -> None:
        """`root` is a package's folder, watched with all that is in it, or one module, with the modules beside it."""
        self._root = root
        self._known = self._seen = self._stamps()

    def changed(self) -> list[Path]:
        """Return the files that have changed since they were last returned, once they have stopped changing."""
        now, before = self._stamps(), self._seen
        self._seen = now
        if now != before or now == self._known:
            return []
        changed = [path for path in sorted({*now, *self._known}) if now.get(path) != self._known.get(path)]
        self._known = now
        return changed

    def _stamps(self) -> _Stamps:
        found: _Stamps = {}
        for path in self._files():
            try:
                status = path.stat()
            except OSError:  # it goes just now
                continue
            found[path] = (status.st_mtime_ns, status.st_size)
        return found

    def _files(self) -> Iterator[Path]:
        if self._root.is_file():
            yield from self._root.parent.glob("*.py")
            return
        for path in self._root.rglob("*"):
            hidden = any(part == "__pycache__" or part.startswith(".") for part in path.relative_to(self._root).parts)
            if not hidden and path.is_file():
                yield path


def code_of(handler: str, folders: Sequence[str]) -> Path | None:
    """Return the folder of a handler's package, or its module's file; None when it isn't in any of the folders."""
    top = handler.partition(":")[0].partition(".")[0]
    spec = importlib.machinery.PathFinder.find_spec(top, list(folders))
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin else None
