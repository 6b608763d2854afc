"""Rules of this code base that no linter checks: unique class names, docstrings that stand alone, and sizes."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from statistics import median
from typing import Final

import pytest

from tests.support.paths import REPOSITORY

PACKAGES: Final = ("router", "cell_worker")
MIN_DOCSTRING_WORDS: Final = 4
MAX_FILE_LINES: Final = 400
MAX_FUNCTION_LINES: Final = 50
MAX_MEDIAN_LINES: Final = 8
MAX_MODULES: Final = 16
"""Modules in one folder: a reader should find the file for a question without searching."""

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def files(*roots: str) -> Iterator[tuple[str, ast.Module]]:
    """Every Python file under these folders, by its path from the root of the checkout."""
    for root in roots:
        for path in sorted((REPOSITORY / root).rglob("*.py")):
            yield str(path.relative_to(REPOSITORY)), ast.parse(path.read_text())


def definitions(tree: ast.Module) -> Iterator[Definition]:
    """List all classes and functions of a file, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, Definition))


def functions(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every function with the number of its lines, decorators left out."""
    for node in definitions(tree):
        if not isinstance(node, ast.ClassDef):
            yield f"{node.name}, line {node.lineno}", (node.end_lineno or node.lineno) - node.lineno + 1


@pytest.mark.parametrize("package", PACKAGES)
def test_no_class_name_is_used_twice_in_a_package(package: str) -> None:
    """A leading underscore doesn't make a name different, because a search for one finds both."""
    found = defaultdict(set)
    for path, tree in files(package):
        for node in definitions(tree):
            if isinstance(node, ast.ClassDef):
                found[node.name.lstrip("_")].add(f"{path}:{node.lineno}")
    assert {name: sorted(where) for name, where in found.items() if len(where) > 1} == {}


def test_every_docstring_stands_alone() -> None:
    """Public docstrings of the product and the benchmarks have enough words to say more than the signature does."""
    short = [
        f"{path}:{node.lineno} {node.name}: {text}"
        for path, tree in files(*PACKAGES, "benchmarks")
        for node in definitions(tree)
        if not node.name.startswith("_") and (text := ast.get_docstring(node)) is not None
        if len(text.split()) < MIN_DOCSTRING_WORDS
    ]
    assert short == []


def test_files_and_functions_are_short() -> None:
    """A reader can keep each of them in mind."""
    lengths: dict[str, int] = {}
    for path, tree in files(*PACKAGES, "benchmarks", "tests"):
        lines = len((REPOSITORY / path).read_text().splitlines())
        assert lines <= MAX_FILE_LINES, f"{path} has {lines} lines"
        lengths |= {f"{path}: {name}": length for name, length in functions(tree)}
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}
    product = [length for name, length in lengths.items() if name.startswith(PACKAGES)]
    assert median(product) <= MAX_MEDIAN_LINES


def test_no_folder_is_crowded() -> None:
    """Only modules count; the package's own file doesn't."""
    folders = Counter(path.rpartition("/")[0] for path, _ in files(*PACKAGES) if not path.endswith("__init__.py"))
    assert {folder: count for folder, count in folders.items() if count > MAX_MODULES} == {}


def test_benchmarks_and_tests_import_what_supports_them_and_never_each_other() -> None:
    """Both may import `tests.support`. Import-linter doesn't check this, because it sees neither."""
    for path, tree in files("tests", "benchmarks"):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                name = node.module
                own = "benchmarks" if path.startswith("benchmarks") else "tests.support"
                assert not name.startswith(("tests", "benchmarks")) or name.startswith((own, "tests.support")), path


def test_no_call_of_ours_follows_a_redirect() -> None:
    """Sessions are made in one place, which asks no proxy, and each call refuses redirects, which may lead anywhere."""
    verbs = {"get", "post", "put", "patch", "delete", "head", "options", "request", "ws_connect"}
    for path, tree in files(*PACKAGES):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            told, called = {word.arg: ast.unparse(word.value) for word in node.keywords}, ast.unparse(node.func)
            assert called != "AioConfig" or "http_session_cls" in told, f"{path}:{node.lineno}: AWS clients too"
            is_factory = path == "router/adapters/http_session.py"
            made = called.rpartition(".")[2] in ("ClientSession", "TCPConnector")
            assert is_factory or not made, f"{path}:{node.lineno}: use http_session"
            whose, _, verb = called.rpartition(".")
            if verb in verbs and whose.endswith("session"):
                assert told.get("allow_redirects") == "False", f"{path}:{node.lineno}: pass allow_redirects=False"


def test_prose_keeps_within_the_margin() -> None:
    """Text for people keeps to 120 characters a line, except for tables and links, which can't be broken."""
    pages = [page for folder in ("", "docs/**/", ".github/**/") for page in REPOSITORY.glob(f"{folder}*.md")]
    long = [
        f"{page.relative_to(REPOSITORY)}:{number}"
        for page in pages
        for number, line in enumerate(page.read_text().splitlines(), start=1)
        if len(line) > 120 and not line.startswith("|") and "](" not in line
    ]
    assert long == []
