"""Text that others have sent, made harmless for the terminal that it is shown on.

A key, a reason or the name of an actor may hold what a terminal obeys: it would retitle the window, fill the
clipboard, hide a line or turn its order round. Here all of that becomes visible escapes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TextIO


def is_text(text: str) -> bool:
    """Whether this can be written as UTF-8: Python also takes other bytes from command lines and variables."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str) -> str:
    """Escape what is no visible character or space, line breaks too: what is left is one line, and steers nothing."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def neutral(text: str) -> str:
    """Escape what a terminal would obey, but for line breaks and tabs: several lines stay several lines."""
    if text.replace("\n", " ").replace("\t", " ").isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


class NeutralStream:
    """A text stream through which only neutral text gets; `raw` is the stream itself, for what styles its own output.

    It has no `buffer`, by which libraries would write past it.
    """

    def __init__(self, raw: TextIO) -> None:
        self.raw = raw

    def write(self, text: str) -> int:
        """Write the text with what a terminal would obey made visible; return how many characters that was given."""
        self.raw.write(neutral(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of the lines, as `write` does."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":
            raise AttributeError(name)
        return getattr(self.raw, name)


def raw_of(stream: Any) -> TextIO:
    """Return the stream that escapes get through, for those who have made their text neutral themselves."""
    raw: TextIO = getattr(stream, "raw", stream)
    return raw


def version_of(package: str) -> str | None:
    """Return the version of a package; None where it is not installed, as of code that runs from its own folder."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - few need it, and it takes its time

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def own_version() -> str:
    """Return the version of this code; `unknown` where it is not installed."""
    return version_of("cellrouter") or "unknown"
