"""Where a request comes from, as far as limits are concerned.

Nothing here reads X-Forwarded-For: uvicorn does, if it comes from a proxy that it was told to trust.
"""

from ipaddress import IPv6Address, ip_address, ip_network

from django.http import HttpRequest
from rest_framework.request import Request

HOUSEHOLD = 64  # leading bits of an IPv6 address that one customer has; the rest they choose as they like


def network_of(request: HttpRequest | Request) -> str:
    """The peer's address; of IPv6 the network; empty on a socket that has none."""
    peer: str = request.META.get("REMOTE_ADDR", "")
    try:
        address = ip_address(peer)
    except ValueError:
        return ""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ip_network((address.packed, HOUSEHOLD), strict=False))
    return str(address)
