"""Signatures are byte by byte those that botocore makes."""

from __future__ import annotations

from datetime import UTC, datetime
from unittest.mock import patch

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.adapters.aws.sigv4 import Signer, signing_key

PRINTABLE = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
CREDENTIALS = st.builds(
    ReadOnlyCredentials,
    access_key=st.text(PRINTABLE, min_size=1, max_size=30),
    secret_key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50),
    token=st.none() | st.text(PRINTABLE, min_size=1, max_size=1500),
)
HOST = st.builds(
    lambda labels, port: ".".join(labels) + port,
    st.lists(LABEL, min_size=1, max_size=4),
    st.just("") | st.integers(1, 65535).filter(lambda port: port != 80).map(":{}".format),
)
PATH = st.sampled_from(["/", "/", "/sqs", "/a%20b/c~d", "/sqs/"])
SECOND = st.floats(0, datetime(2100, 1, 1, tzinfo=UTC).timestamp())
REQUEST = st.tuples(CREDENTIALS, HOST, PATH, st.from_regex(r"AmazonSQS\.[A-Za-z]{1,30}", fullmatch=True), st.binary())
AT_MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
KEY = ReadOnlyCredentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None)
SMALL = (KEY, "sqs.us-east-1.amazonaws.com", "/", "AmazonSQS.ReceiveMessage", b"{}")


def by_botocore(
    region: str, credentials: ReadOnlyCredentials, host: str, path: str, target: str, body: bytes, now: float
) -> dict[str, str]:
    """The headers that botocore signs and adds to a request."""
    headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": target, "X-Amzn-Query-Mode": "true"}
    request = AWSRequest("POST", f"http://{host}{path}", headers, body)
    at = datetime.fromtimestamp(int(now), UTC).replace(tzinfo=None)
    with patch("botocore.auth.get_current_datetime", return_value=at):
        SigV4Auth(credentials, "sqs", region).add_auth(request)
    return {"Host": host, **dict(request.headers.items())}


@settings(deadline=None)
@given(LABEL, st.lists(st.tuples(REQUEST, SECOND), min_size=1, max_size=4))
@example("us-east-1", [(SMALL, AT_MIDNIGHT - 0.1), (SMALL, AT_MIDNIGHT), (SMALL, AT_MIDNIGHT + 1)])
@example("us-east-1", [((KEY._replace(secret_key=secret), *SMALL[1:]), AT_MIDNIGHT) for secret in ("a", "b", "a")])
@example("us-east-1", [((KEY._replace(token=token), *SMALL[1:]), AT_MIDNIGHT) for token in (None, "t", "")])
@example("us-east-1", [((*SMALL[:4], b'{"Body":"' + b"x" * 2_000_000 + b'"}'), AT_MIDNIGHT)])
def test_headers_are_those_of_botocore(
    region: str, calls: list[tuple[tuple[ReadOnlyCredentials, str, str, str, bytes], float]]
) -> None:
    """All headers are equal, from one signer whose key, time and credentials change from call to call."""
    signer = Signer(region)
    for request, now in calls:
        assert signer.headers(*request, now) == by_botocore(region, *request, now)


def test_the_key_of_the_documentation() -> None:
    """The example of AWS's General Reference, "Examples of how to derive a signing key"."""
    key = signing_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20120215", "us-east-1", "iam")
    assert key.hex() == "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d"


def test_the_key_of_the_test_suite() -> None:
    """The example of AWS's published suite aws-sig-v4-test-suite, which is dated 2015-08-30."""
    key = signing_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830", "us-east-1", "iam")
    assert key.hex() == "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
