"""The documentation is true: it lists what there is, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cell_worker.handlers.security.remedies import REMEDIES
from cell_worker.handlers.security.settings import SecuritySettings
from docs import generate, logs
from tests.support.paths import REPOSITORY

SECURITY_PAGE = REPOSITORY / "docs" / "security-monitoring.md"
SAYS_SO = ("as above", "none yet")
LAYOUT_PAGE = REPOSITORY / "docs" / "explanation" / "layout.md"
CONTRIBUTING = REPOSITORY / "CONTRIBUTING.md"
SECURITY = REPOSITORY / "SECURITY.md"
LOCALSTACK_PAGE = REPOSITORY / "docs" / "localstack.md"
DIFFERENCES = REPOSITORY / "tests" / "integration" / "test_localstack_differences.py"


@pytest.mark.parametrize("page", generate.PAGES, ids=lambda page: page.stem)
def test_a_page_says_what_script_docs_would_write(page: Path) -> None:
    """Every setting with its default and meaning, and every shipped rule with its level and remedy, is listed."""
    assert page.read_text() == generate.rendered(page), "run script/docs, and commit what it writes"


def test_the_page_on_the_log_leaves_out_no_line() -> None:
    """But for those whose text is the action of the audit, as the page says itself."""
    assert [code for package in logs.PACKAGES for code in logs.untold(f"{package}/") if "r.action" not in code] == []


def test_the_security_page_names_every_setting_and_remedy() -> None:
    """Each is named as an operator writes it."""
    page = SECURITY_PAGE.read_text()
    names = [f"CELL_SECURITY_{name.upper()}" for name in SecuritySettings.model_fields]
    assert [name for name in (*names, *REMEDIES) if f"`{name}`" not in page] == []


def test_the_localstack_page_lists_every_difference_that_is_tested() -> None:
    """The page lists the differences in the order of their tests, each with its test."""
    tested = re.findall(r"^def (test_\w+)", DIFFERENCES.read_text(), re.MULTILINE)
    assert re.findall(r"^\| .*?`(test_\w+)` \|", LOCALSTACK_PAGE.read_text(), re.MULTILINE) == tested


def test_every_setting_says_what_it_is() -> None:
    """Every key of every section has a description in words."""
    for kind in generate.sections().values():
        for key, field in kind.model_fields.items():
            assert field.description, key


def test_links_and_scripts_that_the_documentation_names_exist() -> None:
    """No link in README.md, CONTRIBUTING.md or docs/ is broken, and every script that they mention is there."""
    for page in [REPOSITORY / "README.md", CONTRIBUTING, SECURITY, *(REPOSITORY / "docs").rglob("*.md")]:
        text = page.read_text()
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
        for script in re.findall(r"\bscript/\w+", text):
            assert (REPOSITORY / script).exists(), f"{page.name}: {script}"


def test_the_page_on_the_layout_names_every_module_of_the_services_and_of_the_adapters() -> None:
    """Whoever moves or renames a module of these rooms finds out that the page still has the old name."""
    words = set(re.findall(r"\w+", LAYOUT_PAGE.read_text()))
    modules = [path for room in ("services", "adapters") for path in (REPOSITORY / "router" / room).rglob("*.py")]
    assert [str(path) for path in modules if path.stem not in words | {"__init__"}] == []


def test_what_contributing_names_is_there() -> None:
    """Every path exists, and every name of the code is one; NAME stands for the reader's own."""
    named = re.findall(r"`([\w./-]+)`", CONTRIBUTING.read_text())
    paths = [
        name for name in named if re.match(r"(router|cell_worker|tests|docs|script)/", name) and "NAME" not in name
    ]
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []
    rooms = ("router", "cell_worker", "tests")
    code = "".join(path.read_text() for room in rooms for path in (REPOSITORY / room).rglob("*.py"))
    names = [name for name in named if re.fullmatch(r"[A-Z]\w*[a-z]\w*|_\w+|[a-z]+(_[a-z]+)+", name)]
    assert [name for name in names if not re.search(rf"\b{name}\b", code)] == []


def test_every_test_that_the_threat_model_names_is_there() -> None:
    """Each attack of its tables has a test that makes it, or names the rows that have."""
    named = re.findall(r"`(tests/[\w/.]+)::(test_\w+)`", SECURITY.read_text())
    assert named
    for path, name in named:
        text = (REPOSITORY / path).read_text()
        assert re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), f"{path}::{name}"


def test_every_kind_of_failure_names_tests_that_are_there() -> None:
    """The tables of the page on failures say what is done for each thing that may happen, and which test shows it."""
    tests = "".join(path.read_text() for path in (REPOSITORY / "tests").rglob("test_*.py"))
    text = (REPOSITORY / "docs" / "explanation" / "failures.md").read_text()
    rows = re.findall(r"^\| (?!what happens|-)(.+) \| (.+) \| (.+) \|$", text, re.MULTILINE)
    assert len(rows) == len(re.findall(r"^\| (?!what happens)", text, re.MULTILINE))
    assert [kind for kind, _, named in rows if "`test_" not in named] == []
    named = re.findall(r"`(test_\w+)`", text)
    assert [name for name in named if f"def {name}(" not in tests] == []


def test_every_attack_of_the_threat_model_names_a_test() -> None:
    """Or says that there is none yet."""
    rows = re.findall(r"^\| (?!tries|version|-|0)(.+) \| (.+) \| (.+) \|$", SECURITY.read_text(), re.MULTILINE)
    assert rows
    assert [tried for tried, _, test in rows if "::test_" not in test and test not in SAYS_SO] == []
