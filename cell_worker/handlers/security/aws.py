"""Tells faults of AWS, for which an event is tried again, from faulty requests, which can never succeed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    EndpointProviderError,
    InvalidHostLabelError,
    InvalidRegionError,
    NoCredentialsError,
    ParamValidationError,
    UnknownRegionError,
    UnsupportedS3AccesspointConfigurationError,
    UnsupportedS3ArnError,
    UnsupportedS3ConfigurationError,
)
from botocore.httpsession import get_cert_path

from cell_worker.api import DeniedEvent, RetryEvent
from cell_worker.contract.aws_session import CREDENTIALS_REFUSED, UnredirectedSession

OVERLOAD_CODES: Final = frozenset(
    [
        "BandwidthLimitExceeded",
        "InternalError",
        "InternalFailure",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "Unavailable",
    ]
)
"""Error codes by which AWS says that it is overloaded or broken for now."""
CREDENTIALS_DENIED: Final = CREDENTIALS_REFUSED | {"AuthFailure"}
"""Error codes of faults of our own credentials: a refresh or an operator mends them. No event is to blame."""
CREDENTIAL_CODES: Final = CREDENTIALS_DENIED | {"RequestExpired", "RequestTimeTooSkewed"}
"""The same, and those of a faulty clock of ours."""
FAULTY_REQUESTS: Final = (
    EndpointProviderError,
    InvalidHostLabelError,
    InvalidRegionError,
    ParamValidationError,
    UnknownRegionError,
    UnsupportedS3AccesspointConfigurationError,
    UnsupportedS3ArnError,
    UnsupportedS3ConfigurationError,
)
"""What the SDK itself refuses to send, because of a name in the request: it will never do otherwise."""


class ObjectDenied(DeniedEvent):
    """AWS denies us an object, or KMS its key: no fault of the event, as far as anybody can tell from this alone."""


class CredentialsDenied(DeniedEvent):
    """AWS does not take our credentials, or there are none."""


SERVER_ERROR: Final = 500
NOT_IMPLEMENTED: Final = 501
TOO_MANY_REQUESTS: Final = 429


def trusted_certificates(session: AioSession) -> str:
    """The file of the certificates that AWS clients trust: the operator's, or those that come with botocore."""
    configured = session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    return str(configured or get_cert_path(verify=True))


def client_config(session_class: type[AIOHTTPSession] = UnredirectedSession) -> AioConfig:
    """Configure an AWS client: bounded waits, and few retries since the router retries whole events."""
    # An emulator's host is not found under bucket.host, so the bucket goes into the path. AWS itself keeps the default.
    emulated = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return AioConfig(
        http_session_cls=session_class,
        connect_timeout=5,
        read_timeout=30,
        retries={"mode": "standard", "max_attempts": 3},
        max_pool_connections=50,
        s3={"addressing_style": "path"} if emulated else None,
    )


def error_code(error: ClientError) -> str:
    """The error code of an AWS answer, such as NoSuchKey. The answer to a HEAD request has the HTTP status instead."""
    return str(error.response.get("Error", {}).get("Code", ""))


def is_transient(error: ClientError, *, credentials_proven: bool = False) -> bool:
    """Whether the same request may succeed later, since AWS, our credentials or our clock are at fault.

    `credentials_proven` says that AWS has just accepted the credentials elsewhere. A refusal of them is about the
    request then, as in a region that its account has not enabled.
    """
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if (status >= SERVER_ERROR and status != NOT_IMPLEMENTED) or status == TOO_MANY_REQUESTS:
        return True
    code = error_code(error).removeprefix("KMS.")  # S3 passes on what KMS says of an object's key
    return code in OVERLOAD_CODES or (code in CREDENTIAL_CODES and not credentials_proven)


@contextmanager
def retry_when_transient(doing: str, *, credentials_proven: bool = False) -> Iterator[None]:
    """Turn faults of the network and of AWS into RetryEvent, and those of our credentials into CredentialsDenied.

    Other ClientErrors and FAULTY_REQUESTS pass unchanged.
    """
    try:
        yield
    except ClientError as error:
        if is_transient(error, credentials_proven=credentials_proven):
            kind = CredentialsDenied if error_code(error) in CREDENTIALS_DENIED else RetryEvent
            raise kind(f"{doing}: {error}") from error
        raise
    except FAULTY_REQUESTS:
        raise
    except (NoCredentialsError, CredentialRetrievalError) as error:
        raise CredentialsDenied(f"{doing}: {error}") from error
    except (BotoCoreError, aiohttp.ClientError, OSError, TimeoutError) as error:
        raise RetryEvent(f"{doing}: {type(error).__name__}: {error}") from error
