"""A router's sample in Redis: small, as it was but for rounding, decoded once, and no bomb."""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import replace
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.adapters.redis import records
from router.adapters.redis.registry import RedisRegistry
from router.core.detection.samples import CellSample, RouterSample, TenantSample
from router.core.telemetry import BadInput
from tests.support.fake_clock import FakeClock
from tests.support.fuzz_redis import FakeRedis
from tests.support.keys import ring

CELL = "cell-0000"
whole = st.integers(0, 10**6)
seconds = st.floats(0, 10**4)
tenants = st.builds(
    TenantSample,
    events=whole,
    busy_s=seconds,
    baseline_share=st.floats(0, 1),
    deviation=st.none() | st.just(0.0) | st.floats(-50, 50),
)
cells = st.builds(
    CellSample,
    generation=whole,
    events=st.just(10**6),
    ok=whole,
    log_s=st.just(0.0),
    work_s=seconds,
    tenants=st.dictionaries(st.text("abcé…", min_size=1), tenants, max_size=4),
    slowest_s=seconds,
    silent_s=seconds,
    failures=whole,
    failing_s=seconds,
)


def wire(at_ms: int, sample: RouterSample) -> bytes:
    """Return a sample as the script puts it into Redis."""
    return b'{"at_ms":%d,"said":%s}' % (at_ms, records.packed(sample))


def rounded(struct: CellSample | TenantSample) -> dict[str, Any]:
    """Return its values as they come out of Redis."""
    values = msgspec.structs.asdict(struct)
    return {name: round(each, 4) if isinstance(each, float) else each for name, each in values.items()}


@given(cell=cells)
def test_a_sample_comes_out_as_it_went_in(cell: CellSample) -> None:
    """But for the fifth decimal. A deviation of zero stays one: it is not the same as none."""
    sample = RouterSample(7, 0.5, {CELL: cell})
    found = records.unpacked(msgspec.json.decode(wire(1, sample), type=records.WireSample))
    assert replace(found, cells={}) == replace(sample, cells={})
    (back,) = found.cells.values()
    assert rounded(back) | {"tenants": {}} == rounded(cell) | {"tenants": {}}
    assert {key: rounded(each) for key, each in back.tenants.items()} == {
        key: rounded(each) for key, each in cell.tenants.items()
    }


def test_a_report_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader reads more often than a router says something new; each router's newest word is there every time."""
    answer = [b"a", wire(1, RouterSample(1, 0.0, {})), b"b", wire(1, RouterSample(8, 0.0, {}))]
    registry = RedisRegistry(cast("Any", FakeRedis(answer)), "live", ring("live"), FakeClock())
    decoded: list[int] = []
    unpacked = records.unpacked

    def counted(found: records.WireSample) -> RouterSample:
        decoded.append(found.at_ms)
        return unpacked(found)

    monkeypatch.setattr(records, "unpacked", counted)

    async def story() -> None:
        for _ in range(3):
            assert {name: each.number for name, each in (await registry.samples()).items()} == {"a": 1, "b": 8}
        assert decoded == [1, 1]
        answer[1] = wire(2, RouterSample(2, 0.0, {}))
        assert {name: each.number for name, each in (await registry.samples()).items()} == {"a": 2, "b": 8}
        assert decoded == [1, 1, 2]

    asyncio.run(story())


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (zlib.compress(b" " * 50_000_000, 9), f"it has {records.MEDIUM + 1} bytes, more than"),
        (b"no zlib", "incorrect header check"),
        (zlib.compress(b'{"number":1,"lag_s":0,"cells":{}}')[:-9], "truncated"),
        (zlib.compress(b'{"number":1,"lag_s":0,"cells":{"c":[1,1,2]}}'), "more events answered well than answered"),
        (zlib.compress(b'{"number":1,"lag_s":0,"cells":{"c":[1,2,2,1e9]}}'), "no latencies have such logarithms"),
    ],
    ids=["bomb", "garbage", "cut", "too many", "too long"],
)
def test_what_is_no_sample_costs_only_its_router(said: bytes, why: str) -> None:
    """It is told once. A text that unpacks to more than a sample can have is never unpacked whole."""
    told: list[Any] = []
    bad = b'{"at_ms":1,"said":%s}' % msgspec.json.encode(said)
    answer = [b"bad", bad, b"good", wire(1, RouterSample(1, 0.0, {}))]
    registry = RedisRegistry(cast("Any", FakeRedis(answer)), "live", ring("live"), FakeClock(), tell=told.append)

    async def story() -> None:
        for _ in range(2):
            assert list(await registry.samples()) == ["good"]

    asyncio.run(story())
    assert [(type(each), each.name) for each in told] == [(BadInput, "bad")]
    assert why in told[0].why
