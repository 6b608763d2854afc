"""A shell with a proxy breaks no command: what is near is called without it, AWS with it."""

from __future__ import annotations

import pytest
from botocore.utils import get_environ_proxies
from typer.testing import CliRunner

from router.cli.main import app
from tests.support.keys import SECRET


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY"])
def test_every_command_spares_what_is_near(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that are no process of the system, such as `dlq`, `init`, `destroy`."""
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    given = {"no_proxy": "", "NO_PROXY": "", name: "http://proxy.example:3128", "CELLROUTER_SECRET": SECRET}
    for variable, value in (given | {"CELLROUTER_AWS_ENDPOINT_URL": "http://ministack:4566"}).items():
        monkeypatch.setenv(variable, value)
    assert CliRunner().invoke(app, ["cell-secret", "cell-0000"]).exit_code == 0
    for near in ("http://127.0.0.1:4566", "http://localhost:4566", "http://ministack:4566", "http://169.254.170.2/v2"):
        assert get_environ_proxies(near) == {}
    assert get_environ_proxies("https://sqs.eu-west-1.amazonaws.com")
