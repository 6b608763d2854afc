"""Where our own SQS client and the workers call AWS, and by which proxy: as botocore itself would. Nothing is sent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from aiobotocore.httpsession import AIOHTTPSession
from aiohttp import ClientSession
from botocore.credentials import ReadOnlyCredentials

from router.adapters.aws.s3_payloads import open_payload_client
from router.adapters.aws.session import AwsConfig, open_client
from router.adapters.aws.sqs_client import SqsClient, open_sqs_client
from router.adapters.keyring import Keyring
from router.bootstrap.queues import why_no_start
from router.bootstrap.workers import _docker_config, _subprocess_config, worker_environment
from router.core.errors import ConfigError
from router.settings import load
from tests.support.aio import run
from tests.support.keys import SECRET

FIPS: Final = {"AWS_USE_FIPS_ENDPOINT": "true"}
DUAL_STACK: Final = {"AWS_USE_DUALSTACK_ENDPOINT": "true"}
VARIANTS: Final = {"plain": {}, "FIPS": FIPS, "dual-stack": DUAL_STACK, "both": FIPS | DUAL_STACK}
REGIONS: Final = (  # some of the partitions, pseudo-regions of old, and a region that botocore doesn't know
    *("us-east-1", "us-gov-west-1", "us-iso-east-1", "fips-us-east-1", "xx-new-9"),
)
VPC: Final = "https://vpce-0a1b.sqs.us-gov-west-1.vpce.amazonaws.com"
GIVEN: Final[Mapping[str, tuple[Mapping[str, str], str | None]]] = {
    "VPC endpoint": ({"AWS_ENDPOINT_URL_SQS": VPC}, None),
    "VPC endpoint with FIPS": ({"AWS_ENDPOINT_URL_SQS": VPC, **FIPS}, None),
    "SQS' own before the one of all": ({"AWS_ENDPOINT_URL": "http://a:1", "AWS_ENDPOINT_URL_SQS": "http://b:2"}, None),
    "of all": ({"AWS_ENDPOINT_URL": "http://localhost:4566/path/"}, None),
    "another service's": ({"AWS_ENDPOINT_URL_S3": "http://localhost:4566"}, None),
    "ignored": ({"AWS_ENDPOINT_URL": "http://a:1", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, None),
    "of the configuration": (
        {"AWS_ENDPOINT_URL_SQS": VPC, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
        "http://c:3",
    ),
}
PROXIES: Final[tuple[Mapping[str, str], ...]] = (
    {"HTTPS_PROXY": "http://proxy.example:3128"},
    {"https_proxy": "proxy.example:3128"},
    {"https_proxy": "http://u:p%40@proxy.example:3128", "HTTPS_PROXY": "http://other.example"},
    {"HTTP_PROXY": "http://proxy.example:3128"},
    {"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "amazonaws.com"},
    {"HTTPS_PROXY": "http://proxy.example:3128", "no_proxy": ".eu-west-1.amazonaws.com,x"},
    {"ALL_PROXY": "socks5://localhost:1080", "ftp_proxy": "ftp://x"},
)


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the machine says of AWS and of proxies."""
    for name in os.environ:
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "key")


class Sent:
    """What botocore was about to send, and by which proxy."""

    def __init__(self) -> None:
        self.url = self.scope = ""
        self.proxy: str | None = None

    def on_send(self, request: Any, **_: Any) -> Any:
        """Note a request, and answer it in AWS' place."""
        self.url = request.url
        self.scope = scope_in(request.headers["Authorization"])
        raise ConnectionError("it is enough to know where it would go")


def scope_in(authorization: str | bytes) -> str:
    """Return region and service that a request is signed for."""
    text = authorization.decode() if isinstance(authorization, bytes) else authorization
    return "/".join(text.split("Credential=")[1].split(",")[0].split("/")[2:])


async def of_botocore(config: AwsConfig, service: str = "sqs") -> Sent:
    """Let botocore make a call up to where it would be sent."""
    sent = Sent()
    async with AsyncExitStack() as stack:
        theirs = await open_client(stack, config, service)
        theirs.meta.events.register("before-send", sent.on_send)
        session = theirs._endpoint.http_session
        assert isinstance(session, AIOHTTPSession)
        with pytest.raises(ConnectionError):
            await theirs.list_queues()
        sent.proxy = session._proxy_config.proxy_url_for(sent.url)
    return sent


async def of_ours(config: AwsConfig) -> tuple[SqsClient, str]:
    """Open our own client, and return it with the region and service that it signs for."""
    async with AsyncExitStack() as stack:
        client = await open_sqs_client(stack, config, connections=1, read_timeout_s=1)
        headers = client._signer.headers(ReadOnlyCredentials("k", "s", None), "h", "/", "t", b"", 0)
        return client, scope_in(headers["Authorization"])


def compared(config: AwsConfig) -> Sent:
    """Assert that our client calls and signs as botocore does, by the same proxy; returns what botocore does."""

    async def story() -> Sent:
        theirs, (ours, scope) = await of_botocore(config), await of_ours(config)
        proxy = ours._session._default_proxy if isinstance(ours._session, ClientSession) else None
        assert (ours.endpoint_url, scope, proxy and str(proxy)) == (theirs.url, theirs.scope, theirs.proxy)
        return theirs

    return run(story())


