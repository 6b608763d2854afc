"""How a queue is named: by its name, or by its URL or ARN, also one of another account or region. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from router.core.models import Reason

FIFO: Final = ".fifo"
_ASIDE: Final = f"-aside{FIFO}"
_ASIDE_CHARS: Final = 80 - len(_ASIDE)  # of the source's name: a queue's name has 80 at most
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,75}(\.fifo)?|[A-Za-z0-9_-]{76,80}")
_ARN: Final = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):sqs:(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12}):(?P<name>.+)"
)
_REGION: Final = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}")
_ACCOUNT: Final = re.compile(r"[0-9]{12}")
_OLDEST: Final = ("queue.amazonaws.com", "us-east-1")  # the one host of SQS that names no region
_PARTITIONS: Final = {"cn-": "aws-cn", "us-gov-": "aws-us-gov", "eusc-": "aws-eusc"}  # by how their regions begin
_WORDS: Final = "letters, digits, hyphens and underscores, at most 80"


@dataclass(frozen=True, slots=True)
class QueueName:
    """What the text by which a queue is named says; empty where it says nothing."""

    text: str
    name: str
    account: str = ""
    region: str = ""
    url: str = ""
    partition: str = ""

    @property
    def fifo(self) -> bool:
        """Whether it is a FIFO queue."""
        return self.name.endswith(FIFO)

    @property
    def is_plain(self) -> bool:
        """Whether it is named by its name alone, and so is in our own account and region."""
        return self.text == self.name


def queue_name(text: str) -> QueueName:
    """Read the text by which a queue is named. What is neither a URL nor an ARN is taken for a name."""
    if (found := _ARN.fullmatch(text)) is not None:
        return QueueName(text, **found.groupdict())
    if not text.startswith(("http://", "https://")):
        return QueueName(text, text)
    try:
        host, path = urlsplit(text).hostname or "", urlsplit(text).path.lstrip("/").split("/")
    except ValueError:
        return QueueName(text, text)
    account = path[-2] if len(path) > 1 and _ACCOUNT.fullmatch(path[-2]) else ""
    named = (part for part in (*host.split("."), *path[:-1]) if _REGION.fullmatch(part))
    region = next(named, _OLDEST[1] if host == _OLDEST[0] else "")
    return QueueName(text, path[-1], account, region, text)


def aside_queue(source: str) -> str:
    """Return the name of a FIFO source's aside queue, which is our own whoever has the source; empty for another."""
    queue = queue_name(source)
    return f"{queue.name.removesuffix(FIFO)[:_ASIDE_CHARS]}{_ASIDE}" if queue.fifo else ""


def why_no_queue(text: str, *, may_be_fifo: bool) -> Reason | None:
    """Say why no queue can be named so. None when one can."""
    queue = queue_name(text)
    if text.startswith("arn:") and queue.is_plain:
        return "is no ARN of a queue, as arn:aws:sqs:eu-west-1:123456789012:events"
    if "://" in text and (queue.is_plain or not queue.account or set("@?#") & set(text)):
        return "is no URL of a queue, as https://sqs.eu-west-1.amazonaws.com/123456789012/events"
    if queue.partition and queue.partition != _partition_of(queue.region):
        return f"is an ARN that contradicts itself: {queue.region} is no region of {queue.partition}"
    if not _NAME.fullmatch(queue.name):
        fifo = ", with .fifo at the end for a FIFO queue" if may_be_fifo else ""
        return f"must be {_WORDS}{fifo}; or a queue's URL or its ARN"
    return "must be a standard queue: events wait here that are in no order" if queue.fifo and not may_be_fifo else None


def why_out_of_reach(text: str, region: str) -> Reason | None:
    """Say why who has credentials for this region can't use the queue. None when that may be possible."""
    queue = queue_name(text)
    if not queue.region or _partition_of(queue.region) == _partition_of(region):
        return None
    return (
        f"is in {queue.region}, and aws.region is {region}: no credentials are valid in both, so put routers there, or "
        "have its events sent to a queue here"
    )


def _partition_of(region: str) -> str:
    region = region.removeprefix("fips-")  # as botocore lets regions be called
    return next((name for start, name in _PARTITIONS.items() if region.startswith(start)), "aws")
