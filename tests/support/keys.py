"""The secret of the tests' environments, and the keys that are derived from it."""

from __future__ import annotations

from typing import Final

from cell_worker.contract.keys import CellKeys, Key, cell_secret
from cell_worker.contract.protocol import InstanceRecord, instance_name, lease_field
from router.adapters.keyring import Keyring

SECRET: Final = "6b1f8e02c97d4a3550e4d7b916ac28f3"
OTHER_SECRET: Final = "d94a07f3b25c8e6116f0a7cd3b59e284"


def ring(environment: str, *secrets: str) -> Keyring:
    """Return what routers and controllers of an environment know: these secrets, or SECRET."""
    return Keyring(environment, secrets or (SECRET,))


def cell_keys(environment: str, cell_id: str, secret: str = SECRET) -> CellKeys:
    """Return the keys of a cell, as its instances derive them."""
    return CellKeys.of(cell_secret(secret, environment, cell_id))


def lease_key(record: InstanceRecord, secret: str = SECRET) -> Key:
    """Return the key by which this instance proves its lease."""
    return cell_keys(record.environment, record.cell_id, secret).lease


def field_of(environment: str, cell_id: str, generation: int, secret: str = SECRET) -> str:
    """Return where the lease of this instance lies, which only who has its cell's secret knows."""
    return lease_field(instance_name(cell_id, generation), cell_keys(environment, cell_id, secret).lease)
