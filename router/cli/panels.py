"""Every command of the command line: where it is, what it does in a line, and how the help orders them.

A command's module is imported when the command is called, and not before: so `--help` and `version` begin at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from importlib import import_module
from typing import Any, Final, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_group


class Panel(StrEnum):
    """A group of commands in the help, in its order there."""

    RUN = "Run"
    LOOK = "Look"
    CHANGE = "Change"
    REPAIR = "Repair"
    SET_UP = "Set up"


class Listed(NamedTuple):
    """A command as the help lists it."""

    name: str
    place: str  # module:name below router.cli, of a function or of a group of commands
    about: str  # so short that it has a line for itself where there are 80 columns


LISTED: Final[Mapping[Panel, tuple[Listed, ...]]] = {
    Panel.RUN: (
        Listed("dev", "development.dev:dev", "Run your handler on this machine, in cells of its own."),
        Listed("send", "development.send:send", "Send events to the source queue."),
        Listed("stress", "development.stress:stress", "Send a load, and report how long events take."),
        Listed("router", "processes:router", "Run a router: the data plane."),
        Listed("controller", "processes:controller", "Run a controller, which launches and replaces cells."),
        Listed("demo", "development.demo:app", "Run the main job on this machine, with two faults."),
        Listed("shop", "development.shop:app", "Serve the shop, and ask for its sales by SQL."),
    ),
    Panel.LOOK: (
        Listed("cells", "look.status:cells", "Show how all cells are."),
        Listed("watch", "look.status:watch", "Show the same live, until Ctrl-C."),
        Listed("explain", "explain:explain", "Show why a cell is treated as it is."),
        Listed("where", "look.where:where", "Show where a key's events go."),
        Listed("audit", "look.audit:audit", "Show what was done lately, by whom and why."),
        Listed("policy", "policy:policy", "Show what is decided about keys and cells, and was."),
        Listed("blast-radius", "look.blast_radius:blast_radius", "Show what each cell or zone would take with it."),
        Listed("secrets", "secrets:secrets", "Show which of the secrets are in use."),
        Listed("tail", "development.tail:tail", "Show what cells emit."),
    ),
    Panel.CHANGE: (
        Listed("plan", "policy:plan", "Show what a change would move, before it is made."),
        Listed("apply", "policy:apply", "Change what is decided about keys and cells."),
        Listed("undo", "change.undo:undo", "Take back the last change that a person made."),
        Listed("scale", "change.scale:scale", "Add cells or take some away, and follow it."),
        Listed("deploy", "deploy:app", "Bring a new image to cells, or to routers."),
    ),
    Panel.REPAIR: (
        Listed("freeze", "cells:freeze", "Have automation leave a cell's instance as it is."),
        Listed("unfreeze", "cells:unfreeze", "Give a frozen cell back to automation."),
        Listed("eject", "cells:eject", "Send a cell no events until it is readmitted."),
        Listed("readmit", "cells:readmit", "Send an ejected cell its events again."),
        Listed("evict", "cells:evict", "End a cell's instance now, and launch another."),
        Listed("replace", "cells:replace", "Launch another instance first, then let it take over."),
        Listed("dlq", "dlq:app", "Look at dead letters, send them back, delete them."),
        Listed("replay", "change.replay:replay", "Send archived events elsewhere, and compare."),
        Listed("shadow", "change.shadow:shadow", "Mirror a share of the events elsewhere, and compare."),
        Listed("doctor", "setup.doctor:doctor", "Find what is wrong here, and how to mend it."),
    ),
    Panel.SET_UP: (
        Listed("version", "setup.version:version", "Show which version this is, and of what it depends."),
        Listed("check-config", "setup.check_config:check_config", "Name every fault of the configuration at once."),
        Listed("init", "init:init", "Make the queues and the bucket that events need."),
        Listed("env", "setup.env:app", "Make, list and destroy environments."),
        Listed("new", "development.new:new", "Make a folder with a handler of your own."),
        Listed("chaos", "chaos:app", "Make a cell's instance fail on purpose, for a while."),
        Listed("drill", "change.drill:drill", "Make a cell fail, and judge whether the promises hold."),
        Listed("token", "secrets:token", "Make a token for the Admin API."),
        Listed("cell-secret", "secrets:cell_secret", "Print the secret of one cell."),
        Listed("destroy", "destroy:destroy", "Delete the environment in AWS."),
    ),
}
"""All commands, in the order of the help."""
_PLACES: Final = {listed.name: listed.place for part in LISTED.values() for listed in part}


class PanelGroup(TyperGroup):
    """A group whose help lists its commands by panels, and that imports a command when it is called."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands: Any = dict.fromkeys(_PLACES)  # None: not imported yet

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, and import it where that has not been done; None when there is no such command."""
        if cmd_name in _PLACES and self.commands[cmd_name] is None:
            self.commands[cmd_name] = _imported(cmd_name, _PLACES[cmd_name])
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - as click calls it
        """Write a section for each panel, with a line for each command."""
        for panel, part in LISTED.items():
            with formatter.section(panel.value):
                formatter.write_dl([(listed.name, listed.about) for listed in part])


def _imported(name: str, place: str) -> Any:
    """Import what is at this place, and make a command of it as typer does."""
    module, _, attribute = place.partition(":")
    found, holder = getattr(import_module(f"router.cli.{module}"), attribute), typer.Typer(rich_markup_mode=None)
    if isinstance(found, typer.Typer):
        holder.add_typer(found, name=name)
    else:
        holder.command(name)(found)
    return get_group(holder).commands[name]
