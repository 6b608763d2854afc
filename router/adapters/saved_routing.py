"""RoutingMemory in a file: the last routing, for a router that starts while the registry is out of reach."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

import msgspec
import structlog

from cell_worker.contract.strict_reader import StrictReader, Unreadable
from router.core.addresses import host_of
from router.core.models import Target
from router.core.policy import Policy
from router.core.slot_map.routing import KnownRouting, Routing
from router.core.slot_map.slots import SlotMap, WireMap


class _SavedRecord(msgspec.Struct, frozen=True):
    """The content of the file, as JSON."""

    slot_map: WireMap
    targets: dict[str, Target]
    cells: frozenset[str]
    policy: Policy
    ejected: frozenset[str] = frozenset()


_saved: Final = StrictReader[_SavedRecord]("saved routing", _SavedRecord, 64 * 1024 * 1024)


class SavedRouting:
    """One file, replaced as a whole. A router goes on when it can't be read or written, and logs that."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = structlog.get_logger("routing")

    def load(self) -> KnownRouting | None:
        """Read the last routing and policy; None when there is none that can be used."""
        try:
            found = _record(self._path)
            routing = Routing(SlotMap.from_wire(found.slot_map), found.targets, found.cells, found.ejected)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self._log.warning("the saved routing can't be used", path=str(self._path), error=str(error))
            return None
        self._log.warning("goes by the saved routing", path=str(self._path), epoch=routing.slot_map.epoch)
        return KnownRouting(routing, found.policy)

    def save(self, known: KnownRouting) -> None:
        """Write beside the file, then put the new one in its place: a crash never leaves half a file."""
        routing, policy = known
        content = msgspec.json.encode(
            _SavedRecord(routing.slot_map.to_wire(), dict(routing.targets), routing.cells, policy, routing.ejected),
        )
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                Path(name).replace(self._path)
            except OSError:
                Path(name).unlink()  # a full disk must not get a file more with each try
                raise
        except OSError as error:
            self._log.warning("the routing can't be saved", path=str(self._path), error=str(error))


def _record(path: Path) -> _SavedRecord:
    found = _saved.read_file(path)
    if isinstance(found, Unreadable):
        raise ValueError(found.why)  # noqa: TRY004 - it is a value's fault, not a type's
    if strange := [target.address for target in found.targets.values() if host_of(target.address) is None]:
        raise ValueError(f"no instance has the address {strange[0]!r:.100}")
    return found
