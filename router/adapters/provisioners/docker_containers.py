"""What a worker's container is: how it is asked for, and how an engine's answer is read. No calls are made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

DEFAULT_ENGINE_URL: Final = "unix:///var/run/docker.sock"
PORT: Final = 8080
DATA_DIR: Final = "/var/lib/cellrouter"
USER: Final = "10001:10001"  # the image's own; given again, so that no other image runs as root
TMP_OPTIONS: Final = "rw,noexec,nosuid,nodev,size=64m"
ENDED_STATES: Final = frozenset({"created", "exited", "dead", "removing"})
"""`created` too: who creates one starts it at once, so this one's start failed."""
MAX_WORDS: Final = 2000
_SIGNAL_BASE: Final = 128
_LABEL: Final = "cellrouter."

Key = tuple[str, int]  # cell, generation


@dataclass(frozen=True, slots=True)
class DockerConfig:
    """Where the engine is, and how workers are started on it."""

    engine_url: str
    image: str
    network: str
    prefix: str  # of this installation: begins its names, and no container of another prefix is touched
    environment: str  # live, stress, …
    variables: Mapping[str, str]  # a worker's whole environment, less what names its cell
    labels: Mapping[str, str]  # that whoever manages this installation knows its parts by
    memory_mb: int
    cpus: float
    pids: int
    stop_grace_s: int

    def own_labels(self) -> dict[str, str]:
        """By which our containers are found."""
        return {f"{_LABEL}prefix": self.prefix, f"{_LABEL}environment": self.environment}


def container_name(config: DockerConfig, cell_id: str) -> str:
    """What names of the cell begin with; the name of its volume."""
    return f"{config.prefix}-{config.environment}-{cell_id}"


def volume_config(config: DockerConfig, cell_id: str) -> dict[str, Any]:
    """The cell's volume, which outlives its instances."""
    return {
        "Name": container_name(config, cell_id),
        "Labels": {**config.labels, **config.own_labels(), f"{_LABEL}cell": cell_id},
    }


def container_config(config: DockerConfig, cell_id: str, generation: int) -> dict[str, Any]:
    """The body of POST /containers/create."""
    host = f"{cell_id}-g{generation}"
    variables = {
        **config.variables,
        "CELL_ID": cell_id,
        "CELL_GENERATION": str(generation),
        "CELL_DATA_DIR": DATA_DIR,
        "CELL_HOST": "0.0.0.0",  # noqa: S104 - of a network of its own
        "CELL_PORT": str(PORT),
        "CELL_ADVERTISE": host,  # which the container resolves to its own address
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
        },
        "StopSignal": "SIGTERM",
        "StopTimeout": config.stop_grace_s,
        "HostConfig": _host_config(config, cell_id),
    }


def _host_config(config: DockerConfig, cell_id: str) -> dict[str, Any]:
    memory = config.memory_mb * 1024 * 1024
    return {
        "NetworkMode": config.network,
        "Mounts": [{"Type": "volume", "Source": container_name(config, cell_id), "Target": DATA_DIR}],
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": TMP_OPTIONS},  # noqa: S108 - in the container
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "Memory": memory,
        "MemorySwap": memory,  # both together: no swap
        "NanoCpus": round(config.cpus * 1e9),
        "PidsLimit": config.pids,
        "RestartPolicy": {"Name": "no"},  # a generation runs once; the controller launches the next one
    }


def is_ours(found: Mapping[str, Any]) -> bool:
    """Whether a listed container says which instance it is."""
    labels = found["Labels"]
    return f"{_LABEL}cell" in labels and labels.get(f"{_LABEL}generation", "").isdecimal()


def key_of(found: Mapping[str, Any]) -> Key:
    """Which instance a listed container is."""
    return found["Labels"][f"{_LABEL}cell"], int(found["Labels"][f"{_LABEL}generation"])


def address_of(found: Mapping[str, Any], network: str) -> str:
    """Where the engine has put a listed container; empty while it is in no network."""
    ends = found.get("NetworkSettings", {}).get("Networks", {})
    end = ends.get(network) or {}
    if end.get("IPAddress"):
        return f"{end['IPAddress']}:{PORT}"
    return f"[{end['GlobalIPv6Address']}]:{PORT}" if end.get("GlobalIPv6Address") else ""


def how_it_ended(state: Mapping[str, Any]) -> str:
    """An inspected container's end, in words."""
    code, error = state.get("ExitCode", 0), state.get("Error", "")
    if state.get("Status") == "created":
        how = "was never started"
    elif state.get("OOMKilled"):
        how = "killed: out of memory (docker.memory_mb)"
    else:
        how = f"killed by signal {code - _SIGNAL_BASE}" if code > _SIGNAL_BASE else f"exit code {code}"
    return f"{how} ({error})" if error else how


def last_words(lines: Sequence[str]) -> str:
    """The end of a log, to be put behind how the container ended: its last lines, as many as fit, one at least."""
    text = "".join(lines).strip()
    if len(text) > MAX_WORDS:
        text = text[-MAX_WORDS:].partition("\n")[2] or text[-MAX_WORDS:]
    return f"; its last words:\n{text}" if text else ""
