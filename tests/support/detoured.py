"""Runs cellrouter with a detour: what it sends to one port of an instance goes to another, where a test's proxy stands.

A router has the addresses of instances from their signed leases, so nothing outside of its process leads it elsewhere.
"""

from __future__ import annotations

import os
import runpy
import socket
from collections.abc import Sequence
from typing import Any

import aiohappyeyeballs
from aiohappyeyeballs import AddrInfoType

DETOUR = "DETOUR"
"""The environment variable that names both ports: `FROM:TO`."""

_straight = aiohappyeyeballs.start_connection


async def _around(addr_infos: Sequence[AddrInfoType], **options: Any) -> socket.socket:
    taken, instead = map(int, os.environ[DETOUR].split(":"))
    return await _straight([_led(each, taken, instead) for each in addr_infos], **options)


def _led(info: AddrInfoType, taken: int, instead: int) -> AddrInfoType:
    *kind, (host, port, *rest) = info
    return (*kind, (host, instead if port == taken else port, *rest))  # type: ignore[return-value] # of the same shape


if __name__ == "__main__":
    aiohappyeyeballs.start_connection = _around
    runpy.run_module("router", run_name="__main__")