def given(monkeypatch: pytest.MonkeyPatch, environ: Mapping[str, str]) -> None:
    """Set these variables."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_each_partition_and_variant(region: str, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """FIPS and dual-stack have other names in each partition; a pseudo-region is signed as the one that it means."""
    given(monkeypatch, VARIANTS[variant])
    compared(AwsConfig(region))


def test_a_variant_that_a_partition_lacks_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to take back."""
    given(monkeypatch, DUAL_STACK)
    for opened in (of_ours, of_botocore):
        with pytest.raises(ConfigError, match=r"no endpoint of sqs in eu-isoe-west-1 that is dualstack: take back"):
            run(opened(AwsConfig("eu-isoe-west-1")))


NOT_ALL: Final = "AWS is reached by no other proxies"


@pytest.mark.parametrize(
    ("environ", "faults"),
    [
        (FIPS | DUAL_STACK, []),
        ({"AWS_ENDPOINT_URL_SQS": VPC, "AWS_ENDPOINT_URL": "http://a:1", "HTTPS_PROXY": "http://p:3128"}, []),
        ({"AWS_ENDPOINT_URL_SQS": "sqs"}, ["Invalid endpoint: sqs"]),
        ({"AWS_ENDPOINT_URL_S3": "s3", "AWS_ENDPOINT_URL_DYNAMODB": "d"}, ["Invalid endpoint: s3"]),
        (
            {"AWS_ENDPOINT_URL_S3": "s3", "AWS_ENDPOINT_URL_DYNAMODB": "d", "CELLROUTER_CELLS_STORE": "dynamodb"},
            ["Invalid endpoint: s3", "Invalid endpoint: d"],
        ),
        ({"CELLROUTER_AWS_REGION": "eu-isoe-west-1", **DUAL_STACK}, ["of sqs in", "of s3 in", "of firehose in"]),
        ({"https_proxy": "socks5://h:1"}, [NOT_ALL]),
        ({"http_proxy": "socks5://h:1", "AWS_ENDPOINT_URL_SQS": "http://vpce-0a1b.sqs.example"}, [NOT_ALL]),
        ({"AWS_PROFILE": "nobody"}, ["AWS_PROFILE: The config profile (nobody) could not be found"]),
    ],
)
def test_check_config_knows_what_cant_be_reached(
    environ: dict[str, str], faults: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it at once, each once, and of each service that routers and controllers use; nobody is called."""
    given(monkeypatch, environ)
    found = run(why_no_start(load({"CELLROUTER_SECRET": SECRET, "CELLROUTER_AWS_REGION": "eu-west-1"} | environ)))
    assert len(found) == len(faults), found
    assert [says for says, fault in zip(faults, found, strict=True) if says not in fault] == []


def test_a_bucket_of_payloads_that_cant_be_reached_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """As any other fault of the configuration, without a traceback."""
    given(monkeypatch, {"AWS_ENDPOINT_URL_S3": "s3"})

    async def story() -> None:
        async with AsyncExitStack() as stack:
            await open_payload_client(stack, AwsConfig("eu-west-1"))

    with pytest.raises(ConfigError, match="Invalid endpoint: s3"):
        run(story())


@pytest.mark.parametrize("name", GIVEN)
def test_endpoints_that_are_given(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By variables or by the configuration, which wins."""
    environ, endpoint_url = GIVEN[name]
    given(monkeypatch, environ)
    theirs = compared(AwsConfig("us-gov-west-1", endpoint_url))
    assert endpoint_url is None or theirs.url.startswith(endpoint_url)


def test_endpoints_of_a_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As ~/.aws/config names them for one service."""
    (tmp_path / "config").write_text(f"[default]\nservices = mine\n[services mine]\nsqs =\n  endpoint_url = {VPC}\n")
    given(monkeypatch, {"AWS_CONFIG_FILE": str(tmp_path / "config")})
    assert compared(AwsConfig("us-gov-west-1")).url == f"{VPC}/"


@pytest.mark.parametrize("environ", PROXIES)
def test_proxies(environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that botocore doesn't ask is no fault, whatever its scheme is."""
    given(monkeypatch, environ)
    compared(AwsConfig("eu-west-1"))


def test_workers_call_the_endpoint_of_our_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """As we do ourselves, whatever other variables name; without one, they have our variables, and botocore decides."""
    url = "http://c:3"
    given(monkeypatch, {"AWS_ENDPOINT_URL_SQS": VPC, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true", **FIPS})
    for endpoint_url in ({"CELLROUTER_AWS_ENDPOINT_URL": url}, {}):
        environ = dict(os.environ) | worker_environment(load({"CELLROUTER_SECRET": SECRET, **endpoint_url}))
        given(monkeypatch, environ)

        async def story() -> str:
            return (await of_botocore(AwsConfig(environ["AWS_REGION"]))).url  # noqa: B023 - run at once

        assert run(story()).startswith(url)


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "http_proxy", "NO_PROXY", "AWS_USE_FIPS_ENDPOINT", "AWS_CA_BUNDLE"])
def test_workers_get_what_says_how_to_reach_aws(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Processes and containers alike."""
    given(monkeypatch, {name: "x"})
    settings = load({"CELLROUTER_SECRET": SECRET, "CELLROUTER_CELLS_DATA_DIR": str(tmp_path)})
    keys = Keyring(settings.environment, [SECRET])
    assert _docker_config(settings, keys).variables[name] == "x"
    assert _subprocess_config(settings, keys).environment[name] == "x"
