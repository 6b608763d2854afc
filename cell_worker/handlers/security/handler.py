"""The handler that monitors AWS accounts: it reads CloudTrail logs from S3, matches Sigma rules and acts on matches."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

from aiobotocore.session import AioSession, get_session

from cell_worker.api import Cell, Component, Event, RejectEvent
from cell_worker.handlers.security import canary
from cell_worker.handlers.security.acting import Acting
from cell_worker.handlers.security.components import RulesComponent, S3Component
from cell_worker.handlers.security.findings import finding, receipt
from cell_worker.handlers.security.logs import LogObject, fetch, log_object, parse
from cell_worker.handlers.security.matching import Record
from cell_worker.handlers.security.remedies import REMEDIES
from cell_worker.handlers.security.settings import SecuritySettings, load_settings
from cell_worker.handlers.security.sigma import Match, RuleSet, load_rules


class SecurityMonitor:
    """The handler `CELL_HANDLER=cell_worker.handlers.security:SecurityMonitor`.

    An event is one record of an S3 notification. For each, the handler emits all findings and then one receipt.
    """

    def __init__(self) -> None:
        self._settings: SecuritySettings
        self._s3: S3Component
        self._rules: RulesComponent
        self._acting: Acting

    async def start(self, cell: Cell) -> Sequence[Component]:
        """Load settings and rules, and open the S3 client. Makes no call; raises SecuritySettingsError or RuleError."""
        self._settings = load_settings()
        session: AioSession = get_session()
        self._rules = RulesComponent(self._load_rules)
        for path, reason in self._rules.rules.skipped:
            cell.log.warning("rule not supported", path=path, reason=reason)
        self._acting = Acting(self._settings, session, cell.cell_id)
        self._s3 = S3Component(session)
        await self._s3.restart()
        return [self._s3, self._rules]

    async def __call__(self, event: Event, cell: Cell) -> Mapping[str, Any]:
        """Process the log object that the event names. Raises RejectEvent or RetryEvent."""
        source = log_object(event.json(), self._settings.bucket_names)
        records, matches = await self._analyse(source)
        findings = [finding(event, cell, source, match, records) for match in matches]
        wanted = [
            (match.rule.remedy, records[match.index], each)
            for match, each in zip(matches, findings, strict=True)
            if match.rule.remedy is not None
        ]
        await self._acting.act(wanted, source, event, cell)
        for each in findings:
            cell.emit(each)
        cell.emit(receipt(event, cell, source, len(records), findings, uuid4().hex))
        return {"object": str(source), "records": len(records), "findings": len(findings)}

    async def canary(self, cell: Cell) -> None:
        """Ask S3 with the client that reads logs, and match all rules against one record. Raises RetryEvent."""
        source = LogObject(cell.resources, canary.KEY, None)
        with suppress(RejectEvent):  # missing or forbidden: S3 has answered all the same
            async with self._s3.reading(source.bucket) as client:
                await fetch(client, source, self._settings.max_object_bytes)
        # Not in a thread: logs may keep all threads busy, and a canary measures how well the instance is, not how busy.
        _evaluate(canary.LOG, source, self._settings.max_log_bytes, self._rules.rules)

    async def stop(self) -> None:
        """Close the S3 client with its connections."""
        await self._s3.close()

    async def _analyse(self, source: LogObject) -> tuple[Sequence[Record], list[Match]]:
        if source.is_digest:
            return [], []
        async with self._s3.reading(source.bucket) as client:
            stored = await fetch(client, source, self._settings.max_object_bytes)
        # A large log takes seconds of CPU. It is read in a thread, so that heartbeats and health checks go on.
        return await asyncio.to_thread(_evaluate, stored, source, self._settings.max_log_bytes, self._rules.rules)

    def _load_rules(self) -> RuleSet:
        return load_rules(self._settings.rules, remedies=REMEDIES.keys())


def _evaluate(stored: bytes, source: LogObject, max_bytes: int, rules: RuleSet) -> tuple[list[Record], list[Match]]:
    records: list[Record] = list(parse(stored, source, max_bytes))
    return records, rules.evaluate(records)
