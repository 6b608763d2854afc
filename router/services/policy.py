"""Changes of the policy by people, one after the other: each is made on the newest version, and audited."""

from __future__ import annotations

from collections.abc import Callable

from router.core.policy import Policy
from router.core.registry import AuditEntry
from router.ports import PolicyStore


async def change(store: PolicyStore, edit: Callable[[Policy], Policy], audit: AuditEntry) -> Policy:
    """Put what `edit` makes of the policy in force; raises RegistryUnavailableError."""
    while True:
        policy = await store.policy()
        wanted = edit(policy)
        if wanted == policy or await store.change_policy(wanted, audit):
            return wanted
