"""The store's address: one URL, or several joined by `;`, taken apart and shown without secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from kombu.utils.url import maybe_sanitize_url

from celery_batches_notify.errors import ConfigurationError

SCHEMES = ("redis", "rediss", "unix", "sentinel")
SENTINEL_OPTIONS = ("master_name", "sentinel_kwargs", "min_other_sentinels")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_HOST_AND_PORT = re.compile(r"[A-Za-z0-9.-]+:\d{1,5}(?:/\d*)?")
_NEXT = re.compile(r";(?=[A-Za-z0-9+.-]*://)")  # a password may hold a `;` of its own


def split_addresses(address: str) -> list[str]:
    """Return the single URLs of an address."""
    return _NEXT.split(address)


def show_address(address: str) -> str:
    """Return the address without passwords and queries, where redis-py takes a password too."""
    return ";".join(maybe_sanitize_url(url) for url in split_addresses(address))


def check_address(name: str, address: object, options: Mapping[str, Any]) -> str:
    """Return the address of a store, if it can be taken apart and goes with the client's options.

    Raises:
        ConfigurationError: It cannot. The text repeats no part of it that may be a password.
    """
    urls = split_addresses(address) if isinstance(address, str) else []
    schemes = {url.partition("://")[0] for url in urls}
    if not urls or not schemes <= set(SCHEMES):
        raise ConfigurationError(
            f"{name} must be a redis://, rediss:// or unix:// URL, or sentinel:// ones, "
            f"got {_show_unreadable(address)}"
        )
    for url in urls:
        _check_readable(name, url)
    if len(schemes) > 1:
        raise ConfigurationError(f"{name}: several URLs joined by ; must all begin alike")
    why = _mismatch(schemes.pop(), urls, options)
    if why:
        raise ConfigurationError(f"{name} and batches_backend_options: {why}")
    return ";".join(urls)


def _show_unreadable(address: object) -> str:
    """Say what an address is that has no scheme of ours; what may be a password stays hidden."""
    if not isinstance(address, str):
        return f"a value of type {type(address).__name__}"
    scheme, found, _ = address.partition("://")
    if scheme in SCHEMES:
        return "several that begin otherwise"
    if found and _SCHEME.fullmatch(scheme):
        return f"{scheme}://…"
    if _HOST_AND_PORT.fullmatch(address):
        return f"{address} (did you mean redis://{address}?)"
    return "a string without a scheme"


def _check_readable(name: str, url: str) -> None:
    try:
        urlsplit(url).port  # noqa: B018 - reading it checks it
    except ValueError:
        raise ConfigurationError(
            f"{name} is no URL that can be read: in the password write %2F for /, %23 for #, %3F for ?, "
            "%40 for @, as urllib.parse.quote does"
        ) from None


def _mismatch(scheme: str, urls: list[str], options: Mapping[str, Any]) -> str | None:
    """Why this kind of address and these options do not go together, with the mend."""
    cluster = options.get("cluster", False)
    if not isinstance(cluster, bool):
        return '"cluster" is True or False'
    if scheme == "sentinel":
        return _sentinel_mismatch(options)
    if stray := sorted(options.keys() & set(SENTINEL_OPTIONS)):
        return f'"{stray[0]}" is for Sentinel, whose URLs are those of the sentinels: sentinel://host:26379'
    if cluster:
        return _cluster_mismatch(scheme, urls, options)
    if len(urls) > 1:
        return 'several URLs are for Sentinel (sentinel://), or for a Cluster: add {"cluster": True}'
    return None


def _sentinel_mismatch(options: Mapping[str, Any]) -> str | None:
    if options.get("cluster"):
        return 'Sentinel or "cluster", not both: the nodes of a Cluster have redis:// or rediss:// URLs'
    if not isinstance(options.get("master_name"), str) or not options["master_name"]:
        return 'for Sentinel add {"master_name": "mymaster"}, the name that the sentinels give the master'
    if not isinstance(options.get("sentinel_kwargs", {}), Mapping):
        return '"sentinel_kwargs" is a mapping: redis-py\'s arguments for the connections to the sentinels'
    return None


def _cluster_mismatch(scheme: str, urls: list[str], options: Mapping[str, Any]) -> str | None:
    if scheme == "unix":
        return "a Cluster is reached over redis:// or rediss://"
    if options.get("db") or any(urlsplit(url).path not in ("", "/", "/0") for url in urls):
        return "a Cluster has database 0 only: leave the number out, and tell apps apart by batches_prefix"
    return None
