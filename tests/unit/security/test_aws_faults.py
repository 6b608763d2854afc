"""Which faults of AWS may pass, and which are the request's own for ever."""

from __future__ import annotations

import pytest
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    InvalidRegionError,
    NoCredentialsError,
    UnknownRegionError,
    UnsupportedS3ArnError,
)

from cell_worker.api import RejectEvent, RetryEvent
from cell_worker.handlers.security.aws import (
    CREDENTIAL_CODES,
    CredentialsDenied,
    is_transient,
    retry_when_transient,
)
from cell_worker.handlers.security.logs import log_object
from tests.support.security_world import notification


def answer(code: str, status: int = 400) -> ClientError:
    """An error that AWS answers with."""
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")


@pytest.mark.parametrize("code", sorted(CREDENTIAL_CODES))
def test_credentials_that_were_just_accepted_are_not_at_fault(code: str) -> None:
    """A region that its account has not enabled refuses them for ever. Before that a refusal may be ours."""
    assert is_transient(answer(code))
    assert not is_transient(answer(code), credentials_proven=True)
    assert is_transient(answer("SlowDown"), credentials_proven=True)
    assert is_transient(answer("Whatever", 503), credentials_proven=True)


def test_what_the_sdk_refuses_to_send_is_not_infrastructure() -> None:
    """A name in the request is at fault; a host that can't be reached and missing credentials may get better."""
    for fault in (
        InvalidRegionError(region_name="bad region!"),
        UnknownRegionError(region_name="x", error_msg="no"),
        UnsupportedS3ArnError(arn="arn:aws:s3:::x"),
    ):
        with pytest.raises(type(fault)), retry_when_transient("reading"):
            raise fault
    for outage, outcome in (
        (EndpointConnectionError(endpoint_url="http://x"), RetryEvent),
        (answer("RequestTimeTooSkewed"), RetryEvent),
        (NoCredentialsError(), CredentialsDenied),
        (CredentialRetrievalError(provider="a role", error_msg="no"), CredentialsDenied),
        (answer("ExpiredToken"), CredentialsDenied),
    ):
        with pytest.raises(RetryEvent) as caught, retry_when_transient("reading"):
            raise outage
        assert type(caught.value) is outcome


@pytest.mark.parametrize(
    ("bucket", "key", "version", "reason"),
    [
        ("theirs", "k", None, "CELL_SECURITY_BUCKETS doesn't name"),
        ("arn:aws:s3::210987654321:accesspoint/evil.mrap", "k", None, "CELL_SECURITY_BUCKETS doesn't name"),
        ("logs", "k" * 1025, None, "longer than S3's 1024 bytes"),
        ("logs", "%C3%BC" * 513, None, "longer than S3's 1024 bytes"),
        ("logs", "k", "v" * 10**6, "longer than S3's 1024 bytes"),
        ("logs", "AWSLogs/../other/k", None, "a dot for a part"),
        ("logs", "AWSLogs/%2E%2E/other/k", None, "a dot for a part"),
    ],
)
def test_an_object_that_can_not_be_ours_is_never_asked_for(
    bucket: str, key: str, version: str | None, reason: str
) -> None:
    """Its event is rejected at once, with a short reason."""
    with pytest.raises(RejectEvent, match=reason) as caught:
        log_object(notification(bucket, key, versionId=version), frozenset({"logs"}))
    assert len(str(caught.value)) < 500
