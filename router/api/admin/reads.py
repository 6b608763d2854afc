"""What can be looked at by the Admin API: the fleet, cells, keys, the audit, the policy, releases."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import msgspec

from router.api.admin.bodies import (
    AuditPage,
    BlastRadii,
    Cells,
    Me,
    OneCell,
    PolicyHistory,
    PolicyNow,
    Registry,
    Releases,
    VersionLine,
    Where,
    WireSnapshot,
)
from router.api.admin.known import AUDIT_READ, LastKnown
from router.api.admin.surface import Asked, Operation, Parameter
from router.api.app import says
from router.api.views import cell_views
from router.core.callers import Role
from router.core.edits.decided import record_in
from router.core.fleet.explained import explanation
from router.core.fleet.overview import Overview
from router.core.fleet.places import FailureDomain, domains
from router.core.fleet.routes import route_of, slot_map_of
from router.core.policy import MAX_KEY_CHARS
from router.core.registry import AuditEntry
from router.core.release import progress
from router.core.slot_map.blast_radius import blast_radii, combined_traffic
from router.core.undo import taken_back

CELL: Final = Parameter("cell", "The cell.", "cell-0003", least=1, required=True)
KEY: Final = Parameter("key", "The partition key.", "acme", least=1, most=MAX_KEY_CHARS, required=True)
BY: Final = Parameter(
    "by", "What may fail as a whole.", "zone", default="cell", choices=tuple(each.value for each in FailureDomain)
)
AUDIT: Final = (
    Parameter("cell", "Only what is about this cell.", "cell-0003", default=""),
    Parameter("find", "Only entries in which each of these words is somewhere.", "evict", default=""),
    Parameter(
        "since_s", "Only what was done in the last so many seconds.", 7200, whole=True, most=10**9, default=10**9
    ),
    Parameter("limit", "The most entries: the newest.", 100, whole=True, least=1, most=AUDIT_READ, default=100),
    Parameter("skip", "Leave out so many of the newest.", 100, whole=True, most=AUDIT_READ, default=0),
)


class Reads:
    """Answers what is asked, of the newest that is known."""

    def __init__(self, known: LastKnown, fleet: Callable[[], bytes]) -> None:
        self._known = known
        self._fleet = fleet

    def operations(self) -> Iterator[Operation]:
        """List what can be asked."""
        yield _get("/me", "me", "Say who asks, and what they may do.", Me, self.me)
        yield _get("/fleet", "fleet", "Show whether all is well, what is done, what needs you.", Overview, self.fleet)
        yield _get("/cells", "cells", "Show how all cells are.", Cells, self.cells)
        about = "Show why a cell is treated as it is: verdict, evidence, peers."
        yield _get("/cells/{cell}", "explain", about, OneCell, self.cell, CELL, fault=404)
        yield _get("/where", "where", "Show where a key's events go, and under which limits.", Where, self.where, KEY)
        about = "List what was done lately, and why, oldest first."
        yield _get("/audit", "audit", about, AuditPage, self.audit, *AUDIT)
        yield _get("/policy", "policy", "Show what is in force.", PolicyNow, self.policy)
        about = "Show what was decided, by whom and why, and what was taken back."
        yield _get("/policy/history", "history", about, PolicyHistory, self.history)
        yield _get("/releases", "releases", "Show the last release of an image.", Releases, self.releases)
        about = "Show what each cell, zone or region would take with it."
        yield _get("/blast-radius", "blast-radius", about, BlastRadii, self.blast_radius, BY)
        yield _get("/registry", "registry", "Show all that the command line reads.", Registry, self.registry)

    async def me(self, asked: Asked) -> Me:
        """Say who asks, and their role."""
        return Me(asked.caller.who, asked.caller.role)

    async def fleet(self, _: Asked) -> msgspec.Raw:
        """Show what the dashboard shows."""
        return msgspec.Raw(self._fleet())

    async def cells(self, _: Asked) -> Cells:
        """Show how every cell is."""
        snapshot, conditions = await self._known.snapshot(), await self._known.conditions()
        return Cells(max(snapshot.age_s, conditions.age_s), list(cell_views(snapshot.value, conditions.value)))

    async def cell(self, asked: Asked) -> OneCell:
        """Explain how one cell is treated."""
        snapshot, conditions = await self._known.snapshot(), await self._known.conditions()
        cell_id = record_in(snapshot.value.cells, asked.values["cell"]).cell_id
        audit = await self._known.audit()
        found = explanation(cell_id, snapshot.value, conditions.value, audit.value)
        return OneCell(max(snapshot.age_s, conditions.age_s, audit.age_s), found)

    async def where(self, asked: Asked) -> Where:
        """Show one key's way."""
        snapshot = await self._known.snapshot()
        return Where(snapshot.age_s, route_of(asked.values["key"], snapshot.value))

    async def audit(self, asked: Asked) -> AuditPage:
        """Choose entries of the audit."""
        audit, snapshot = await self._known.audit(), await self._known.snapshot()
        values = asked.values
        from_ms = snapshot.value.now_ms - 1000 * values["since_s"]
        found = [each for each in audit.value if _is_meant(each, values["cell"], values["find"], from_ms)]
        end = max(0, len(found) - values["skip"])
        return AuditPage(audit.age_s, found[max(0, end - values["limit"]) : end], len(found))

    async def policy(self, _: Asked) -> PolicyNow:
        """Show the policy in force."""
        snapshot = await self._known.snapshot()
        return PolicyNow(snapshot.age_s, snapshot.value.policy)

    async def history(self, _: Asked) -> PolicyHistory:
        """Show the versions of the policy."""
        versions = await self._known.history()
        gone = taken_back(versions.value)
        found = [VersionLine(each.policy, each.audit, each.policy.version in gone) for each in versions.value]
        return PolicyHistory(versions.age_s, found)

    async def releases(self, _: Asked) -> Releases:
        """Show the last release."""
        snapshot = await self._known.snapshot()
        policy = snapshot.value.policy
        said = progress(policy.release, snapshot.value.now_ms) if policy.release is not None else ""
        return Releases(snapshot.age_s, policy.image, policy.release, said)

    async def blast_radius(self, asked: Asked) -> BlastRadii:
        """Show the blast radius of each domain."""
        snapshot, traffic = await self._known.snapshot(), await self._known.traffic()
        places = domains(snapshot.value, FailureDomain(asked.values["by"]))
        found = blast_radii(slot_map_of(snapshot.value).counts(), combined_traffic(traffic.value), places)
        return BlastRadii(max(snapshot.age_s, traffic.age_s), found)

    async def registry(self, _: Asked) -> Registry:
        """Show the whole registry."""
        snapshot, conditions = await self._known.snapshot(), await self._known.conditions()
        samples, traffic = await self._known.samples(), await self._known.traffic()
        return Registry(
            max(snapshot.age_s, conditions.age_s, samples.age_s, traffic.age_s),
            WireSnapshot.of(snapshot.value),
            conditions.value,
            samples.value,
            list(traffic.value),
        )


def _get(
    path: str,
    name: str,
    about: str,
    answer: Any,
    do: Callable[[Asked], Awaitable[Any]],
    *parameters: Parameter,
    fault: int | None = None,
) -> Operation:
    faults = [fault] if fault is not None else []
    return Operation("GET", path, name, about, Role.VIEW, answer, do, parameters, faults=faults)


def _is_meant(entry: AuditEntry, cell: str, words: str, from_ms: int) -> bool:
    return entry.at_ms >= from_ms and cell in ("", entry.cell_id) and says(entry, words)
