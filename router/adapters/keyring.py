"""The environment's secrets that are valid now, and the keys that are derived from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cell_worker.contract.keys import CellKeys, Key, cell_secret

_ID_DIGITS: Final = 8
_MAX_KEPT: Final = 4096  # cells, whose names may come from anybody who can write a lease


class Keyring:
    """Signs with the first secret and believes what any of them proves, so that a secret can be replaced at work."""

    def __init__(self, environment: str, secrets: Sequence[str]) -> None:
        self._environment = environment
        self._cells: dict[str, tuple[CellKeys, ...]] = {}
        self._secrets: tuple[str, ...] = ()
        self.replace(secrets)

    def replace(self, secrets: Sequence[str]) -> bool:
        """Use these secrets from now on, of which the first one signs; returns whether they are others."""
        assert secrets, "nothing can be signed without a secret"
        before, self._secrets = self._secrets, tuple(secrets)
        self._cells.clear()
        self.attributes = tuple(Key(secret, f"attributes/{self._environment}") for secret in self._secrets)
        self.ids = tuple(Key(secret, f"id/{self._environment}").proof(b"")[:_ID_DIGITS] for secret in self._secrets)
        """The public names of the secrets, in their order: they tell people which is meant, and nothing else."""
        return before != self._secrets

    def keys(self, cell_id: str, secret_id: str) -> CellKeys:
        """Return the cell's keys of the secret with this public name; of the first one where that is not known."""
        keys = self.cell(cell_id)
        return keys[self.ids.index(secret_id)] if secret_id in self.ids else keys[0]

    def cell_secret(self, cell_id: str) -> str:
        """Return the secret that a new instance of this cell gets."""
        return cell_secret(self._secrets[0], self._environment, cell_id)

    def cell(self, cell_id: str) -> tuple[CellKeys, ...]:
        """Return the cell's keys of each valid secret, in their order."""
        keys = self._cells.get(cell_id)
        if keys is None:
            if len(self._cells) >= _MAX_KEPT:
                self._cells.clear()
            keys = tuple(CellKeys.of(cell_secret(secret, self._environment, cell_id)) for secret in self._secrets)
            self._cells[cell_id] = keys
        return keys
