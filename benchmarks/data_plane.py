"""CPU time an event in the router itself: queues and cells are in memory and cost next to nothing.

Prints each part's share as a ratio to the whole of the same run; absolute times are this machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import uvloop

from router.adapters.clock import SystemClock
from router.core.messages import Extraction, Parser
from router.core.models import Draft, Event, Message, Outcome, Result, Target
from router.core.retry import RetryPolicy
from router.core.slots import SlotMap, assign
from router.core.telemetry import Record
from router.services.dispatcher import Dispatcher, DispatcherConfig, Routing
from router.services.inbox import Inbox

CELLS = [f"cell-{i:04d}" for i in range(8)]
BODY = json.dumps(
    {
        "Records": [
            {
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "awsRegion": "us-east-1",
                "eventName": "ObjectCreated:Put",
                "s3": {
                    "bucket": {"name": "logs", "arn": "arn:aws:s3:::logs"},
                    "object": {"key": "AWSLogs/123456789012/CloudTrail/x.json.gz", "size": 10_000, "sequencer": "0A1B"},
                },
            }
        ]
    }
)


class Notifications:
    """A queue with so many notifications, and nothing that costs time."""

    name = "bench"

    def __init__(self, count: int) -> None:
        self.left = count
        self.deleted = 0

    async def receive(self, max_messages: int, wait_s: float, visibility_s: int) -> list[Message]:
        count = min(max_messages, self.left)
        first, self.left = self.left, self.left - count
        return [
            Message(f"m{first - i}", "r", BODY.replace("123456789012", f"{first - i:012d}"), 0, 1) for i in range(count)
        ]

    async def delete(self, messages: Sequence[Message]) -> list[Message]:
        self.deleted += len(messages)
        return []

    async def set_visibility(self, messages: Sequence[Message], seconds: int) -> None:
        return

    async def send(self, drafts: Sequence[Draft]) -> list[int]:
        return []


class InstantCells:
    """Cells that are done at once."""

    async def process(self, target: Target, batch: Sequence[Event]) -> AsyncIterator[Result]:
        await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop, as a real call takes
        for index in range(len(batch)):
            yield Result(index, Outcome.OK)


class Silent:
    """An Observer."""

    def observe(self, record: Record) -> None:
        return


async def whole(count: int) -> float:
    """CPU seconds an event, from receive to delete."""
    clock, source = SystemClock(), Notifications(count)
    inbox = Inbox(source, clock, Silent(), 30)
    config = DispatcherConfig("bench", RetryPolicy(), 1000, 64 * 1024 * 1024, 30, 0)
    idle = Notifications(0)
    dispatcher = Dispatcher(config, Parser(Extraction()), InstantCells(), idle, lambda _: idle, clock, Silent())
    slot_map = SlotMap(1, assign(None, dict.fromkeys(CELLS, 1.0)))
    running = [asyncio.create_task(inbox.run()), asyncio.create_task(dispatcher.run())]
    await asyncio.sleep(0)  # noqa: TID251 - lets the tasks begin
    dispatcher.apply(Routing(slot_map, {cell: Target(cell, 1, "a:1", 64, 1) for cell in CELLS}))
    for path in dispatcher.paths.values():
        path.hold.stop()  # an empty queue in memory would be polled without end
    begun = time.process_time()
    while source.deleted < count:
        if len(inbox) < 500:
            dispatcher.accept(inbox, await inbox.receive(10, 0))
        await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop
    used = time.process_time() - begun
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return used / count


def repeated(count: int, call: Callable[[], object]) -> float:
    """CPU seconds a call."""
    begun = time.process_time()
    for _ in range(count):
        call()
    return (time.process_time() - begun) / count


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    arguments.add_argument("--events", type=int, default=50_000)
    arguments.add_argument("--json", type=Path, help="write the figures to this file")
    options = arguments.parse_args()
    parser, message = Parser(Extraction()), Message("m", "r", BODY, 0, 1)
    slot_map = SlotMap(1, assign(None, dict.fromkeys(CELLS, 1.0)))
    total = uvloop.run(whole(options.events))
    parts = {
        "receive to delete": total,
        "of it: parse": repeated(options.events, lambda: parser.parse(message)),
        "of it: slot look-up": repeated(options.events, lambda: slot_map.cell_of("123456789012")),
    }
    for name, seconds in parts.items():
        print(f"{name:20} {seconds * 1e6:7.2f} us an event   {seconds / total:5.2f} of the whole")
    if options.json:
        figures = {name: {"us": seconds * 1e6, "ratio": seconds / total} for name, seconds in parts.items()}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
