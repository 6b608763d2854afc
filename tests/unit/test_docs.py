"""The documentation is true: what it lists is what there is."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from pydantic_core import PydanticUndefined

from router import settings

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "configuration.md"
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


def test_every_setting_says_what_it_is() -> None:
    """In words."""
    for kind in settings._SECTIONS.values():
        for key, field in kind.model_fields.items():
            assert field.description, key


def test_links_and_scripts_that_the_documentation_names_exist() -> None:
    """In README and docs."""
    for page in [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]:
        text = page.read_text()
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
        for script in re.findall(r"\bscript/\w+", text):
            assert (REPOSITORY / script).exists(), f"{page.name}: {script}"


if __name__ == "__main__":
    sys.stdout.write(f"{PAGE.write_text(rendered())} characters\n")
