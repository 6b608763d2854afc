"""Keys: who has one of them can do nothing with it that is another's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cell_worker.contract.keys import PROOF_BYTES, CellKeys, Key, cell_secret
from router.adapters.keyring import Keyring

OLD, NEW = "the-first-secret-of-the-environment", "the-second-secret-of-the-environment"


@given(said=st.binary(max_size=100), other=st.binary(max_size=100), proof=st.text(max_size=40))
def test_a_proof_is_of_one_text_and_nothing_else_is_its_proof(said: bytes, other: bytes, proof: str) -> None:
    """Whoever lacks the key proves nothing."""
    key = Key(OLD, "lease")
    assert key.proves(key.proof(said), said)
    assert len(key.proof(said)) == 2 * PROOF_BYTES
    assert key.proves(key.proof(said), other) == (said == other)
    assert not key.proves(proof, said)


def test_no_cell_environment_purpose_or_secret_shares_a_key() -> None:
    """A stolen key opens one door."""
    secrets = [cell_secret(s, e, c) for s in (OLD, NEW) for e in ("live", "stress") for c in ("cell-0", "cell-1")]
    keys = [key for secret in secrets for key in vars_of(CellKeys.of(secret))]
    keys += Keyring("live", [OLD]).attributes + Keyring("live", [NEW]).attributes + Keyring("stress", [OLD]).attributes
    assert len({key.proof(b"x") for key in keys}) == len(keys) == 8 * 3 + 3


def test_a_ring_signs_with_its_first_secret_and_believes_each() -> None:
    """So a secret is replaced at work."""
    ring = Keyring("live", [OLD])
    before = ring.cell("cell-0")[0].lease.proof(b"x")
    ring.replace([NEW, OLD])
    assert ring.cell_secret("cell-0") == cell_secret(NEW, "live", "cell-0")
    assert [keys.lease.proves(before, b"x") for keys in ring.cell("cell-0")] == [False, True]
    ring.replace([NEW])
    assert [keys.lease.proves(before, b"x") for keys in ring.cell("cell-0")] == [False]


def vars_of(keys: CellKeys) -> list[Key]:
    """Return the keys of all purposes."""
    return [keys.lease, keys.call, keys.answer]
