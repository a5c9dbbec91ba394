"""An adapter that connects to public addresses only (extra `ssrf`)."""

from __future__ import annotations

import ipaddress
from typing import Any

from requests_hardened.ip_filter import InvalidIPAddress
from requests_hardened.ip_filter_adapter import IPFilterAdapter

from celery_batches_notify.notifiers.http.transport import AddressRefused, WatchedAdapter


class PublicOnlyAdapter(WatchedAdapter, IPFilterAdapter):  # type: ignore[misc]  # it is untyped
    """requests-hardened's adapter: it resolves once, checks the address, and connects to that address."""

    def __init__(self, *, is_tls: bool) -> None:
        IPFilterAdapter.__init__(self, is_https_proto=is_tls)

    def build_connection_pool_key_attributes(self, *args: Any, **kwargs: Any) -> Any:
        """Return the public address to connect to (called by `HTTPAdapter`), or raise `AddressRefused`."""
        try:
            host, pool = super().build_connection_pool_key_attributes(*args, **kwargs)
        except InvalidIPAddress as exc:
            raise AddressRefused("not public") from exc
        if not is_public(host["host"].strip("[]")):
            raise AddressRefused("not public")
        return host, pool


def is_public(address: str) -> bool:
    """Return whether an address is public; refuse also site-local ones and IPv4 inside `::/96`.

    requests-hardened 1.3 accepts those two.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address) and (ip.is_site_local or int(ip) < 2**32):
        return False
    return ip.is_global and not ip.is_multicast
