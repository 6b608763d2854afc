"""Makes S3 notifications as they arrive on SQS; the account in the object's key is the partition key."""

from __future__ import annotations

import json
from typing import Final

_NUMBER: Final = "@NUMBER@"
_ACCOUNT: Final = "@ACCOUNT@"
_KEY: Final = f"AWSLogs/{_ACCOUNT}/CloudTrail/us-east-1/2026/01/01/{_ACCOUNT}_CloudTrail_us-east-1_{_NUMBER}.json.gz"
_BODY: Final = json.dumps(
    {
        "Records": [
            {
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "awsRegion": "us-east-1",
                "eventTime": "2026-01-01T00:00:00.000Z",
                "eventName": "ObjectCreated:Put",
                "userIdentity": {"principalId": "AWS:AROAEXAMPLEEXAMPLE:CloudTrail"},
                "requestParameters": {"sourceIPAddress": "203.0.113.7"},
                "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "FMyUVURIY8/IgAtTv8xRjskZ"},
                "s3": {
                    "s3SchemaVersion": "1.0",
                    "configurationId": "cellrouter",
                    "bucket": {
                        "name": "organization-logs",
                        "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
                        "arn": "arn:aws:s3:::organization-logs",
                    },
                    "object": {
                        "key": _KEY,
                        "size": 10240,
                        "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                        "sequencer": _NUMBER,
                    },
                },
            }
        ]
    },
    separators=(",", ":"),
)
_TEMPLATE: Final = json.dumps(_BODY).replace("%", "%%").replace(_ACCOUNT, "%(account)b").replace(_NUMBER, "%(number)b")
_TOKEN: Final = _TEMPLATE.encode()


def body_token(account: bytes, number: int) -> bytes:
    """Return the body of notification `number` as a JSON string, with its quotes."""
    return _TOKEN % {b"account": account, b"number": b"%016X" % number}
