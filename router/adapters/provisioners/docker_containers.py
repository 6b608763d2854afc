"""A worker's container: the requests that create it, and how an engine's answers are read. Makes no calls."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from cell_worker.contract.tls import TlsFolders
from router.core.models import Reason

DEFAULT_ENGINE_URL: Final = "unix:///var/run/docker.sock"
PORT: Final = 8080
DATA_DIR: Final = "/var/lib/cellrouter"
TLS_DIR: Final = Path("/etc/cellrouter/tls")
USER: Final = "10001:10001"  # the image's own user; repeated here so that no other image runs as root
TMP_OPTIONS: Final = "rw,noexec,nosuid,nodev,size=64m"
LOG: Final = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
"""Whatever a handler prints, an instance's log stays below 30 MB; the engine's own default is no limit."""
OLDEST_API: Final = (1, 41)
"""Of Docker 20.10 and of Podman: the oldest that is known to do what is asked of it."""
WRITTEN_FOR_API: Final = (1, 44)
"""Of Docker 25. Docker 29 and later refuse what is older, and what newer ones change does not matter so."""
_API_VERSION: Final = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})")
_NEVER_STARTED: Final = frozenset({"created", "configured", "initialized"})  # the last two are Podman's
"""A container is started right after it is created, so the start of one that is found in such a state has failed."""
ENDED_STATES: Final = _NEVER_STARTED | {"exited", "stopped", "dead", "removing"}
"""`stopped` is Podman's. A container in a state that is not listed here counts as running, and its lease shows whether
it is well: what counts as ended is removed, and nobody may remove a healthy instance for a word."""
_SIGNAL_BASE: Final = 128
_KILLED: Final = _SIGNAL_BASE + 9
_NO_MEMORY: Final = "out of memory (docker.memory_mb)"
_MAX_DIGITS: Final = 16  # of a generation
_LABEL: Final = "cellrouter."

Key = tuple[str, int]  # cell, generation


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """Where the Docker engine is, and how it shall run workers."""

    engine_url: str
    image: str
    network: str
    prefix: str  # begins the names of this installation; containers with another prefix are left alone
    environment: str  # live, stress, …
    variables: Mapping[str, str]  # a worker's environment, without what names its cell
    labels: Mapping[str, str]  # further labels, for those who manage this installation
    memory_mb: int  # MiB, of a worker
    cpus: float  # of a worker
    pids: int  # processes and threads of a worker
    stop_grace_s: int  # between SIGTERM and SIGKILL
    secret_of: Callable[[str], str]  # a cell's own secret, which its next instance gets
    tls: TlsFolders | None = None  # of workers that are reached by TLS; on the engine's machine

    def own_labels(self) -> dict[str, str]:
        """Return the labels by which this installation's containers are found."""
        return {f"{_LABEL}prefix": self.prefix, f"{_LABEL}environment": self.environment}


def container_name(config: DockerConfig, cell_id: str) -> str:
    """Return the name of a cell's volume, with which its containers' names begin."""
    return f"{config.prefix}-{config.environment}-{cell_id}"


def volume_config(config: DockerConfig, cell_id: str) -> dict[str, Any]:
    """Return the body of POST /volumes/create for a cell's volume, which outlives its instances."""
    return {
        "Name": container_name(config, cell_id),
        "Labels": {**config.labels, **config.own_labels(), f"{_LABEL}cell": cell_id},
    }


def container_config(config: DockerConfig, cell_id: str, generation: int) -> dict[str, Any]:
    """Return the body of POST /containers/create for one instance."""
    host = f"{cell_id}-g{generation}"
    variables = {
        **config.variables,
        "CELL_SECRET": config.secret_of(cell_id),
        "CELL_ID": cell_id,
        "CELL_GENERATION": str(generation),
        "CELL_DATA_DIR": DATA_DIR,
        "CELL_HOST": "::",  # every address of the container in its network, of IPv4 and IPv6
        "CELL_PORT": str(PORT),
        "CELL_ADVERTISE": host,  # the container resolves it to its own address
        **(config.tls.variables(TLS_DIR) if config.tls is not None else {}),
    }
    return {
        "Image": config.image,
        "Cmd": ["cell-worker"],
        "Env": [f"{name}={value}" for name, value in variables.items()],
        "Hostname": host,
        "User": USER,
        "Labels": {
            **config.labels,
            **config.own_labels(),
            f"{_LABEL}cell": cell_id,
            f"{_LABEL}generation": str(generation),
            f"{_LABEL}image": config.image,  # the engine lists only an id once the name stands for another image
        },
        # The image's own check speaks no TLS. The controller knows more of a cell than it would say.
        **({"Healthcheck": {"Test": ["NONE"]}} if config.tls is not None else {}),
        "StopSignal": "SIGTERM",
        "StopTimeout": config.stop_grace_s,
        "HostConfig": _host_config(config, cell_id),
    }


