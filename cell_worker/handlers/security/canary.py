"""What the security workload's canary works on: an S3 key and a log that never change, so its cost never changes."""

from __future__ import annotations

import gzip
from typing import Final

import msgspec

KEY: Final = "cellrouter-canary"
"""The key that the canary reads in the cell's own bucket. No object need be there: any answer of S3 will do."""

_RECORD: Final = {
    "eventVersion": "1.11",
    "eventID": "00000000-0000-0000-0000-000000000000",
    "eventTime": "2026-01-01T00:00:00Z",
    "eventSource": "iam.amazonaws.com",
    "eventName": "CreateUser",
    "awsRegion": "us-east-1",
    "recipientAccountId": "000000000000",
    "sourceIPAddress": "192.0.2.1",
    "userIdentity": {"type": "IAMUser", "accountId": "000000000000", "userName": "canary"},
    "requestParameters": {"userName": "canary"},
}
LOG: Final = gzip.compress(msgspec.json.encode({"Records": [_RECORD]}))
"""A gzipped log of one record. One of the shipped rules matches it, so a match is part of the cost."""
