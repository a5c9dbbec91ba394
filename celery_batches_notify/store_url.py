"""The store's address: one URL, or several joined by `;`, taken apart and shown without secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from celery_batches_notify.errors import ConfigurationError

SCHEMES = ("redis", "rediss", "unix", "sentinel")
Source = Literal["batches_backend_url", "result_backend", "broker_url"]
CELERYS: dict[Source, str] = {"result_backend": "redis_backend_use_ssl", "broker_url": "broker_use_ssl"}
SENTINEL_OPTIONS = ("master_name", "sentinel_kwargs", "min_other_sentinels")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_HOST_AND_PORT = re.compile(r"[A-Za-z0-9.-]+:\d{1,5}(?:/\d*)?")
_NEXT = re.compile(r";(?=[A-Za-z0-9+.-]*://)")  # a password may hold a `;` of its own


def split_addresses(address: str) -> list[str]:
    """Return the single URLs of an address."""
    return _NEXT.split(address)


def show_address(address: str) -> str:
    """Return the address without passwords and queries, where redis-py takes a password too."""
    return ";".join(map(_show, split_addresses(address)))


def _show(url: str) -> str:
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    return f"{parts.scheme}://{user}{':**' if password else ''}{'@' if login else ''}{host}{parts.path}"


def find_address(conf: Mapping[str, Any]) -> tuple[str, Source, dict[str, Any]]:
    """Return the store's address, the setting that names it, and what Celery's own setting for TLS adds.

    Raises:
        ConfigurationError: The address is wrong, or there is none.
    """
    options = conf.get("batches_backend_options") or {}
    if not isinstance(options, Mapping) or not all(isinstance(key, str) for key in options):
        raise ConfigurationError(
            f"batches_backend_options: give a mapping with text keys, not {type(options).__name__}"
        )
    own = conf.get("batches_backend_url")
    if own is not None:
        return check_address("batches_backend_url", own, options), "batches_backend_url", {}
    for source, use_ssl in CELERYS.items():
        if _is_plain_redis(url := conf.get(source)):
            return check_address(source, url, options), source, _read_tls(use_ssl, conf.get(use_ssl))
    raise ConfigurationError(
        "batches need a Redis or Valkey to live in, and neither the result backend nor the broker is a "
        'plain redis:// one: set batches_backend_url = "redis://localhost:6379/0"'
    )


def _is_plain_redis(url: object) -> bool:
    return isinstance(url, str) and ";" not in url and url.partition(":")[0] in ("redis", "rediss")


def _read_tls(name: str, value: object) -> dict[str, Any]:
    """Read Celery's setting for TLS: a mapping of redis-py's `ssl_*` arguments."""
    if not value:
        return {}
    given = {} if value is True else value
    if not isinstance(given, Mapping) or not all(str(key).startswith("ssl_") for key in given):
        raise ConfigurationError(
            f"{name} must be True or a mapping of redis-py's ssl_* arguments, such as ssl_cert_reqs, because "
            'batches live there too; or set batches_backend_url = "rediss://…" and batches_backend_options'
        )
    return {"ssl": True, **given}


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
        if not url.startswith("unix:") and (path := urlsplit(url).path.strip("/")) and not path.isdecimal():
            raise ConfigurationError(
                f"{name}: what follows the host must be the number of a database, as in redis://localhost:6379/0"
            )
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
