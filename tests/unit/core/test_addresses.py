"""Which texts are addresses of instances: they go into URLs, and anybody with a cell's secret can sign some."""

from __future__ import annotations

import string
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from router.core.addresses import host_of

ODD = st.text(
    st.sampled_from([*string.hexdigits, *string.digits, *".:[]@/?#% \t\n\\xX", "\u0661", "\uff11"]), max_size=30
)


@pytest.mark.parametrize("good", ["10.0.0.7:8080", "127.0.0.1:1", "[::1]:80", "[fd00::5]:65535", "192.0.2.1:9"])
def test_an_address_is_an_ip_address_and_a_port(good: str) -> None:
    """IPv6 in brackets."""
    assert host_of(good) is not None


@pytest.mark.parametrize(
    "bad",
    [
        *("", ":", "127.0.0.1", "127.0.0.1:", ":80", "localhost:80", "metadata.internal:80", "127.0.0.1:80/path?"),
        *("127.0.0.1:80?x", "127.0.0.1:80#x", "user@127.0.0.1:80", "u:p@127.0.0.1:80", "127.0.0.1:80@evil.example:80"),
        *(" 127.0.0.1:80", "127.0.0.1:80\n", "127.0.0.1:80 ", "127.0.0.1 :80", "127.0.0.1:\t80", "127.0.0.1\\x:80"),
        *("127.0.0.1:0", "127.0.0.1:080", "127.0.0.1:65536", "127.0.0.1:99999", "127.0.0.1:+80", "127.0.0.1:-1"),
        *("127.0.0.1:\u0668\u0660", "\uff11\uff12\uff17.0.0.1:80", "127.0.0.1:8_0", "127.0.0.1:80:80"),
        *("127.1:80", "2130706433:80", "0x7f000001:80", "0177.0.0.1:80", "127.0.0.01:80", "127.0.0.256:80"),
        *("::1:80", "[::1]", "[::1]:", "[::1%lo]:80", "[::1%25lo]:80", "[0::1]:80", "[::0001]:80", "[FD00::5]:80"),
        *("[::ffff:127.0.0.1]:80", "[::ffff:7f00:1]:80", "[127.0.0.1]:80", "[::1]]:80", "[[::1]]:80", "[::1]:80]"),
        *("169.254.169.254:80", "169.254.170.2:80", "[fd00:ec2::254]:80", "[fd00:ec2::23]:80", "[fe80::1]:80"),
        *("0.0.0.0:80", "[::]:80", "224.0.0.1:80", "[ff02::1]:80", "fd00:ec2::254:80"),
    ],
)
def test_nothing_else_is_one(bad: str) -> None:
    """Neither what a URL takes for something else, nor where clouds have their machines' credentials."""
    assert host_of(bad) is None


@given(ODD | st.text(max_size=30))
def test_a_url_made_of_an_address_leads_there_and_nowhere_else(text: str) -> None:
    """Whatever passes is the host and the port of its URL, and all of them."""
    host = host_of(text)
    if host is None:
        return
    _, _, port = text.rpartition(":")
    split, url = urlsplit(f"http://{text}/v1/events"), URL(f"http://{text}/v1/events")
    for found in ((split.hostname, split.port, split.path, split.username), (url.host, url.port, url.path, url.user)):
        assert found == (str(host), int(port), "/v1/events", None)


@given(st.builds(IPv4Address, st.integers(1 << 24, (1 << 31) - 1)), st.integers(1, 65535))
def test_every_way_to_write_an_address_but_one_is_refused(host: IPv4Address, port: int) -> None:
    """Octal, decimal and hexadecimal numbers, and IPv4 in IPv6."""
    for text in (str(int(host)), hex(int(host)), "0" + str(host), f"[::ffff:{host}]", f"[{IPv6Address(int(host))}%1]"):
        assert host_of(f"{text}:{port}") is None
    assert host_of(f"{host}:{port}") == (None if host.is_link_local else host)
