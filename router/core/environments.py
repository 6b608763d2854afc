"""What tells one environment from another: the names of what it owns, and how the usual ones are configured. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from router.core.models import Reason

LIVE: Final = "live"
"""The production environment: the only one where handlers may change things outside their cell."""
QUEUES: Final = {"queue": "events", "dead_letter_queue": "dead-letters", "quarantine_queue": "quarantine"}
"""The keys of the section `source` that name queues, each with how the name of the environment's own one ends."""
_PREFIX: Final = "cellrouter"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")  # as the settings take it


@dataclass(frozen=True, slots=True)
class Preset:
    """How an environment is configured where nobody says otherwise."""

    purpose: str
    side_effects: bool
    chaos: bool  # whether faults may be injected
    handler: str = ""  # of its cells where nobody names one; empty: the shipped workload


PRESETS: Final[Mapping[str, Preset]] = {
    LIVE: Preset("production: the real events, and the only one with side effects", side_effects=True, chaos=False),
    "stress": Preset(
        "load and injected faults", side_effects=False, chaos=True, handler="cell_worker.handlers.load:handle"
    ),
    "replay": Preset("old events once more, whose effects must not happen again", side_effects=False, chaos=False),
}
"""The environments that come configured."""
_OF_ONES_OWN: Final = Preset("an environment of your own", side_effects=False, chaos=True)


def preset(environment: str, like: str = "") -> Preset:
    """Return how an environment is configured: as its name says, else as that of `like`.

    Only `live` itself has side effects, whatever it is that a copy is like.
    """
    found = PRESETS.get(environment) or PRESETS.get(like) or _OF_ONES_OWN
    return found if environment == LIVE else replace(found, side_effects=False)


def own_queue(prefix: str, environment: str, ending: str) -> str:
    """Return the name of an environment's own queue; those of `live` are named without it, as ever."""
    return f"{_PREFIX}-{ending}" if environment == LIVE else f"{prefix}-{environment}-{ending}"


def own_folder(environment: str) -> str:
    """Return the name of the folder that an environment's cells have on this machine."""
    return "cellrouter-data" if environment == LIVE else f"cellrouter-data-{environment}"


def with_own_names(document: Mapping[str, Any]) -> dict[str, Any]:
    """Fill what the settings name nowhere, queues and the cells' folder, with names that are the environment's own.

    What is no name or no section is left as it is: whoever reads the settings says so.
    """
    aws = document.get("aws", {})
    prefix = aws.get("prefix", _PREFIX) if isinstance(aws, Mapping) else _PREFIX
    environment = document.get("environment", LIVE)
    if environment == LIVE or not (_is_name(environment) and _is_name(prefix)):
        return dict(document)
    own = {key: own_queue(prefix, environment, ending) for key, ending in QUEUES.items()}
    filled = {"source": own, "cells": {"data_dir": own_folder(environment)}}
    sections = {name: document.get(name, {}) for name in filled}
    return {
        **document,
        **{name: {**filled[name], **found} for name, found in sections.items() if isinstance(found, Mapping)},
    }


def _is_name(found: object) -> bool:
    return isinstance(found, str) and _NAME.fullmatch(found) is not None


def why_no_side_effects(environment: str, *, wanted: bool) -> Reason | None:
    """Say why handlers may not change things outside their cell; None when they may, or shall not anyway."""
    if not wanted or environment == LIVE:
        return None
    return f"must be false in the environment {environment}: only `{LIVE}` may change things outside the cells"


def why_foreign(owner: str, environment_tag: str) -> Reason | None:
    """Say why a resource with this tag is another environment's; None when it is ours, or nobody's that we know."""
    if not owner or owner == environment_tag:
        return None
    return f"it is of the environment {owner}, and this one is {environment_tag}: nothing goes from one to another"


NOT_COPIED: Final = {
    "SideEffects": "false",
    "RemedyRole": "",
    "SourceBuckets": "",
    "SourceKeyArns": "",
    "RouterRedisUrl": "",
    "RouterRedisSecretArn": "",
    "ControllerRedisUrl": "",
    "ControllerRedisSecretArn": "",
    "CellRedisUrl": "",
    "CellRedisSecretArn": "",
}
"""What another environment's platform has for itself alone: its Redis, its sources, its rights to change things."""


def platform_parameters(of_like: Mapping[str, str], environment: str, given: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters of an environment's platform: as those of a like one, but for what is that one's own."""
    own = {name: value for name, value in NOT_COPIED.items() if name in of_like}
    return {**of_like, **own, **given, "Environment": environment}


def why_no_platform(of_like: Mapping[str, str], environment: str, given: Mapping[str, str]) -> Reason | None:
    """Say why an environment can't be made like another one in AWS; None when it can."""
    if unknown := sorted(given.keys() - of_like.keys()):
        return f"the platform has no parameter {', '.join(unknown)}"
    if given.get("Environment", environment) != environment:
        return "the environment's name is the command's argument; leave out the parameter Environment"
    if environment != LIVE and (given.get("SideEffects") == "true" or given.get("RemedyRole")):
        return f"only `{LIVE}` may change things outside the cells: leave out SideEffects and RemedyRole"
    if of_like.get("MakeEndpoints") == "true" and "VpcId" not in given:
        return (
            "the other environment has made the endpoints of its VPC, which let in its own tasks alone: give a VPC of "
            "its own, by --parameter VpcId=… VpcCidr=… Subnets=… RouteTables=…"
        )
    return None
