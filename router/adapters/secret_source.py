"""Where a process has the environment's secrets from: a setting, or a file that is read again when it changes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from cell_worker.contract.secret_file import read_secrets, secrets_in, why_exposed
from cell_worker.contract.strict_reader import Unreadable
from router.adapters.keyring import Keyring
from router.core.models import Reason
from router.core.weak_secrets import why_weak
from router.ports import Clock

LOOK_EVERY_S: Final = 2.0


@dataclass(frozen=True, slots=True, repr=False)
class SecretSource:
    """The secrets of an environment. The first one signs, and each of them is believed."""

    given: str  # in a setting, with commas between them; empty where a file holds them
    file: Path | None
    refuse_weak: bool  # those that can be guessed

    def read(self) -> tuple[str, ...] | Unreadable:
        """Return the secrets as they are now, or say why they can't be used. Never raises; the text shows none."""
        if self.file is not None and self.given:
            return Unreadable("is set, and secret_file too: set one of the two")
        if self.file is None and not self.given:
            return Unreadable("is required: set CELLROUTER_SECRET, or CELLROUTER_SECRET_FILE")
        found = secrets_in(self.given) if self.file is None else read_secrets(self.file)
        if isinstance(found, Unreadable):
            return found
        weak = _why_weak(found)
        return Unreadable(weak) if weak is not None and self.refuse_weak else found

    def warnings(self) -> list[Reason]:
        """List what is amiss with secrets that can be used."""
        found = self.read()
        weak = None if isinstance(found, Unreadable) else _why_weak(found)
        exposed = None if self.file is None else why_exposed(self.file)
        reasons = [weak and f"the secret can be guessed: {weak}", exposed and f"{self.file}: {exposed}"]
        return [reason for reason in reasons if reason]


def _why_weak(secrets: tuple[str, ...]) -> Reason | None:
    for number, secret in enumerate(secrets, start=1):
        if (why := why_weak(secret)) is not None:
            return f"secret {number} of {len(secrets)}: {why}" if len(secrets) > 1 else why
    return None


class SecretWatch:
    """Gives the keyring the file's secrets, each time that they have changed. A bad file changes nothing."""

    def __init__(self, source: SecretSource, keyring: Keyring, clock: Clock) -> None:
        self._source = source
        self._keyring = keyring
        self._clock = clock
        self._log = structlog.get_logger("secrets")
        self._why_bad: Reason | None = None  # as it was told

    async def run(self) -> None:
        """Look at the file every two seconds until cancelled."""
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            self.look()

    def look(self) -> None:
        """Look at the file once."""
        if self._source.file is None:
            return
        found = self._source.read()
        if isinstance(found, Unreadable):
            if found.why != self._why_bad:
                path = str(self._source.file)
                self._log.error("goes on with the secrets that it has: the file is bad", path=path, why=found.why)
            self._why_bad = found.why
            return
        self._why_bad = None
        if self._keyring.replace(found):
            first, *others = self._keyring.ids
            self._log.warning("the secrets have changed", first=first, believed_too=others)
