"""What ECS means when it starts no task, or ends one: the kind of trouble, whether it passes, and what to do. Pure.

ECS says the same trouble in many ways: as the code of an error, as a reason in `failures[]` of an answer that looks
well, or as the stopped reason of a task that never ran. Each is told by its words, which stay in the text for people.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Trouble(StrEnum):
    """Why ECS starts no task, or why a task has ended or is about to."""

    CAPACITY = "no capacity"
    QUOTA = "quota"
    THROTTLED = "throttled"
    DENIED = "denied"
    ROLE = "role"
    CLUSTER = "cluster"
    DEFINITION = "task definition"
    NETWORK = "network"
    IMAGE = "image"
    SECRETS = "secrets"
    MEMORY = "memory"
    START = "start"
    EXITED = "exited"
    SPOT = "spot"
    MAINTENANCE = "maintenance"
    ASKED = "asked"
    AWS = "aws"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a kind of trouble means, and what is to be done about it."""

    text: str  # what it means, and what to do
    passes: bool  # by itself, or with the next task: so it is tried again without a person


MEANINGS: Final[Mapping[Trouble, Meaning]] = {
    Trouble.CAPACITY: Meaning(
        "Fargate has no room for it in these zones now: it is tried again; subnets in more zones (ecs.subnets), or "
        "FARGATE instead of FARGATE_SPOT, help",
        passes=True,
    ),
    Trouble.QUOTA: Meaning(
        "the account's quota is used up: have it raised (Service Quotas, Fargate vCPUs), or end tasks not needed",
        passes=False,
    ),
    Trouble.THROTTLED: Meaning("the account makes too many calls at once: it is tried again", passes=True),
    Trouble.DENIED: Meaning(
        "the controller's role may not do this: give it the permission that ECS names", passes=False
    ),
    Trouble.ROLE: Meaning(
        "the task's role or execution role is missing, or ECS may not take it on: update the cell's stack", passes=False
    ),
    Trouble.CLUSTER: Meaning("there is no such cluster in this region: see ecs.cluster and aws.region", passes=False),
    Trouble.DEFINITION: Meaning(
        "ECS does not take the cell's task definition or the request: update the cell's stack", passes=False
    ),
    Trouble.NETWORK: Meaning(
        "the task gets no network: see ecs.subnets (are addresses left?) and ecs.security_groups", passes=False
    ),
    Trouble.IMAGE: Meaning(
        "the image can't be pulled: does it exist, may the execution role read it, and do the subnets reach the "
        "registry?",
        passes=False,
    ),
    Trouble.SECRETS: Meaning(
        "what the task needs before it starts can't be had: its secret, its log group, or the way there; see the "
        "execution role and the VPC endpoints",
        passes=False,
    ),
    Trouble.MEMORY: Meaning("it used more memory than the task has: raise ecs.memory", passes=True),
    Trouble.START: Meaning("the container can't be started: see the image's command and user", passes=False),
    Trouble.EXITED: Meaning("the worker ended by itself: see its log", passes=True),
    Trouble.SPOT: Meaning("Fargate Spot wants the capacity back: another task takes its place", passes=True),
    Trouble.MAINTENANCE: Meaning("AWS retires what the task runs on: another task takes its place", passes=True),
    Trouble.ASKED: Meaning("somebody asked ECS to stop it", passes=True),
    Trouble.AWS: Meaning("the trouble is within AWS: it is tried again", passes=True),
    Trouble.UNKNOWN: Meaning("nothing is known of this trouble: see what ECS says", passes=True),
}

_SURE: Final = frozenset({Trouble.SPOT, Trouble.MAINTENANCE, Trouble.DENIED, Trouble.ASKED})
"""What a code says so clearly that no words count: those may be anybody's, or name what is denied."""

_CODES: Final[Mapping[str, Trouble]] = {  # of errors and of stopped tasks; what their words say counts first
    "AccessDeniedException": Trouble.DENIED,
    "UnrecognizedClientException": Trouble.DENIED,
    "ExpiredTokenException": Trouble.DENIED,
    "BlockedException": Trouble.DENIED,
    "ClusterNotFoundException": Trouble.CLUSTER,
    "ThrottlingException": Trouble.THROTTLED,
    "Throttling": Trouble.THROTTLED,
    "RequestLimitExceeded": Trouble.THROTTLED,
    "ServerException": Trouble.AWS,
    "InternalFailure": Trouble.AWS,
    "ServiceUnavailable": Trouble.AWS,
    "InvalidParameterException": Trouble.DEFINITION,
    "ClientException": Trouble.DEFINITION,
    "PlatformUnknownException": Trouble.DEFINITION,
    "PlatformTaskDefinitionIncompatibilityException": Trouble.DEFINITION,
    "UnsupportedFeatureException": Trouble.DEFINITION,
    "SpotInterruption": Trouble.SPOT,
    "TerminationNotice": Trouble.MAINTENANCE,
    "InfrastructureHealth": Trouble.MAINTENANCE,
    "UserInitiated": Trouble.ASKED,
    "EssentialContainerExited": Trouble.EXITED,
}

_WORDS: Final = tuple(  # the first that is found in what ECS says decides
    (re.compile(pattern, re.IGNORECASE), trouble)
    for pattern, trouble in (
        (r"capacity is unavailable|^RESOURCE:|no container instances|insufficient capacity", Trouble.CAPACITY),
        (r"limit on the number of|quota|above your limit|limit exceeded", Trouble.QUOTA),
        (r"rate exceeded|throttl|too many concurrent", Trouble.THROTTLED),
        (r"spot task was interrupted|spot interruption", Trouble.SPOT),
        (r"performing maintenance|scheduled for retirement|infrastructure hosting the task", Trouble.MAINTENANCE),
        (r"CannotPull|pull ?image|pull access denied|manifest (unknown|for)|image .*not (found|exist)", Trouble.IMAGE),
        (r"OutOfMemory|out of memory|\bOOM", Trouble.MEMORY),
        (r"ResourceInitializationError|unable to pull secrets", Trouble.SECRETS),
        (r"unable to assume|role .*(not valid|invalid|does not exist)", Trouble.ROLE),
        (r"is not authorized to perform", Trouble.DENIED),
        (r"network interface|subnet|security group|\bENI\b", Trouble.NETWORK),
        (r"CannotStartContainer|CannotCreateContainer|runtime ?error", Trouble.START),
        (r"^AGENT$|InternalError|unexpected EC2 error|timed? ?out", Trouble.AWS),
        (r"^(MISSING|INACTIVE|ATTRIBUTE)$", Trouble.DEFINITION),
    )
)


def trouble(code: str, words: str) -> Trouble:
    """Tell the trouble by an error's code (or a task's stop code) and by ECS' own words, which say more."""
    by_code = _CODES.get(code, Trouble.UNKNOWN)
    if by_code in _SURE:
        return by_code
    return next((kind for pattern, kind in _WORDS if pattern.search(words)), by_code)


def described(code: str, words: str) -> str:
    """Say what a trouble means, whether it passes and what to do, with ECS' own words."""
    kind = trouble(code, words)
    meaning = MEANINGS[kind]
    passes = "may pass" if meaning.passes else "needs a person"
    said = ": ".join(filter(None, [code, words])) or "nothing"
    return f"{kind}, which {passes}: {meaning.text} (ECS says: {said})"
