"""Where a process runs, as AWS tells it: its region, and on ECS its task, zone and address.

A part of the wire contract. What the metadata endpoint says is read strictly and under limits, once at the start. A
process that gets nothing from it goes on without: nothing that it does depends on it, but where it is reached.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import msgspec
import structlog

from cell_worker.contract.strict_reader import StrictReader, Unreadable

METADATA_VARIABLE: Final = "ECS_CONTAINER_METADATA_URI_V4"
"""ECS sets it in each container of a task."""
REGION_VARIABLES: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")
"""The first that is set names the region. ECS and Lambda set the first, and botocore alone heeds the second only."""
TIMEOUT_S: Final = 3.0
"""How long the metadata endpoint may take, all in all."""
_ZONE: Final = re.compile(r"[a-z0-9-]{1,40}")
_TASK: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_SPARED: Final = (
    "localhost",
    "127.0.0.1",
    "::1",
    "[::1]",
    "169.254.170.2",
    "169.254.170.23",
    "169.254.169.254",
    "fd00:ec2::254",
    "[fd00:ec2::254]",
    "fd00:ec2::23",
    "[fd00:ec2::23]",
)
"""Hosts that no proxy can reach for us: this machine's own, and where AWS gives out credentials and metadata."""


class _TaskNetwork(msgspec.Struct, frozen=True):
    addresses4: tuple[str, ...] = msgspec.field(default=(), name="IPv4Addresses")
    addresses6: tuple[str, ...] = msgspec.field(default=(), name="IPv6Addresses")


class _TaskContainer(msgspec.Struct, frozen=True):
    networks: tuple[_TaskNetwork, ...] = msgspec.field(default=(), name="Networks")


class _TaskMetadata(msgspec.Struct, frozen=True):
    """What is used of a task's metadata, version 4."""

    arn: str = msgspec.field(default="", name="TaskARN")
    zone: str = msgspec.field(default="", name="AvailabilityZone")
    containers: tuple[_TaskContainer, ...] = msgspec.field(default=(), name="Containers")


METADATA: Final = StrictReader[_TaskMetadata]("task's metadata", _TaskMetadata, 256 * 1024)


@dataclass(frozen=True, slots=True)
class Place:
    """Where this process runs, as far as ECS has said; each is empty where it has not."""

    task: str = ""  # the task's id
    zone: str = ""  # its availability zone
    address: str = ""  # its IP address, which all its containers share


def region_in(environ: Mapping[str, str]) -> str:
    """Return the region that the environment names; empty where it names none."""
    return next((environ[name] for name in REGION_VARIABLES if environ.get(name)), "")


async def place_of(environ: Mapping[str, str]) -> Place:
    """Ask the task's metadata where this process runs. Never raises: without an answer the place is not known."""
    base = environ.get(METADATA_VARIABLE, "")
    if not base:
        return Place()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            found = place_in(await _fetched(f"{base}/task"))
    except (OSError, ValueError, EOFError, TimeoutError) as error:
        found = Unreadable(f"{type(error).__name__}: {error!s:.200}")
    if isinstance(found, Unreadable):
        log = structlog.get_logger("place")
        log.warning("goes on without zone and task: the task's metadata can't be read", why=found.why)
        return Place()
    return found


def place_in(raw: bytes) -> Place | Unreadable:
    """Read a task's metadata; what is not written as it should be counts as not said."""
    said = METADATA.read(raw)
    if isinstance(said, Unreadable):
        return said
    networks = [network for container in said.containers for network in container.networks]
    addresses = [*(a for n in networks for a in n.addresses4), *(a for n in networks for a in n.addresses6)]
    task = said.arn.rpartition("/")[2]
    return Place(
        task if _TASK.fullmatch(task) else "",
        said.zone if _ZONE.fullmatch(said.zone) else "",
        next((address for address in addresses if _is_address(address)), ""),
    )


def without_local_proxies(environ: Mapping[str, str], endpoint_url: str | None = None) -> dict[str, str]:
    """Return the variables by which no proxy is asked for this machine, AWS' own addresses, or a compose network.

    A host of an endpoint that has no dot in its name is a container's: no proxy knows it.
    """
    endpoints = [url for name, url in environ.items() if name.startswith("AWS_ENDPOINT_URL")]
    hosts = [_host_in(url) for url in (*endpoints, endpoint_url or "")]
    given = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if given.strip() == "*":
        return {}
    spared = dict.fromkeys([*filter(None, given.split(",")), *_SPARED, *(h for h in hosts if h and "." not in h)])
    return {"no_proxy": ",".join(spared), "NO_PROXY": ",".join(spared)}


async def _fetched(url: str) -> bytes:
    """GET one small answer by HTTP/1.0: no proxy, no redirect. Raises OSError and ValueError."""
    place = urlsplit(url)
    if place.scheme != "http" or not place.hostname:
        raise ValueError("its address is none of http://")
    reader, writer = await asyncio.open_connection(place.hostname, place.port or 80, limit=METADATA.max_bytes)
    try:
        writer.write(f"GET {place.path} HTTP/1.0\r\nHost: {place.netloc}\r\nAccept: application/json\r\n\r\n".encode())
        head, _, body = (await _until_end(reader)).partition(b"\r\n\r\n")
    finally:
        writer.close()
    status = head.split(b"\r\n", 1)[0].split(b" ")
    if len(status) < 2 or status[1] != b"200":  # noqa: PLR2004 - version and code
        raise ValueError(f"it answers {b' '.join(status)[:60]!r}")
    return body


async def _until_end(reader: asyncio.StreamReader) -> bytes:
    chunks: list[bytes] = []
    left = METADATA.max_bytes + 4096  # of the head
    while left > 0 and (chunk := await reader.read(left)):
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)


def _is_address(text: str) -> bool:
    try:
        return str(ip_address(text)) == text
    except ValueError:
        return False


def _host_in(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
