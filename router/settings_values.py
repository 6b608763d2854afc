"""The kinds of values that settings have. What is wrong with one is said without showing it: it may be a password."""

from __future__ import annotations

import re
from functools import partial
from ipaddress import ip_network
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from cell_worker.contract.addresses import why_no_redis_url
from router.core.errors import ConfigError
from router.core.intake.emitted import why_no_path
from router.core.queue_names import why_no_queue


def _jmespath(text: str) -> str:
    if text:
        from router.core.messages.parser import compile_path  # noqa: PLC0415 - who sets none starts without it

        try:
            compile_path(text)
        except ConfigError as error:
            raise ValueError("is no JMESPath expression, or its regex is none") from error
    return text


def _networks(text: str) -> str:
    for part in text.split(","):
        try:
            ip_network(part.strip())
        except ValueError as error:
            raise ValueError("must be networks as 10.0.0.0/8, separated by commas") from error
    return text


def _of_redis(url: str) -> str:
    if (why := why_no_redis_url(url)) is not None:
        raise ValueError(why)
    return url


def _of_queue(text: str, *, may_be_fifo: bool) -> str:
    if (why := why_no_queue(text, may_be_fifo=may_be_fifo)) is not None:
        raise ValueError(why)
    return text


def _of_folders(text: str) -> str:
    if (why := why_no_path(text)) is not None:
        raise ValueError(why)
    return text


def _matching(pattern: str, words: str) -> AfterValidator:
    def validate(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {words}")
        return text

    return AfterValidator(validate)


NAME: Final = r"[a-z0-9][a-z0-9-]{0,39}"
NAME_WORDS: Final = "lower-case letters, digits and hyphens, at most 40"
"""What the names of environments and cells are, as a pattern and in words."""
Name = Annotated[str, _matching(NAME, NAME_WORDS)]
QueueText = Annotated[str, AfterValidator(partial(_of_queue, may_be_fifo=False))]
BucketName = Annotated[str, _matching(r"([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])?", "a bucket's name, or empty")]
SourceText = Annotated[str, AfterValidator(partial(_of_queue, may_be_fifo=True))]
HttpUrl = Annotated[str, _matching(r"https?://[^@\s]+", "an http:// or https:// address, without a user or password")]
IssuerUrl = Annotated[
    str,
    _matching(
        r"(https://[^@\s?#]{1,500}|http://(localhost|127\.0\.0\.1)(:\d{1,5})?(/[^@\s?#]{0,200})?)?",
        "an https:// address, without a user or password",
    ),
]
Region = Annotated[str, _matching(r"[a-z0-9-]{1,40}", "a region's name, as eu-west-1")]
RedisUrl = Annotated[str, AfterValidator(_of_redis)]
HostNames = Annotated[str, _matching(r"([\w.-]+(,\s*[\w.-]+)*)?", "names of hosts, separated by commas, without ports")]
HandlerName = Annotated[str, _matching(r"[\w.]+:\w+", "package.module:name")]
TableName = Annotated[
    str, _matching(r"([a-z0-9][a-z0-9-]{0,19})?", "lower-case letters, digits and hyphens, at most 20, or empty")
]
EmittedFolders = Annotated[str, AfterValidator(_of_folders)]
Networks = Annotated[str, AfterValidator(_networks)]
ClusterName = Annotated[
    str,
    _matching(
        r"([A-Za-z0-9_-]{1,255}|arn:[a-z-]+:ecs:[a-z0-9-]+:[0-9]{12}:cluster/[A-Za-z0-9_-]{1,255})?",
        "a cluster's name or its ARN",
    ),
]
RoleArn = Annotated[
    str, _matching(r"(arn:[a-z-]+:iam::[0-9]{12}:role/[\w+=,.@/-]{1,128})?", "the ARN of a role, or empty")
]
Subnets = Annotated[
    str,
    _matching(
        r"(subnet-[0-9a-f]{8,17}(,\s*subnet-[0-9a-f]{8,17}){0,15})?", "up to 16 ids as subnet-0123abcd, with commas"
    ),
]
SecurityGroups = Annotated[
    str, _matching(r"(sg-[0-9a-f]{8,17}(,\s*sg-[0-9a-f]{8,17}){0,4})?", "up to 5 ids as sg-0123abcd, with commas")
]
Parameters = Annotated[
    str, _matching(r"([A-Za-z0-9]+=[^;]*(;[A-Za-z0-9]+=[^;]*)*)?", "Name=value, separated by semicolons")
]
Labels = Annotated[str, _matching(r"([^,=]+=[^,]*(,[^,=]+=[^,]*)*)?", "name=value, separated by commas")]
JmesPath = Annotated[str, AfterValidator(_jmespath)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
Port = Annotated[int, Field(ge=0, le=65535)]
