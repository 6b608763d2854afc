"""What one log may cost and bring about is bounded, whatever is in it, and nothing of it is lost in silence."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
from typing import Any

import pytest
import structlog

from cell_worker.api import Cell, Event, RejectEvent
from cell_worker.handlers.security.correlation import Hit
from cell_worker.handlers.security.evaluation.analysis import MAX_SIGHTINGS, MAX_TEXT_CHARS, RULE_BYTES, analyse
from cell_worker.handlers.security.evaluation.places import FairPlaces
from cell_worker.handlers.security.findings import finding, left_out, receipt
from cell_worker.handlers.security.logs import MAX_RECORD_BYTES, LogObject, parse
from cell_worker.handlers.security.remedies import REMEDIES
from cell_worker.handlers.security.settings import MIB, SHIPPED_RULES, SecuritySettings
from cell_worker.handlers.security.sigma import load_rules
from tests.support.security_world import record

SOURCE = LogObject("logs", "a.json.gz", None)
RULES = load_rules(SHIPPED_RULES, remedies=REMEDIES.keys())
TITLES = {rule.title: rule.rule_id for rule in RULES.all()}
STOP, USER = TITLES["CloudTrail logging stopped or deleted"], TITLES["IAM user created"]


def log(records: list[dict[str, Any]]) -> bytes:
    """A plain log of these records."""
    return json.dumps({"Records": records}).encode()


def test_a_flood_of_one_rule_hides_no_other() -> None:
    """Of 3000 matches of a low rule 100 are reported and 2900 counted; the high one among them is reported."""
    flood = [record("iam", "CreateUser", {"userName": "u"}) for _ in range(3000)]
    found = analyse([log([*flood, record("cloudtrail", "StopLogging", {})])], SOURCE, 32 * MIB, RULES)
    assert found.records == 3001
    assert [each.rule_id for each in found.sightings] == [USER] * MAX_SIGHTINGS + [STOP]
    assert found.left_out == {USER: 3000 - MAX_SIGHTINGS}


def test_what_is_left_out_is_said() -> None:
    """The line names the rule, its level and how many; the receipt counts them all."""
    event, cell = Event("e", "k", 1, b"{}"), Cell("cell-0007", 3, "test", False, structlog.stdlib.get_logger())
    found = analyse([log([record("cloudtrail", "StopLogging", {})] * 150)], SOURCE, 32 * MIB, RULES)
    rule = next(rule for rule in RULES.all() if rule.rule_id == STOP)
    line = left_out(event, cell, SOURCE, rule, found.left_out[STOP])
    assert (line["type"], line["rule_id"], line["level"], line["count"]) == ("left_out", STOP, "high", 50)
    assert line["text"].startswith("… and 50 more")
    said = receipt(event, cell, SOURCE, found, {STOP: 150}, "run")
    assert (said["findings"], said["left_out"]) == (150, 50)


def test_a_finding_quotes_no_more_than_it_needs() -> None:
    """A record with a megabyte in each field is reported in a few kB. It would not have fitted the sink at all."""
    long = dict.fromkeys(("awsRegion", "eventID", "sourceIPAddress"), "x" * 100000)
    big = record("cloudtrail", "StopLogging", {"x": "y" * 100_000}, **long) | {"userIdentity": {"arn": ["z" * 100_000]}}
    (sighting,) = analyse([log([big])], SOURCE, 32 * MIB, RULES).sightings
    event, cell = Event("e", "k", 1, b"{}"), Cell("cell-0007", 3, "test", False, structlog.stdlib.get_logger())
    line = finding(event, cell, SOURCE, next(RULES.all()), sighting)
    assert len(json.dumps(line)) < 10 * MAX_TEXT_CHARS
    assert line["actor"].endswith("…")


def test_the_bytes_of_one_rule_are_bounded() -> None:
    """A rule with a remedy reports whole records: as many as fit, and the others are counted."""
    request = {"bucketName": "b", "bucketPolicy": {"Statement": [{"Effect": "Allow", "Principal": "*"}]}}
    big = record("s3", "PutBucketPolicy", request | {"pad": "x" * 20_000})
    found = analyse([log([big] * 50)], SOURCE, 32 * MIB, RULES)
    assert 0 < len(found.sightings) * 20_000 <= RULE_BYTES
    assert len(found.sightings) + sum(found.left_out.values()) == 50
    assert found.sightings[0].record["requestParameters"] == big["requestParameters"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"Records": [' + b"{}," * 2_000_000 + b"{}]}", "would fill the memory: it has more than"),
        (b'{"Records": [{"a": [' + b"1," * 2_000_000 + b"1]}]}", "would fill the memory"),
        (log([{"a": "x" * MAX_RECORD_BYTES}]), "has a record of more than"),
        (b'{"Records": [' + b"[" * 900_000 + b"]" * 900_000 + b"]}", "nested too deeply"),
        (b'{"Records": [{"a": "' + b"x" * 33 * MIB + b'"}]}', "is too large: more than 33554432 bytes"),
        (gzip.compress(b"[" * 200_000_000, 1), "is too large: more than 33554432 bytes decompressed"),
    ],
    ids=["records", "values", "one record", "nesting", "one text", "gzip"],
)
def test_bombs_are_rejected_before_they_fill_the_memory(text: bytes, reason: str) -> None:
    """The reason names the bound, and the memory taken until then is less than twice the largest log."""
    limit = SecuritySettings().max_log_bytes
    assert limit == 32 * MIB
    tracemalloc.start()
    try:
        with pytest.raises(RejectEvent, match=reason):
            analyse([text], SOURCE, limit, RULES)
        assert tracemalloc.get_traced_memory()[1] < 2 * limit
    finally:
        tracemalloc.stop()


def test_more_records_than_any_log_has_are_rejected() -> None:
    """A raised limit on bytes raises none on records."""
    with pytest.raises(RejectEvent, match="300000 records, more than the 200000"):
        parse([b'{"Records": [' + b"{}," * 299_999 + b"{}]}"], SOURCE, 256 * MIB)


def test_records_are_not_all_in_memory_at_once() -> None:
    """A log of 8 MiB takes less than twice its size to evaluate. Decoded as a whole it takes five times that."""
    many = log([record("s3", "GetObject", {"list": list(range(50))}) for _ in range(8000)])
    tracemalloc.start()
    try:
        analyse([many], SOURCE, 32 * MIB, RULES)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(many)
    finally:
        tracemalloc.stop()


def test_a_logs_names_fill_no_cache() -> None:
    """Long names of services and calls are compared, and forgotten."""
    rules = load_rules(SHIPPED_RULES, remedies=REMEDIES.keys())
    rules.evaluate([record("x" * 1000, f"y{number}", {}) for number in range(50)])
    assert rules._candidates.cache_info().currsize == 0


def test_a_hit_keeps_no_record() -> None:
    """What a correlation keeps of a record until the end of the log is small."""
    assert set(Hit.__slots__) == {"time", "index", "rule_id", "counted"}


async def settle() -> None:
    """Let every task go on as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop, not a wait


def test_no_key_has_all_places_and_keys_take_turns() -> None:
    """Of two places, a key with ten waiting has one. The other key's first goes before the first key's second."""

    async def scenario() -> None:
        places, begun, gates = FairPlaces(2), [], [asyncio.Event() for _ in range(5)]

        async def work(number: int, key: str) -> None:
            async with places.hold(key):
                begun.append((number, key))
                await gates[number].wait()

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work(number, "heavy")) for number in range(3)]
            await settle()
            assert begun == [(0, "heavy")]
            tasks.append(group.create_task(work(3, "light")))
            await settle()
            assert begun == [(0, "heavy"), (3, "light")]
            tasks[1].cancel()  # gives up while it waits
            gates[0].set()
            await settle()
            assert begun[2:] == [(2, "heavy")]
            tasks[2].cancel()  # gives up while it works
            gates[3].set()
            await settle()
            async with places.hold("heavy"), places.hold("light"):
                pass

    asyncio.run(scenario())
