"""Keys: each part gets only what it needs, and all are derived from the environment's secret.

Routers, controllers and operators know the secret. An instance knows only its cell's secret, and derives the cell's own
keys from it: it can neither sign for another cell nor pass for a router. A part of the wire contract.

A derived secret is HMAC-SHA256 of a label (one step of HKDF-Expand, RFC 5869), a proof is a keyed BLAKE2b of 16 bytes
(RFC 7693): the cheapest of the keyed hashes in Python's standard library, and one that can go on after each result.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final

PROOF_BYTES: Final = 16
"""The length of a proof, which is written as twice as many hex digits."""
_DIGITS: Final = re.compile(r"[0-9a-f]{64}")


class Key:
    """One key for one purpose, by which whoever has it proves what is said."""

    __slots__ = ("_began",)

    def __init__(self, secret: str, purpose: str) -> None:
        key = hmac.digest(secret.encode(), f"cellrouter/{purpose}".encode(), "sha256")
        self._began = hashlib.blake2b(key=key, digest_size=PROOF_BYTES)

    def begun(self, said: bytes) -> hashlib.blake2b:
        """Return the proof of what is said, to be updated with what is said next."""
        mac = self._began.copy()
        mac.update(said)
        return mac

    def proof(self, said: bytes) -> str:
        """Return the proof of what is said, in hex."""
        return self.begun(said).hexdigest()

    def proves(self, proof: str, said: bytes) -> bool:
        """Whether the proof is that of what is said. Every wrong one takes the same time."""
        return hmac.compare_digest(proof.encode(errors="replace"), self.proof(said).encode())


def cell_secret(secret: str, environment: str, cell_id: str) -> str:
    """Derive a cell's secret from the environment's: `<environment>/<cell>/<64 hex digits>`, the value of CELL_SECRET.

    It says whose it is, so that an instance can refuse another cell's, and the environment's own, which no cell may
    have.
    """
    whose = f"{environment}/{cell_id}"
    return f"{whose}/{hmac.digest(secret.encode(), f'cellrouter/cell/{whose}'.encode(), 'sha256').hex()}"


def is_secret_of(secret: str, environment: str, cell_id: str) -> bool:
    """Whether a secret has the form of this cell's."""
    whose, _, digits = secret.rpartition("/")
    return whose == f"{environment}/{cell_id}" and _DIGITS.fullmatch(digits) is not None


@dataclass(frozen=True, slots=True)
class CellKeys:
    """The keys of one cell."""

    lease: Key  # an instance proves its lease
    call: Key  # a router or controller proves that it calls this cell
    answer: Key  # an instance proves its answer

    @classmethod
    def of(cls, secret: str) -> CellKeys:
        """Derive the keys from the cell's secret."""
        return cls(Key(secret, "lease"), Key(secret, "call"), Key(secret, "answer"))
