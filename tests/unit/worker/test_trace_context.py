"""Which trace an event belongs to is read of what its producer sent, whatever that is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cell_worker.contract.keys import cell_secret
from cell_worker.contract.strict_reader import Unreadable
from cell_worker.contract.tracing import variables
from cell_worker.contract.tracing.context import (
    MAX_TEXT_CHARS,
    TraceContext,
    context_in,
    read_trace_header,
    read_traceparent,
    read_tracestate,
    traceparent_of,
)
from cell_worker.contract.tracing.variables import DEFAULT_SHARE, Sampling, sampling_in
from cell_worker.settings import SettingsError, load
from tests.support.keys import SECRET

TRACE, SPAN = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
PARENT = f"00-{TRACE:032x}-{SPAN:016x}-01"
HEADER = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1"
FOUND = TraceContext(TRACE, SPAN, sampled=True)

ids = st.integers(1, 2**64 - 1)


@given(trace=st.integers(1, 2**128 - 1), span=ids)
def test_what_we_write_others_can_read(trace: int, span: int) -> None:
    """The first thing that they do is what we do."""
    assert read_traceparent(traceparent_of(trace, span)) == TraceContext(trace, span, sampled=True)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (PARENT, FOUND),
        (f"{PARENT[:-1]}0", TraceContext(TRACE, SPAN, sampled=False)),
        (f"{PARENT[:-2]}ff", FOUND),  # flags that come later
        (f"cc{PARENT[2:]}-what-comes-later", FOUND),
        (f"{PARENT}-what-comes-later", None),
        (f"ff{PARENT[2:]}", None),
        (PARENT.upper(), None),
        (f"00-{'0' * 32}-{SPAN:016x}-01", None),
        (f"00-{TRACE:032x}-{'0' * 16}-01", None),
        (f"{PARENT}\n", None),
        (f"cc{PARENT[2:]}-{'x' * MAX_TEXT_CHARS}", None),
        (PARENT.replace("4", "٤"), None),  # a digit elsewhere
        ("", None),
    ],
)
def test_a_traceparent_is_read_as_w3c_says(text: str, found: TraceContext | None) -> None:
    """A later version may have more at its end, and nothing else may be other than it is written."""
    assert read_traceparent(text) == found if found else isinstance(read_traceparent(text), Unreadable)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (HEADER, FOUND),
        (HEADER.replace("Sampled=1", "Sampled=0"), TraceContext(TRACE, SPAN, sampled=False)),
        (HEADER.replace("Sampled=1", "Sampled=?"), TraceContext(TRACE, SPAN, None)),
        (f"Self=1-67891234-12456789abcdef012345678;{HEADER};Lineage=1:2", FOUND),
        (HEADER.partition(";")[0], TraceContext(TRACE, 0, None)),
        (HEADER.replace("00f067aa0ba902b7", "00f067"), None),
        (HEADER.replace("Root=1", "Root=2"), None),
        ("Parent=00f067aa0ba902b7;Sampled=1", None),
        (f"{HEADER};{'x' * MAX_TEXT_CHARS}", None),
        ("", None),
    ],
)
def test_a_trace_header_is_read_as_aws_says(text: str, found: TraceContext | None) -> None:
    """Its Root is the trace, whose time of beginning is a part of its id."""
    assert read_trace_header(text) == found if found else isinstance(read_trace_header(text), Unreadable)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a=1, b@c=2\t,,d= x", (("a", "1"), ("b@c", "2"), ("d", " x"))),
        ("", ()),
        ("a=1,a=2", None),
        ("A=1", None),
        ("a=1=2", None),
        ("a", None),
        (",".join(f"k{i}=v" for i in range(33)), None),
        ("a=" + "v" * MAX_TEXT_CHARS, None),
        ("a=é", None),
    ],
)
def test_a_tracestate_is_taken_whole_or_not_at_all(text: str, found: tuple[tuple[str, str], ...] | None) -> None:
    """Half of one would say something that nobody said."""
    assert read_tracestate(text) == found if found is not None else isinstance(read_tracestate(text), Unreadable)


def test_w3c_goes_before_aws_and_what_cant_be_read_is_none() -> None:
    """A faulty `tracestate` takes nothing away but itself; a faulty `traceparent` leaves the header."""
    other = HEADER.replace("4bf92f35", "5bf92f35")
    assert context_in({"traceparent": PARENT, "tracestate": "a=1"}, other) == TraceContext(
        TRACE, SPAN, sampled=True, state=(("a", "1"),)
    )
    assert context_in({"traceparent": PARENT, "tracestate": "="}, "") == FOUND
    assert context_in({"traceparent": b"00-", "tracestate": "a=1"}, HEADER) == FOUND
    assert context_in({}, HEADER) == FOUND
    assert context_in({"traceparent": "00-1-2-01"}, "Root=1") is None


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, Sampling(by_parent=True, share=DEFAULT_SHARE)),
        ({"OTEL_TRACES_SAMPLER_ARG": "0.25"}, Sampling(by_parent=True, share=0.25)),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_on"}, Sampling(by_parent=True, share=1)),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, Sampling(by_parent=False, share=0)),
        ({"OTEL_TRACES_SAMPLER": "traceidratio"}, Sampling(by_parent=False, share=1)),
        ({"OTEL_TRACES_SAMPLER": "jaeger_remote"}, None),
        *(({"OTEL_TRACES_SAMPLER_ARG": text}, None) for text in ("1.1", "-0.1", "nan", "all")),
    ],
)
def test_opentelemetrys_own_variables_say_what_is_sampled(environ: dict[str, str], found: Sampling | None) -> None:
    """Where they say nothing, it is a share that costs little, and not every event."""
    assert sampling_in(environ) == found if found else isinstance(sampling_in(environ), Unreadable)


@given(trace=st.integers(1, 2**128 - 1), share=st.floats(0, 1))
def test_a_producers_word_counts_before_any_share(trace: int, share: float) -> None:
    """And where there is none, a larger share takes all that a smaller one does."""
    by_parent, by_share = Sampling(by_parent=True, share=share), Sampling(by_parent=False, share=share)
    for said in (True, False):
        assert by_parent.takes(TraceContext(trace, 1, said), trace) is said
        assert by_share.takes(TraceContext(trace, 1, said), trace) is by_share.takes(None, trace)
    assert by_parent.takes(TraceContext(trace, 0, None), trace) is by_parent.takes(None, trace)
    assert Sampling(by_parent=True, share=1.0).takes(None, trace)
    assert not Sampling(by_parent=True, share=0.0).takes(None, trace)
    assert not (
        by_share.takes(None, trace) and not Sampling(by_parent=False, share=min(1, share * 2)).takes(None, trace)
    )


def test_a_worker_without_the_packages_says_which_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it does anything; one that shall not trace needs none."""
    monkeypatch.setattr(variables, "find_spec", lambda _: None)
    given = {"ID": "c-1", "SECRET": cell_secret(SECRET, "live", "c-1"), "HANDLER": "a:b"}
    for name, value in given.items():
        monkeypatch.setenv(f"CELL_{name}", value)
    assert not load().tracing
    monkeypatch.setenv("CELL_TRACING", "true")
    with pytest.raises(
        SettingsError, match=r"^CELL_TRACING: needs more packages: pip install 'cellrouter\[tracing\]'$"
    ):
        load()
