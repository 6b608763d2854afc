"""The registry in memory with a leader that accepts every change of the policy at once."""

from __future__ import annotations

from dataclasses import replace

from router.core.policy import Policy
from router.core.registry import AuditEntry, PolicyVersion
from tests.support.memory_registry import MemoryRegistry


class AcceptingRegistry(MemoryRegistry):
    """A registry whose policy anybody may change, as long as nobody has changed it meanwhile."""

    async def change_policy(self, policy: Policy, audit: AuditEntry) -> bool:
        has = self.contents
        if policy.version != has.policy.version:
            return False
        has.policy = replace(policy, version=policy.version + 1)
        has.versions.append(PolicyVersion(has.policy, audit))
        has.audit.append(audit)
        return True
