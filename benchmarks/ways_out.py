"""Sends many fuzzed messages on every way out, and says how many came back as they were.

    python -m benchmarks.ways_out [MESSAGES] [SEED]

The messages are of every code point class, of 1 byte to 1 MiB, with attributes of all types, under limits of 256 KiB
and 1 MiB for source, dead-letter and hold queue. Nothing runs but the router's own code and what SQS documents that
it takes (tests/support/strict_sqs.py), so this needs no server: about 40 messages a second.
"""

from __future__ import annotations

import sys
from random import Random  # noqa: TID251 - seeded
from time import perf_counter

from tests.support.fuzz_messages import WaysOut


def main(messages: int = 100_000, seed: int = 1) -> None:
    """Try so many messages; the first that is lost or changed raises."""
    ways, began = WaysOut(Random(seed)), perf_counter()
    for number in range(1, messages + 1):
        ways.try_one()
        if number % 10_000 == 0:
            print(f"{number} of {messages} after {perf_counter() - began:.0f} s", flush=True)
    for name, count in sorted(ways.counts.items()):
        print(f"{count:>14}  {name}")
    letters = ways.counts["dead letters"]
    print(f"{letters - ways.counts['redriven']:>14}  undeliverable, or changed on their way back")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
