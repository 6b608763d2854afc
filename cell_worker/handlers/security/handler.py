"""The handler that monitors AWS accounts: it reads CloudTrail logs from S3, matches Sigma rules and acts on matches."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final
from uuid import uuid4

from aiobotocore.session import AioSession

from cell_worker import clock
from cell_worker.api import Cell, Component, Event, RejectEvent, RetryEvent
from cell_worker.contract.aws_session import aws_session
from cell_worker.handlers.security import canary
from cell_worker.handlers.security.acting import Acting, Wanted
from cell_worker.handlers.security.aws import ObjectDenied
from cell_worker.handlers.security.components import RulesComponent, S3Component
from cell_worker.handlers.security.evaluation.analysis import Analysis, analyse
from cell_worker.handlers.security.evaluation.places import FairPlaces
from cell_worker.handlers.security.evaluation.pool import PLACES, Content, Evaluators, NotReadError
from cell_worker.handlers.security.findings import finding, left_out, receipt
from cell_worker.handlers.security.logs import LogObject, TooLarge, log_object
from cell_worker.handlers.security.remedies import REMEDIES
from cell_worker.handlers.security.settings import SecuritySettings, load_settings
from cell_worker.handlers.security.sigma import RuleSet, load_rules

SMALL_BYTES: Final = 64 * 1024
"""Logs up to this size, stored and decompressed, take a few ms of CPU, whatever is in them: less than a process would
add. Larger ones would keep the event loop from Python's lock."""
LARGE_BYTES: Final = 256 * 1024
"""Objects above this size, as they are stored, begin among the slow logs."""
BREATH: Final = 50
"""After so many findings, 15 µs each, other events have their turn: a log may have a hundred of every rule."""
READ_ATTEMPTS: Final = 2
"""An evaluating process that can't read an object tries once more, if the worker itself can."""


class SecurityMonitor:
    """The handler `CELL_HANDLER=cell_worker.handlers.security:SecurityMonitor`.

    An event is one record of an S3 notification. For each, the handler emits all findings and then one receipt.
    """

    def __init__(self) -> None:
        self._settings: SecuritySettings
        self._s3: S3Component
        self._rules: RulesComponent
        self._acting: Acting
        self._small = FairPlaces(PLACES)
        self._evaluators: Evaluators

    async def start(self, cell: Cell) -> Sequence[Component]:
        """Load settings and rules, and open the S3 client. Makes no call; raises SecuritySettingsError or RuleError."""
        self._settings = load_settings()
        session: AioSession = aws_session()
        self._rules = RulesComponent(self._load_rules, cell)
        self._acting = Acting(self._settings, session, cell.cell_id)
        self._s3 = S3Component(session)
        await self._s3.restart()
        self._evaluators = Evaluators(self._s3.certificates, self._settings.max_object_bytes)
        await self._evaluators.start(self._rules.rules)
        return [self._s3, self._rules]

    async def __call__(self, event: Event, cell: Cell) -> Mapping[str, Any]:
        """Process the log object that the event names. Raises RejectEvent or RetryEvent."""
        source = log_object(event.json(), self._settings.bucket_names)
        rules = self._rules.rules
        analysis = await self._analyse(source, event.partition_key, rules)
        by_id = {rule.rule_id: rule for rule in rules.all()}
        by_rule = Counter(analysis.left_out)
        wanted: list[Wanted] = []
        findings = []
        for number, sighting in enumerate(analysis.sightings):
            if number % BREATH == 0:
                await clock.sleep(0)
            rule = by_id[sighting.rule_id]
            by_rule[rule.rule_id] += 1
            each = finding(event, cell, source, rule, sighting)
            findings.append(each)
            if rule.remedy is not None:
                wanted.append((rule.remedy, sighting.record, each))
        await self._acting.act(wanted, source, event, cell)
        for each in findings:
            cell.emit(each)
        for rule_id, count in analysis.left_out.items():
            cell.emit(left_out(event, cell, source, by_id[rule_id], count))
        cell.emit(receipt(event, cell, source, analysis, by_rule, uuid4().hex))
        return {"object": str(source), "records": analysis.records, "findings": by_rule.total()}

    async def canary(self, cell: Cell) -> None:
        """Ask S3 with the client that reads logs, and match all rules against one record. Raises RetryEvent."""
        source = LogObject(cell.resources, canary.KEY, None)
        with suppress(RejectEvent, ObjectDenied):  # missing or forbidden: S3 has answered all the same
            await self._fetch_small(source)
        # Not in a thread: logs may keep all threads busy, and a canary measures how well the instance is, not how busy.
        analyse([canary.LOG], source, self._settings.max_log_bytes, self._rules.rules)

    async def rehearse(self, event: Event, cell: Cell) -> None:  # noqa: ARG002 - a handler's signature
        """Read a small log and hold it against the rules, and neither act nor report. Raises RejectEvent or RetryEvent.

        A larger one waits for its turn and takes CPU from its key's others, so it is not rehearsed.
        """
        source = log_object(event.json(), self._settings.bucket_names)
        small = min(SMALL_BYTES, self._settings.max_log_bytes)
        if source.is_digest or source.size > small:
            raise RejectEvent(f"{source} is not rehearsed: only logs of {small} bytes at most are")
        stored = await self._fetch_small(source)
        await asyncio.to_thread(analyse, [stored], source, small, self._rules.rules)

    async def stop(self) -> None:
        """Close the S3 client with its connections, and end the processes that evaluate logs."""
        await asyncio.gather(self._s3.close(), self._evaluators.close())

    async def _analyse(self, source: LogObject, partition_key: str, rules: RuleSet) -> Analysis:
        """Evaluate a log: a small one in a thread, any other in a process whose CPU and memory are limited.

        That process reads the object itself, when there is a place for it. So no large object passes the event loop.
        """
        if source.is_digest:
            return Analysis(0, [], {})
        content: Callable[[], Awaitable[Content]] = partial(self._s3.lend, source)
        size = source.size
        if size <= SMALL_BYTES and not self._evaluators.is_slow(partition_key):
            try:
                stored = await self._fetch_small(source)
                content = partial(_ready, stored)
                async with self._small.hold(partition_key):
                    small = min(SMALL_BYTES, self._settings.max_log_bytes)
                    return await asyncio.to_thread(analyse, [stored], source, small, rules)
            except TooLarge as error:
                size = error.size
        return await self._evaluated(source, partition_key, content, rules, large=size > LARGE_BYTES)

    async def _evaluated(
        self,
        source: LogObject,
        partition_key: str,
        content: Callable[[], Awaitable[Content]],
        rules: RuleSet,
        *,
        large: bool,
    ) -> Analysis:
        for _ in range(READ_ATTEMPTS):
            try:
                return await self._evaluators.evaluate(
                    partition_key, source, content, self._settings.max_log_bytes, rules, large=large
                )
            except NotReadError as error:
                why = str(error)
                # The worker's client finds out whose fault it is, and knows from then on in which region the bucket is.
                with suppress(TooLarge):
                    content = partial(_ready, await self._fetch_small(source))
        raise RetryEvent(f"reading {source} in an evaluating process: {why}")

    async def _fetch_small(self, source: LogObject) -> bytes:
        return await self._s3.fetch(source, min(SMALL_BYTES, self._settings.max_object_bytes))

    def _load_rules(self) -> RuleSet:
        settings = self._settings
        return load_rules(settings.rules, remedies=REMEDIES.keys(), skip_bad=settings.skip_bad_rules)


async def _ready(stored: bytes) -> Content:
    return stored
