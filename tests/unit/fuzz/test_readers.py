"""No byte from outside ends a process: every reader returns a value or a reason, whatever it is given."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from typing import Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cell_worker
import router
from cell_worker.strict_reader import READERS
from tests.support.fuzz_corpus import CORPUS, VALUES
from tests.support.fuzz_readers import DECODING, FUZZED
from tests.support.paths import REPOSITORY

EXAMPLES: Final = 100
DECODERS: Final = frozenset({"Decoder", "loads", "convert"})
OWN_PROGRAMS: Final = ("router/demo/", "router/settings.py")  # read what their own user wrote, before anything runs

blobs = st.binary(max_size=200) | st.text(max_size=100).map(str.encode) | VALUES.map(msgspec.json.encode)


@pytest.mark.parametrize("name", FUZZED)
def test_a_reader_survives_the_corpus(name: str) -> None:
    """Each input that once ended a process, or might."""
    for raw in CORPUS:
        FUZZED[name](raw)


@pytest.mark.parametrize("name", FUZZED)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(raw=blobs)
def test_a_reader_survives_anything(name: str, raw: bytes) -> None:
    """Bytes, texts and nested JSON with the names that records have."""
    FUZZED[name](raw)


def test_every_strict_reader_is_fuzzed() -> None:
    """A new reader needs an entry, which runs it through what uses it."""
    for package in (cell_worker, router):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    assert READERS.keys() - FUZZED.keys() == set()


def test_whatever_decodes_is_fuzzed() -> None:
    """Nothing decodes past the strict reader, except for the modules that are named with their entries."""
    found = {
        str(path.relative_to(REPOSITORY))
        for package in ("router", "cell_worker")
        for path in (REPOSITORY / package).rglob("*.py")
        if any(_decodes(node) for node in ast.walk(ast.parse(path.read_text())))
    }
    assert {path for path in found if not path.startswith(OWN_PROGRAMS)} == DECODING.keys()
    assert {name for names in DECODING.values() for name in names} <= FUZZED.keys()


def _decodes(node: ast.AST) -> Any:
    """Whether it calls a decoder: msgspec.json.decode, a Decoder, json.loads or msgspec.convert."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    of = ast.unparse(node.func.value)
    return (node.func.attr in DECODERS and of != "self") or (node.func.attr == "decode" and of == "msgspec.json")
