"""Changes the policy: makes each change on the newest version and has the leader rule on it."""

from __future__ import annotations

from collections.abc import Callable

from router.core.policy import Policy
from router.core.registry import AuditEntry
from router.ports import PolicyStore


async def change(store: PolicyStore, edit: Callable[[Policy], Policy], audit: AuditEntry) -> Policy:
    """Put in force what `edit` makes of the policy, and return it; `edit` is called again when another change wins.

    Raises what the store raises: PolicyRefusedError, NoLeaderError, RegistryUnavailableError.
    """
    while True:
        policy = await store.policy()
        wanted = edit(policy)
        if wanted == policy or await store.change_policy(wanted, audit):
            return wanted
