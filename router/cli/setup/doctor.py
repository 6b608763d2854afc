"""`cellrouter doctor`: looks at all that a router or a controller needs here, and says how to mend what is wrong."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import typer
from rich.text import Text

from cell_worker.contract.addresses import without_passwords
from router.cli.options import AsJson
from router.cli.registry import run
from router.cli.setup.version import version_in_words
from router.cli.texts import Screen
from router.core.errors import ConfigError, RegistryUnavailableError, SourceDeniedError, SourceMissingError
from router.core.errors import SourceUnavailableError as NoSourceError
from router.core.intake.checkup import why_bad_redrive
from router.core.models import Reason

if TYPE_CHECKING:
    from router.core.registry import Snapshot
    from router.settings import Settings

MAX_APART_MS: Final = 2000
"""By so much this clock may differ from Redis' own: a signed call to a cell is refused a few seconds off."""
AWS_S: Final = 15.0  # for one check in AWS
CREDENTIALS: Final = (
    "see aws.endpoint_url, aws.region and the network; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, or run where a role is"
)
OK, WRONG, NOTE = "ok", "WRONG", "note"
_STYLES: Final = {OK: "green", WRONG: "bold red", NOTE: "yellow"}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found of one thing: an entry of `doctor --json`."""

    what: str
    state: str  # ok, WRONG, or note: it may be meant so
    said: str
    mend: str = ""  # how; empty where there is nothing to mend


def doctor(*, as_json: AsJson = False) -> None:
    """Look at versions, configuration, ports, Redis, clock, leader, credentials, queues and redrive, from here.

    Each line says ok or what is wrong, and how to mend it. Exits 1 when anything is wrong, 2 when the
    configuration is. It changes nothing.
    """
    findings = run(_examined(as_json=as_json))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    wrong = sum(finding.state == WRONG for finding in findings)
    if not as_json:
        typer.echo(f"{wrong} of {len(findings)} checks found something wrong" if wrong else "All is well from here")
    if wrong:
        misconfigured = any(found.what == "configuration" and found.state == WRONG for found in findings)
        raise typer.Exit(2 if misconfigured else 1)


def of_registry(snapshot: Snapshot, here_ms: int) -> Iterator[Diagnosis]:
    """Judge what the registry says: the clock, who leads, which routers report, and how the cells are."""
    apart_ms = here_ms - snapshot.now_ms
    told = f"{abs(apart_ms) / 1000:.1f} s {'ahead of' if apart_ms > 0 else 'behind'} Redis' clock"
    late = abs(apart_ms) > MAX_APART_MS
    yield Diagnosis("clock", WRONG if late else OK, told, "have both machines keep time by NTP" if late else "")
    if snapshot.leader:
        yield Diagnosis("leader", OK, snapshot.leader)
    else:
        yield Diagnosis(
            "leader", WRONG, "no controller leads", "start one: cellrouter controller; see what its log says"
        )
    routers = [view.report.router_id for view in snapshot.routers if view.live]
    none = Diagnosis("routers", WRONG, "no router reports", "start one: cellrouter router; see what its log says")
    yield Diagnosis("routers", OK, f"{len(routers)}: {', '.join(routers)}") if routers else none
    there = [record for record in snapshot.cells.values() if not record.retired]
    serving = [
        record.cell_id
        for record in there
        if (lease := snapshot.lease(record.cell_id, record.generation)) is not None and lease.live and lease.ready
    ]
    bad = len(serving) < len(there) or not there
    yield Diagnosis("cells", WRONG if bad else OK, f"{len(serving)} of {len(there)} serve", "cellrouter cells" * bad)


async def _examined(*, as_json: bool) -> list[Diagnosis]:
    findings = []
    async for finding in _checks():
        findings.append(finding)
        if not as_json:
            _show(finding)
    return findings


async def _checks() -> AsyncIterator[Diagnosis]:
    good = (3, 11) <= sys.version_info[:2] <= (3, 13)
    said = f"cellrouter {version_in_words('cellrouter')}, Python {platform.python_version()}"
    yield Diagnosis("versions", OK if good else WRONG, said, "" if good else "use Python 3.11 to 3.13")
    settings, faults = await _configuration()
    for fault in faults:
        yield Diagnosis("configuration", WRONG, fault, "docs/configuration.md lists every key")
    if settings is None:
        return
    if not faults:
        yield Diagnosis("configuration", OK, f"environment {settings.environment}")
    async for found in _handler(settings):
        yield found
    yield _port(settings)
    async for finding in _redis(settings):
        yield finding
    async for finding in _aws(settings):
        yield finding


async def _configuration() -> tuple[Settings | None, list[Reason]]:
    from router.bootstrap.queues import why_no_start  # noqa: PLC0415 - --help stays quick
    from router.settings import check  # noqa: PLC0415 - as above

    settings, faults = check(os.environ)
    if settings is not None:
        faults += await why_no_start(settings)
    return settings, [without_passwords(fault) for fault in faults]


async def _handler(settings: Settings) -> AsyncIterator[Diagnosis]:
    from router.bootstrap.handler_check import handler_faults  # noqa: PLC0415 - as above

    faults, doubts = await handler_faults(settings.cells, dict(os.environ))
    mend = "install what it needs where workers start, or name another: CELLROUTER_CELLS_HANDLER"
    for state, whys in ((WRONG, faults), (NOTE, doubts)):
        for why in whys:
            yield Diagnosis("handler", state, why, mend)
    if not faults and not doubts:
        yield Diagnosis("handler", OK, f"{settings.cells.handler} can be imported")


def _port(settings: Settings) -> Diagnosis:
    from cell_worker.contract.http_server import listen_on  # noqa: PLC0415 - as above

    host, port = settings.api.host, settings.api.port
    try:
        listen_on(host, port).close()
    except OSError as error:
        mend = "well if a router or a controller of yours runs here; else set CELLROUTER_API_PORT"
        return Diagnosis("port", NOTE, f"{host}:{port} can't be listened on: {error.strerror}", mend)
    return Diagnosis("port", OK, f"{host}:{port} is free")


async def _redis(settings: Settings) -> AsyncIterator[Diagnosis]:
    from router.adapters.clock import SystemClock  # noqa: PLC0415 - as above
    from router.bootstrap.registry import open_registry  # noqa: PLC0415 - as above

    url = without_passwords(settings.redis.url)
    try:
        async with open_registry(settings) as registry:
            snapshot = await registry.snapshot()
    except (RegistryUnavailableError, ConfigError) as error:
        mend = "see that Redis runs there and takes this login: docs/how-to/redis.md"
        yield Diagnosis("Redis", WRONG, without_passwords(f"{url}: {error}"), mend)
        return
    yield Diagnosis("Redis", OK, url)
    for finding in of_registry(snapshot, SystemClock().time_ms()):
        yield finding


async def _aws(settings: Settings) -> AsyncIterator[Diagnosis]:
    from router.adapters.aws.session import open_client  # noqa: PLC0415 - as above
    from router.bootstrap.queues import aws_of, names_of, queues_of  # noqa: PLC0415 - as above

    async with AsyncExitStack() as stack:
        sts, sqs = [await open_client(stack, aws_of(settings), service) for service in ("sts", "sqs")]
        identity, why = await _called(sts.get_caller_identity)
        where = settings.aws.endpoint_url or settings.aws.region
        if why:
            yield Diagnosis("credentials", WRONG, f"{where} does not know who this is: {why}", CREDENTIALS)
            return  # nothing else would be answered
        yield Diagnosis("credentials", OK, f"{identity.get('Arn', 'somebody')} at {where}")
        names = names_of(settings)
        _, opened = await queues_of(stack, settings)
        for role, name in {
            "source": names.source_queue,
            "dead letters": names.dead_letter_queue,
            "quarantine": names.quarantine_queue,
        }.items():
            yield await _queue(f"queue of {role}", name, opened(name).depth)
        yield await _redrive(sqs, names.source_queue, names.dead_letter_queue)
        hidden = f"routers hide what they receive for {settings.source.visibility_s} s, and renew that at half"
        yield Diagnosis("visibility", OK, hidden)


async def _queue(what: str, name: str, depth: Callable[[], Any]) -> Diagnosis:
    try:
        return Diagnosis(what, OK, f"{name}: about {await depth()} messages")
    except SourceMissingError:
        return Diagnosis(what, WRONG, f"{name}: there is no such queue", "cellrouter init makes what is missing")
    except SourceDeniedError as error:
        return Diagnosis(what, WRONG, str(error), "give the role what docs/reference/iam.md lists")
    except NoSourceError as error:
        return Diagnosis(what, WRONG, str(error), "see aws.endpoint_url, the region and the network")


async def _redrive(sqs: Any, source: str, dead_letters: str) -> Diagnosis:
    if source != source.rpartition(":")[2] or "/" in source:
        return Diagnosis(
            "redrive", NOTE, f"{source} is named by URL or ARN: whoever owns it says what SQS does with it"
        )
    answer, why = await _called(partial(sqs.get_queue_url, QueueName=source))
    if not why:
        attributes = partial(sqs.get_queue_attributes, QueueUrl=answer["QueueUrl"], AttributeNames=["RedrivePolicy"])
        answer, why = await _called(attributes)
    if why:
        return Diagnosis("redrive", WRONG, f"{source}: {why}", "cellrouter init makes what is missing")
    policy = str(answer.get("Attributes", {}).get("RedrivePolicy", ""))
    if (bad := why_bad_redrive(policy, dead_letters)) is None:
        return Diagnosis("redrive", OK, f"SQS itself dead-letters to {dead_letters} what no router can settle")
    return Diagnosis(
        "redrive", NOTE, f"{source}: {bad}", "set its RedrivePolicy, as cellrouter init does for a new queue"
    )


async def _called(call: Callable[[], Any]) -> tuple[dict[str, Any], Reason]:
    """Make a call to AWS; return its answer, or what AWS says against it."""
    import asyncio  # noqa: PLC0415 - as above

    from router.adapters.aws_errors import AWS_ERRORS, error_words  # noqa: PLC0415 - as above

    try:
        async with asyncio.timeout(AWS_S):
            return await call(), ""
    except AWS_ERRORS as error:
        return {}, error_words(error)


def _show(finding: Diagnosis) -> None:
    line = Text(f"{finding.state:<6}", style=_STYLES[finding.state])
    line.append(f"{finding.what}: {finding.said}", style="")
    if finding.mend:
        line.append(f"\n      → {finding.mend}", style="bold")
    Screen().print(line)
