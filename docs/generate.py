"""Writes the parts of these pages that follow from the code, between a pair of marks in each: what script/docs runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from cell_worker.handlers.security.remedies import REMEDIES
from cell_worker.handlers.security.settings import SHIPPED_RULES
from cell_worker.handlers.security.sigma import load_rules
from cell_worker.settings import PREFIX, WorkerSettings
from docs import api, cloudformation, commands, costs, logs
from router.settings import Settings

DOCS: Final = Path(__file__).parent
BEGIN: Final = "<!-- script/docs writes the lines from here -->\n"
END: Final = "<!-- to here -->\n"
LEVELS: Final = ("critical", "high", "medium", "low", "informational")


def sections() -> dict[str, type[BaseModel]]:
    """Return the sections of the settings by their names in the TOML file."""
    kinds = {name: field.annotation for name, field in Settings.model_fields.items()}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, BaseModel)}


def settings_tables() -> str:
    """Describe every setting in Markdown: a heading and a table for each section."""
    top = {name: field for name, field in Settings.model_fields.items() if name not in sections()}
    tables = [_settings_table("No section", "Keys at the top of the file, above every section.", top)]
    tables += [_settings_table(f"[{name}]", kind.__doc__ or "", kind.model_fields) for name, kind in sections().items()]
    return "\n".join(tables)


def worker_variables() -> str:
    """List the variables of a worker in a Markdown table."""
    fields = WorkerSettings.model_fields.items()
    rows = ((f"`{PREFIX}{name.upper()}`", _default(field), field.description or "") for name, field in fields)
    return _table(("variable", "default", "what"), rows)


def rules_table() -> str:
    """List the shipped Sigma rules in a Markdown table, the gravest first."""
    loaded = load_rules(SHIPPED_RULES, remedies=REMEDIES.keys())
    rules = [each.rule for each in loaded.rules] + [rule for rule, _ in loaded.correlations]
    rules.sort(key=lambda rule: (LEVELS.index(rule.level), rule.title))
    rows = ((rule.title, rule.level, f"`{rule.remedy}`" if rule.remedy else "") for rule in rules)
    return _table(("title", "level", "remedy"), rows)


def rights() -> str:
    """List what every role may do, each right with its reason, in a Markdown table for each role."""
    return "\n".join(
        f"## {owner}\n\nOf `{name}.yaml`. {ABOUT_ROLES[owner]}\n\n{_rights_table(said)}"
        for name in cloudformation.NAMES
        for owner, said in groupby(cloudformation.statements(name), lambda each: each.owner)
    )


def _rights_table(statements: Iterable[cloudformation.Statement]) -> str:
    rows = (
        (each.sid, *(", ".join(f"`{part}`" for part in parts) for parts in (each.actions, each.resources)), each.reason)
        for each in statements
    )
    return _table(("", "may", "what", "why"), rows)


ABOUT_ROLES: Final = {
    "Key": "Who may use the key, besides the roles below; in a key's own policy `*` is the key.",
    "ExecutionRole": "ECS itself, when it starts a router or a controller.",
    "CellExecutionRole": "ECS itself, when it starts a worker.",
    "RouterRole": "A router.",
    "ControllerRole": "A controller. It makes nothing itself but a hold queue or a bucket that somebody deleted.",
    "CellStackRole": "CloudFormation, when a controller makes, changes or removes a cell's stack; nobody else.",
    "CellBoundary": "The most that any role of a cell may do. A cell's own roles have less: their own cell's things.",
    "TaskRole": "A worker. It may touch its own cell's things, and nothing of another cell.",
    "StreamRole": "Firehose, for a cell's stream.",
}


PAGES: Final[Mapping[Path, Callable[[], str]]] = {
    DOCS / "configuration.md": settings_tables,
    DOCS / "security-monitoring.md": rules_table,
    DOCS / "reference" / "worker.md": worker_variables,
    DOCS / "reference" / "iam.md": rights,
    DOCS / "reference" / "costs.md": costs.page,
    DOCS / "reference" / "api.md": api.page,
    DOCS / "reference" / "cli.md": commands.page,
    DOCS / "reference" / "log.md": logs.page,
}
"""Each page that has a generated part, and what makes it."""


def endings() -> str:
    """Play six stories of sick cells, and show what `cellrouter explain` prints at the end of each."""
    from tests.support import endings as stories  # noqa: PLC0415 - the others need no simulation

    return stories.page()


SIMULATED: Final[Mapping[Path, Callable[[], str]]] = {DOCS / "explanation" / "endings.md": endings}
"""The same, for pages that take seconds to make."""


def rendered(page: Path) -> str:
    """Return a page's text with its generated part made anew. Raises ValueError when the page lacks the marks."""
    make = PAGES.get(page) or SIMULATED[page]
    part = f"{BEGIN}\n{make()}\n{END}"
    text, count = re.subn(f"{BEGIN}.*?{END}", lambda _: part, page.read_text("utf-8"), flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{page} must contain the marks of its generated part once: {BEGIN}{END}")
    return text


def _settings_table(title: str, about: str, fields: Mapping[str, FieldInfo]) -> str:
    rows = ((f"`{key}`", _default(field), field.description or "") for key, field in fields.items())
    return f"## {title}\n\n{about}\n\n{_table(('key', 'default', 'what'), rows)}"


def _default(field: FieldInfo) -> str:
    is_none = field.default is PydanticUndefined or field.default is None or not str(field.default)
    return "" if is_none else f"`{field.default}`"


def _table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    head = f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}\n"
    return head + "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    for written in (*PAGES, *SIMULATED):
        written.write_text(rendered(written), "utf-8")
