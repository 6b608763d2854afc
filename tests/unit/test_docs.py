"""The documentation is true: what it lists is what there is."""

from __future__ import annotations

import re
import sys

from pydantic_core import PydanticUndefined

from cell_worker.handlers.security.remedies import REMEDIES
from cell_worker.handlers.security.settings import SHIPPED_RULES, SecuritySettings
from cell_worker.handlers.security.sigma import load_rules
from router import settings
from tests.support.paths import REPOSITORY

PAGE = REPOSITORY / "docs" / "configuration.md"
SECURITY_PAGE = REPOSITORY / "docs" / "security-monitoring.md"
LOCALSTACK_PAGE = REPOSITORY / "docs" / "localstack.md"
DIFFERENCES = REPOSITORY / "tests" / "integration" / "test_localstack_differences.py"
RULES_TABLE = re.compile(r"\| title \| level \| remedy \|\n(?:\|.*\n)+")
LEVELS = ["critical", "high", "medium", "low", "informational"]
HEAD = """# Configuration

Environment variables `CELLROUTER_<SECTION>_<KEY>` win over the TOML file that `CELLROUTER_CONFIG` (or `--config`)
names: `CELLROUTER_REDIS_URL` is `url` in the section `[redis]`, `CELLROUTER_SECRET` is `secret` at the top.
`cellrouter check-config` names every fault at once. `PYTHONPATH=. python tests/unit/test_docs.py` writes this page.

Workers that the controller doesn't start itself (`cells.provisioner = "external"`) take `CELL_*` variables:
`CELL_ID`, `CELL_SECRET`, `CELL_HANDLER` are required; see `cell_worker/settings.py`.
"""


def rendered() -> str:
    """The page as the settings say it should be."""
    lines = [HEAD]
    top = {name: field for name, field in settings.Settings.model_fields.items() if name not in settings._SECTIONS}
    for title, about, fields in [
        ("Top", "Of the whole.", top),
        *((f"[{name}]", (kind.__doc__ or ""), kind.model_fields) for name, kind in settings._SECTIONS.items()),
    ]:
        lines += [f"## {title}", "", about, "", "| key | default | what |", "|---|---|---|"]
        for key, field in fields.items():
            default = "" if field.default is PydanticUndefined or field.default in ("", None) else f"`{field.default}`"
            lines.append(f"| `{key}` | {default} | {field.description} |")
        lines.append("")
    return "\n".join(lines)


def test_the_configuration_page_lists_every_key() -> None:
    """With its default and what it means; the page is written by this file's main."""
    assert PAGE.read_text() == rendered()


def rules_table() -> str:
    """The shipped rules, the gravest first."""
    loaded = load_rules(SHIPPED_RULES, remedies=REMEDIES.keys())
    rules = [each.rule for each in loaded.rules] + [rule for rule, _ in loaded.correlations]
    lines = ["| title | level | remedy |", "|---|---|---|"]
    lines += [
        f"| {rule.title} | {rule.level} | {f'`{rule.remedy}`' if rule.remedy else ''} |"
        for rule in sorted(rules, key=lambda rule: (LEVELS.index(rule.level), rule.title))
    ]
    return "\n".join(lines) + "\n"


def test_the_security_page_lists_exactly_the_shipped_rules() -> None:
    """With level and remedy; this file's main writes the table."""
    assert RULES_TABLE.findall(SECURITY_PAGE.read_text()) == [rules_table()]


def test_the_security_page_names_every_setting_and_remedy() -> None:
    """By the name that an operator writes."""
    page = SECURITY_PAGE.read_text()
    names = [f"CELL_SECURITY_{name.upper()}" for name in SecuritySettings.model_fields]
    assert [name for name in (*names, *REMEDIES) if f"`{name}`" not in page] == []


def test_the_localstack_page_lists_every_difference_that_is_tested() -> None:
    """In the same order, each with its test."""
    tested = re.findall(r"^def (test_\w+)", DIFFERENCES.read_text(), re.MULTILINE)
    assert re.findall(r"^\| .*?`(test_\w+)` \|", LOCALSTACK_PAGE.read_text(), re.MULTILINE) == tested


def test_every_setting_says_what_it_is() -> None:
    """In words."""
    for kind in settings._SECTIONS.values():
        for key, field in kind.model_fields.items():
            assert field.description, key


def test_links_and_scripts_that_the_documentation_names_exist() -> None:
    """In README and docs."""
    for page in [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]:
        text = page.read_text()
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
        for script in re.findall(r"\bscript/\w+", text):
            assert (REPOSITORY / script).exists(), f"{page.name}: {script}"


if __name__ == "__main__":
    sys.stdout.write(f"{PAGE.write_text(rendered())} characters\n")
    security = RULES_TABLE.sub(lambda _: rules_table(), SECURITY_PAGE.read_text())
    sys.stdout.write(f"{SECURITY_PAGE.write_text(security)} characters\n")
