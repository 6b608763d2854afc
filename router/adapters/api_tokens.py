"""The tokens of the Admin API: from a setting, or from a file that is read again when it changes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from cell_worker.contract.secret_file import why_exposed
from cell_worker.contract.strict_reader import Unreadable, read_regular_file
from router.core.callers import ApiCaller, KnownToken, tokens_in, whose
from router.core.models import Reason
from router.ports import Clock

LOOK_EVERY_S: Final = 2.0
_MAX_FILE_BYTES: Final = 32 * 1024


@dataclass(frozen=True, slots=True)
class TokenSource:
    """Where the tokens are: in a setting, or one a line in a file. Both hold hashes, and no token."""

    given: str = ""
    file: Path | None = None

    @property
    def is_set(self) -> bool:
        """Return whether there shall be tokens, even if the file can't be read now."""
        return bool(self.given.strip()) or self.file is not None

    def read(self) -> tuple[KnownToken, ...] | Unreadable:
        """Return the tokens as they are now, or say why they can't be used. Never raises."""
        if self.file is None:
            found = tokens_in(self.given)
            return Unreadable(found) if isinstance(found, str) else found
        if self.given.strip():
            return Unreadable("is set, and api.tokens_file too: set one of the two")
        try:
            raw = read_regular_file(self.file, _MAX_FILE_BYTES)
        except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
            return Unreadable(f"it can't be read: {getattr(error, 'strerror', None) or type(error).__name__}")
        if isinstance(raw, Unreadable):
            return raw
        if len(raw) > _MAX_FILE_BYTES:
            return Unreadable(f"it has more than {_MAX_FILE_BYTES} bytes")
        found = tokens_in(raw.decode("utf-8", "replace"))
        return Unreadable(found) if isinstance(found, str) else found

    def warnings(self) -> list[Reason]:
        """List what is amiss with tokens that can be used."""
        exposed = None if self.file is None else why_exposed(self.file)
        return [f"{self.file}: {exposed}"] if exposed else []


class Tokens:
    """The Believer of tokens. A bad file changes nothing: who had a token before has it still."""

    def __init__(self, source: TokenSource, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._log = structlog.get_logger("tokens")
        self._why_bad: Reason | None = None  # as it was told
        self._known: tuple[KnownToken, ...] = ()
        self._read_at = clock.monotonic()
        self._look()

    @property
    def is_set(self) -> bool:
        """Return whether tokens are asked for at all."""
        return self._source.is_set

    async def caller_of(self, token: str) -> ApiCaller | None:
        """Return whose token it is, as the file says now or said seconds ago."""
        now = self._clock.monotonic()
        if self._source.file is not None and now - self._read_at >= LOOK_EVERY_S:
            self._read_at = now
            self._look()
        return whose(token, self._known)

    def _look(self) -> None:
        found = self._source.read()
        if not isinstance(found, Unreadable):
            self._known, self._why_bad = found, None
        elif found.why != self._why_bad:
            self._log.error("goes on with the tokens that it has: they can't be read", why=found.why)
            self._why_bad = found.why
