"""Each source of credentials that AWS' tools know: what it gives anew is used within seconds of a refusal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest
from botocore.credentials import SSOProvider

from cell_worker.contract.aws_session import RETRY_S
from tests.support.aio import run
from tests.support.aws_callers import Aws, call, given, settled, sqs_of
from tests.support.fake_clock import FakeClock
from tests.support.http_answers import http, server
from tests.support.no_credentials import without_keys

SIGN_IN: Final = "https://sign-in.example"
END: Final = "2099-01-01T00:00:00Z"
Setting = Callable[[pytest.MonkeyPatch, Path, str], None]
"""Sets what names a source, given a folder and the source's URL."""


def a_task(monkeypatch: pytest.MonkeyPatch, _: Path, url: str) -> None:
    """A task of ECS."""
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)


def an_instance(monkeypatch: pytest.MonkeyPatch, _: Path, url: str) -> None:
    """An instance of EC2 with a role."""
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")


def a_web_identity(monkeypatch: pytest.MonkeyPatch, folder: Path, url: str) -> None:
    """A pod of EKS: a token in a file, and STS."""
    (folder / "token").write_text("a token")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/router")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(folder / "token"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")


def a_sign_in(monkeypatch: pytest.MonkeyPatch, folder: Path, url: str) -> None:
    """A person's computer, after `aws sso login`."""
    account = "sso_account_id = 123456789012\nsso_role_name = operator"
    (folder / "config").write_text(f"[default]\nsso_start_url = {SIGN_IN}\nsso_region = eu-west-1\n{account}\n")
    token = {"startUrl": SIGN_IN, "region": "eu-west-1", "accessToken": "a token", "expiresAt": END}
    (folder / f"{hashlib.sha1(SIGN_IN.encode()).hexdigest()}.json").write_text(json.dumps(token))
    monkeypatch.setattr(SSOProvider, "_SSO_TOKEN_CACHE_DIR", str(folder))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", url)


def answer(request: bytes, key: str) -> bytes:
    """Give a key as each of these sources does."""
    path = request.split(b" ", 2)[1].decode()
    if path.startswith("/latest/api/token"):
        return http(200, b"a token")
    if path == "/latest/meta-data/iam/security-credentials/":
        return http(200, b"a-role")
    if path.startswith("/federation/credentials"):
        role = {"accessKeyId": key, "secretAccessKey": "s", "sessionToken": "t", "expiration": 4_070_908_800_000}
        return http(200, {"roleCredentials": role})
    if b"AssumeRoleWithWebIdentity" in request:
        return http(200, STS.format(key=key).encode())
    return given(key, Code="Success")


STS: Final = f"""
<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult><Credentials>
    <AccessKeyId>{{key}}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>
    <Expiration>{END}</Expiration>
  </Credentials></AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>"""


@pytest.mark.parametrize("source", [a_task, an_instance, a_web_identity, a_sign_in])
def test_what_a_source_gives_anew_is_used_within_seconds(
    source: Setting, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a restart, though what it gave before would be good for hours by its own word."""
    clock, aws, keys = FakeClock(), Aws(), ["OLD"]

    async def story() -> float:
        async with (
            server(lambda request: answer(request, keys[-1])) as url,
            server(aws.answer) as endpoint,
            AsyncExitStack() as stack,
        ):
            source(monkeypatch, tmp_path, url)
            sqs = await sqs_of(stack, endpoint, clock)
            assert not await call(sqs)
            assert aws.seen == ["OLD"]
            keys.append("NEW")
            aws.refuses, rotated_at = {"OLD": "ExpiredToken"}, clock.now
            while aws.seen[-1] != "NEW" and clock.now < rotated_at + 60:
                clock.now += 1
                await call(sqs)
                await settled(sqs._credentials)
            assert not await call(sqs)
            return clock.now - rotated_at

    without_keys(monkeypatch)
    assert run(story()) <= RETRY_S + 1
