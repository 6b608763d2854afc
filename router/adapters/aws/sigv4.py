"""AWS Signature Version 4 for the one shape of request that SQS's JSON protocol has. Pure: time is an argument.

Source: "Create a signed AWS API request", AWS IAM User Guide (reference_sigv-create-signed-request). Headers and their
order are those of botocore's SigV4Auth, so that the results can be compared byte by byte. botocore's own signer costs
about ten times as much, since it derives the key and sorts the headers again for each request.
"""

from __future__ import annotations

import hmac
import time
from functools import lru_cache
from hashlib import sha256
from typing import Final, Protocol
from urllib.parse import quote

ALGORITHM: Final = "AWS4-HMAC-SHA256"
CONTENT_TYPE: Final = "application/x-amz-json-1.0"
_SIGNED: Final = "content-type;host;x-amz-date;x-amz-target;x-amzn-query-mode"
_SIGNED_TEMPORARY: Final = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target;x-amzn-query-mode"


class Credentials(Protocol):
    """AWS credentials, in the shape of botocore's ReadOnlyCredentials."""

    @property
    def access_key(self) -> str:
        """Return the id of the access key."""
        ...

    @property
    def secret_key(self) -> str:
        """Return the secret that requests are signed with."""
        ...

    @property
    def token(self) -> str | None:
        """Return the session token of temporary credentials; None for permanent ones."""
        ...


class Signer:
    """Signs requests to one service in one region."""

    def __init__(self, region: str, service: str = "sqs") -> None:
        self._region = region
        self._service = service
        # Kept from the last call: another key, day or second is rare, and old secrets need not stay in memory.
        self._second = -1
        self._stamp = ""
        self._scope = ""
        self._keyed_by = ("", "", "")
        self._keyed = hmac.new(b"", digestmod=sha256)

    def headers(
        self, credentials: Credentials, host: str, path: str, target: str, body: bytes, now: float
    ) -> dict[str, str]:
        """Return all headers of a POST at `now` (seconds since 1970), except its Content-Length.

        `host` is the Host header as sent, with the port unless that is the scheme's default. `path` is the path as
        sent, without dot segments.
        """
        if int(now) != self._second:
            self._keep_time(int(now))
        headers = {
            "Host": host,
            "Content-Type": CONTENT_TYPE,
            "X-Amz-Date": self._stamp,
            "X-Amz-Target": target,
            # SQS then names an error by its old code too, in the header x-amzn-query-error.
            "X-Amzn-Query-Mode": "true",
        }
        token_line, signed = "", _SIGNED
        if token := credentials.token:
            headers["X-Amz-Security-Token"] = token
            token_line, signed = f"x-amz-security-token:{token}\n", _SIGNED_TEMPORARY
        request = (
            f"POST\n{_canonical(path)}\n\ncontent-type:{CONTENT_TYPE}\nhost:{host}\nx-amz-date:{self._stamp}\n"
            f"{token_line}x-amz-target:{target}\nx-amzn-query-mode:true\n\n{signed}\n{sha256(body).hexdigest()}"
        )
        signature = self._sign(credentials, sha256(request.encode()).hexdigest())
        headers["Authorization"] = (
            f"{ALGORITHM} Credential={credentials.access_key}/{self._scope}, "
            f"SignedHeaders={signed}, Signature={signature}"
        )
        return headers

    def _keep_time(self, second: int) -> None:
        self._second = second
        self._stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        self._scope = f"{self._stamp[:8]}/{self._region}/{self._service}/aws4_request"

    def _sign(self, credentials: Credentials, request_hash: str) -> str:
        day = self._stamp[:8]
        keyed_by = (credentials.access_key, credentials.secret_key, day)
        if keyed_by != self._keyed_by:
            key = signing_key(credentials.secret_key, day, self._region, self._service)
            # A copy of a keyed HMAC costs less than keying one again.
            self._keyed, self._keyed_by = hmac.new(key, digestmod=sha256), keyed_by
        mac = self._keyed.copy()
        mac.update(f"{ALGORITHM}\n{self._stamp}\n{self._scope}\n{request_hash}".encode())
        return mac.hexdigest()


def signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    """Derive the key that signs on one day (YYYYMMDD) in one region for one service."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


@lru_cache(maxsize=16)
def _canonical(path: str) -> str:
    """Encode the path once more than it is sent, as every service except S3 wants it."""
    return quote(path, safe="/~") or "/"
