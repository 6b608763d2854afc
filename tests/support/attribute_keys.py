"""The keys by which the routers of tests know what they wrote into messages themselves."""

from __future__ import annotations

from typing import Final

from router.adapters.keyring import Keyring

KEYS: Final = Keyring("live", ["a-secret-for-tests"])
