"""No byte from outside ends a process: every reader returns a value or a reason, whatever it is given."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cell_worker
import router
from cell_worker.contract.strict_reader import READERS, Unreadable
from tests.support.fuzz_corpus import CORPUS, VALUES
from tests.support.fuzz_decoding import DECODING
from tests.support.fuzz_readers import FUZZED
from tests.support.fuzz_table import SURVIVED
from tests.support.paths import REPOSITORY

EXAMPLES: Final = 100  # of Hypothesis, for each reader
FORMATS: Final = frozenset({"json", "msgspec", "yaml", "tomllib", "pickle", "marshal", "ast", "csv", "plistlib"})
DECODERS: Final = frozenset(
    {"Decoder", "decode", "convert", "load", "loads", "load_all", "safe_load", "safe_load_all", "literal_eval"}
)
OF_LIBRARIES: Final = frozenset({"model_validate_json", "read_bytes", "read_text"})  # and whole files, of any size
OWN_PROGRAMS: Final = (
    "router/demo/",  # reads what its own user wrote
    "router/cli/development/",  # as above
    "router/adapters/aws/templates.py",  # reads what comes with the package
    "cell_worker/handlers/security/evaluation/child.py",  # reads what its own worker wrote
)

blobs = st.binary(max_size=200) | st.text(max_size=100).map(str.encode) | VALUES.map(msgspec.json.encode)


@pytest.mark.parametrize("name", FUZZED)
def test_a_reader_survives_the_corpus(name: str, record_property: Callable[[str, object], None]) -> None:
    """Each input that once ended a process, or might."""
    for raw in CORPUS:
        FUZZED[name](raw)
    record_property(SURVIVED, (name, len(CORPUS)))


@pytest.mark.parametrize("name", FUZZED)
def test_a_reader_survives_anything(name: str, record_property: Callable[[str, object], None]) -> None:
    """Bytes, texts and nested JSON with the names that records have."""
    tried = 0

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(raw=blobs)
    def survives(raw: bytes) -> None:
        nonlocal tried
        FUZZED[name](raw)
        tried += 1

    survives()
    record_property(SURVIVED, (name, tried))


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


@pytest.mark.parametrize(
    "text",
    [
        *("json.loads(x)", "msgspec.json.decode(x)", "msgspec.convert(x, T)", "yaml.safe_load(x)", "tomllib.load(f)"),
        *("msgspec.msgpack.Decoder(T)", "from json import loads", "from msgspec.json import decode"),
        *("import pickle as p", "await response.json()", "T.model_validate_json(x)", "path.read_text()", "eval(x)"),
    ],
)
def test_every_way_to_decode_is_seen(text: str) -> None:
    """So that the test above can fail."""
    tree = ast.parse(f"async def f():\n    {text}")
    assert any(_decodes(node) for node in ast.walk(tree))


def _decodes(node: ast.AST) -> bool:
    """Whether it calls a decoder, or gives one another name under which it might be called."""
    match node:
        case ast.ImportFrom(module=str(module), names=names):
            return module.partition(".")[0] in FORMATS and any(each.name in DECODERS for each in names)
        case ast.Import(names=names):
            return any(each.asname and each.name.partition(".")[0] in FORMATS for each in names) or any(
                each.name in ("pickle", "marshal") for each in names
            )
        case ast.Call(func=ast.Name(id=called)):
            return called in ("eval", "exec")
        case ast.Call(func=ast.Attribute(value=of, attr=called), args=arguments):
            root = "" if isinstance(of, ast.Call) else ast.unparse(of).partition(".")[0]
            whole_body = called == "json" and not arguments and root in ("response", "request", "answer", "reply")
            return whole_body or called in OF_LIBRARIES or (called in DECODERS and root in FORMATS)
    return False


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """A named pipe whose writer says nothing has nothing to read, and a folder neither."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)
    for path in (pipe, tmp_path):
        assert READERS["process id file"].read_file(path) == Unreadable("it is no file")
    os.close(writer)