def _host_config(config: DockerConfig, cell_id: str) -> dict[str, Any]:
    memory = config.memory_mb * 1024 * 1024
    mounts: list[dict[str, Any]] = [{"Type": "volume", "Source": container_name(config, cell_id), "Target": DATA_DIR}]
    if config.tls is not None:
        source, target = str(config.tls.of(cell_id)), str(TLS_DIR)
        mounts.append({"Type": "bind", "Source": source, "Target": target, "ReadOnly": True})
    return {
        "NetworkMode": config.network,
        "Mounts": mounts,
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": TMP_OPTIONS},  # noqa: S108 - inside the container
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "Memory": memory,
        "MemorySwap": memory,  # memory and swap together: so there is no swap
        "NanoCpus": round(config.cpus * 1e9),
        "PidsLimit": config.pids,
        "LogConfig": LOG,
        "RestartPolicy": {"Name": "no"},  # a generation runs once; the controller launches the next one
    }


class _Version(msgspec.Struct):
    """What is read of an engine's GET /version."""

    ApiVersion: str
    MinAPIVersion: str | None = None


def why_too_old(said: Any) -> Reason | None:
    """Say why an engine is too old, by its GET /version; None when it is not. Raises ValueError."""
    newest = _numbers(msgspec.convert(said, _Version).ApiVersion)
    if newest >= OLDEST_API:
        return None
    return (
        f"the engine speaks only version {_text(newest)} of Docker's API, and {_text(OLDEST_API)} is needed: update "
        "it, to Docker 20.10 or Podman 4 at least"
    )


def version_to_speak(said: Any) -> str:
    """Return the version of the API to speak with an engine, as it stands in a path. Raises ValueError."""
    found = msgspec.convert(said, _Version)
    oldest = _numbers(found.MinAPIVersion) if found.MinAPIVersion else OLDEST_API
    return f"v{_text(max(oldest, min(WRITTEN_FOR_API, _numbers(found.ApiVersion))))}"


def _numbers(version: str) -> tuple[int, int]:
    found = _API_VERSION.fullmatch(version)
    if found is None:
        raise ValueError(f"{version!r:.40} is no version of an API")
    return int(found[1]), int(found[2])


def _text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


class _NetworkEnd(msgspec.Struct):
    """Where a listed container is in one network."""

    IPAddress: str | None = None
    GlobalIPv6Address: str | None = None


class _Networks(msgspec.Struct):
    """The networks of a listed container, by name."""

    Networks: dict[str, _NetworkEnd | None] | None = None


class _ListedContainer(msgspec.Struct):
    """What is read of a container in the engine's list."""

    Labels: dict[str, str]
    State: str
    NetworkSettings: _Networks | None = None


class _EndedState(msgspec.Struct):
    """What is read of the state of an inspected container."""

    Status: str = ""
    ExitCode: int = 0
    Error: str = ""
    OOMKilled: bool = False


def is_ours(found: Any) -> bool:
    """Return whether a listed container can be read, and its labels say which instance it is."""
    try:
        labels = msgspec.convert(found, _ListedContainer).Labels
    except (ValueError, RecursionError):
        return False
    generation = labels.get(f"{_LABEL}generation", "")
    return f"{_LABEL}cell" in labels and generation.isdecimal() and len(generation) <= _MAX_DIGITS


def key_of(found: Mapping[str, Any]) -> Key:
    """Return cell and generation of a listed container."""
    return found["Labels"][f"{_LABEL}cell"], int(found["Labels"][f"{_LABEL}generation"])


def image_of(found: Mapping[str, Any]) -> str:
    """Return the image that a listed container was launched with; empty for one of an older version of cellrouter."""
    return str(found["Labels"].get(f"{_LABEL}image", ""))


def address_of(found: Mapping[str, Any], network: str) -> str:
    """Return the host:port of a listed container; empty while it is in no network."""
    ends = (found.get("NetworkSettings") or {}).get("Networks") or {}
    end = ends.get(network) or {}
    if end.get("IPAddress"):
        return f"{end['IPAddress']}:{PORT}"
    return f"[{end['GlobalIPv6Address']}]:{PORT}" if end.get("GlobalIPv6Address") else ""


def how_it_ended(inspected: Any) -> str:
    """Say in words how a container ended, by its inspected state."""
    try:
        state = msgspec.convert(inspected, _EndedState)
    except (ValueError, RecursionError):
        return "ended; the engine's answer can't be read"
    code, error = state.ExitCode, state.Error
    if state.Status in _NEVER_STARTED:
        how = "was never started"
    elif state.OOMKilled and code == _KILLED:
        how = f"killed: {_NO_MEMORY}"
    else:
        how = f"killed by signal {code - _SIGNAL_BASE}" if code > _SIGNAL_BASE else f"exit code {code}"
        if state.OOMKilled:  # the engine sets it also when it has killed a process that the worker had started
            how = f"{how}; a process beside the worker was killed: {_NO_MEMORY}"
    return f"{how} ({error})" if error else how
