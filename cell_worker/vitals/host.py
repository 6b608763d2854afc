"""Reads what the kernel says of this process: its CPU quota, for how long that stopped it, its wait for a core.

Linux alone says so, and each figure that can't be had is None: it is never an error.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from cell_worker.contract.strict_reader import Unreadable, read_regular_file

PROC: Final = Path("/proc")
GROUPS: Final = Path("/sys/fs/cgroup")
_MAX_BYTES: Final = 64 * 1024
_THROTTLED: Final = {"throttled_usec": 1e-6, "throttled_time": 1e-9}
"""The lines of `cpu.stat` that tell it, and the unit of each: of control groups in version 2 and in version 1."""


@dataclass(frozen=True, slots=True)
class CpuQuota:
    """How much CPU a control group may use, and where the kernel counts for how long that stopped it."""

    cpus: float  # seconds of CPU a second
    stat: Path

    def throttled_s(self) -> float | None:
        """Return for how many seconds the group was kept from running, since it was made."""
        for line in _text(self.stat).splitlines():
            name, _, value = line.partition(" ")
            if (unit := _THROTTLED.get(name)) is not None and (found := _number(value)) is not None:
                return found * unit
        return None


def cpu_quota(proc: Path = PROC, groups: Path = GROUPS) -> CpuQuota | None:
    """Find the quota that limits this process most: its own group's, or that of a group around it. None: no quota."""
    found = [quota for folder in _folders(proc, groups) if (quota := _quota_of(folder)) is not None]
    return min(found, key=lambda quota: quota.cpus, default=None)


def usable_cpus(quota: CpuQuota | None) -> float:
    """Return how many CPUs this process may use at once, by its quota and by the CPUs that it may run on."""
    affinity = getattr(os, "sched_getaffinity", None)  # macOS has none
    cpus = float(len(affinity(0)) if affinity is not None else os.cpu_count() or 1)
    return min(cpus, quota.cpus) if quota is not None else cpus


def waited_s(proc: Path = PROC) -> float | None:
    """Return for how many seconds the main thread was ready to run and had no core, since it began.

    A CPU quota that stops it counts too, since it is ready to run then.
    """
    figures = _text(proc / "self" / "schedstat").split()
    ran, waited = (_number(figures[0]), _number(figures[1])) if len(figures) > 1 else (None, None)
    return waited * 1e-9 if ran and waited is not None else None  # a kernel that doesn't count says 0 for both


def _folders(proc: Path, groups: Path) -> Iterator[Path]:
    """List the folders of the groups that this process is in, and of those around them, as far as they can be seen.

    A container may see its own group as the topmost one, while its path is still told from the host's.
    """
    for line in _text(proc / "self" / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount, inside = groups / controllers, PurePosixPath(path.lstrip("/"))
        if ".." not in inside.parts:
            yield mount / inside
            yield from (mount / around for around in inside.parents if around.parts)
        yield mount


def _quota_of(folder: Path) -> CpuQuota | None:
    quota, period = f"{_text(folder / 'cpu.max')} ".split(" ")[:2]  # version 2, where no quota is `max`
    if not quota:
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")  # where it is -1
    allowed_us, period_us = _number(quota), _number(period)
    return CpuQuota(allowed_us / period_us, folder / "cpu.stat") if allowed_us and period_us else None


def _text(path: Path) -> str:
    try:
        found = read_regular_file(path, _MAX_BYTES)
    except OSError:
        return ""
    return "" if isinstance(found, Unreadable) else found.decode("ascii", "replace").strip()


def _number(text: str) -> float | None:
    """Read a count as the kernel writes it; None for anything else, and for what is less than 0."""
    return float(text) if text.isascii() and text.isdigit() else None
