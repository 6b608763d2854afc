"""What the security workload tries its way on when it is asked how it is: an object and a log that never change."""

from __future__ import annotations

import gzip
from typing import Final

import msgspec

KEY: Final = "cellrouter-canary"
"""Asked for in the cell's own bucket. It need not be there: that S3 says so is answer enough."""

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
"""One of the shipped rules matches it."""
