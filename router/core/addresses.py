"""Which text is the address of an instance: an IP address and a port, in the one way to write them. Pure.

An address goes into a URL as it is. So nothing passes that a URL could take for anything else: no user, path or zone,
no name, no other way to write a number. Nor does one pass at which no instance can be, whatever networks are allowed:
clouds answer there with a machine's credentials.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

_ADDRESS: Final = re.compile(r"(?:([0-9.]{7,15})|\[([0-9a-f:]{2,39})\]):([1-9][0-9]{0,4})")
_MAX_PORT: Final = 65535
_METADATA: Final = IPv6Network("fd00:ec2::/32")  # where AWS has services of the machine itself, beside 169.254.0.0/16


def host_of(address: str) -> IPv4Address | IPv6Address | None:
    """Return the IP address of an instance's `ip:port`; None where the text is none, or none of an instance."""
    found = _ADDRESS.fullmatch(address)
    if found is None or int(found[3]) > _MAX_PORT:
        return None
    text = found[1] or found[2]
    try:
        host = ip_address(text)
    except ValueError:
        return None
    if str(host) != text or host.is_link_local or host.is_multicast or host.is_unspecified:
        return None
    if isinstance(host, IPv6Address) and (host.ipv4_mapped is not None or host in _METADATA):
        return None
    return host
