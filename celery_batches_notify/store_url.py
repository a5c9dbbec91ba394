"""The store's address, one URL or several joined by `;`: found, checked, and shown without secrets."""

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
    """Return the address without passwords, and without queries, which may hold a password too."""
    return ";".join(map(_show, split_addresses(address)))


def _show(url: str) -> str:
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    return f"{parts.scheme}://{user}{':**' if password else ''}{'@' if login else ''}{host}{parts.path}"


def find_address(conf: Mapping[str, Any], written: Mapping[str, str]) -> tuple[str, Source, dict[str, Any]]:
    """Return the store's address, the setting that it comes from, and the options of Celery's TLS setting.

    Args:
        conf: The app's configuration.
        written: How it writes the names of settings, for errors.

    Raises:
        ConfigurationError: The address is wrong or missing.
    """
    options = conf.get("batches_backend_options") or {}
    if not isinstance(options, Mapping) or not all(isinstance(key, str) for key in options):
        raise ConfigurationError(
            f"{written['batches_backend_options']} must be a mapping whose keys are strings, "
            f"got {type(options).__name__}"
        )
    own = conf.get("batches_backend_url")
    if own is not None:
        return check_address(written["batches_backend_url"], own, options), "batches_backend_url", {}
    for source, use_ssl in CELERYS.items():
        if _is_plain_redis(url := conf.get(source)):
            return check_address(source, url, options), source, _read_tls(use_ssl, conf.get(use_ssl))
    raise ConfigurationError(
        "batches need a Redis or Valkey, and neither the result backend nor the broker is a plain redis:// "
        'one: set batches_backend_url = "redis://localhost:6379/0"'
    )


def _is_plain_redis(url: object) -> bool:
    return isinstance(url, str) and ";" not in url and url.partition(":")[0] in ("redis", "rediss")


def _read_tls(name: str, value: object) -> dict[str, Any]:
    """Return redis-py's `ssl_*` arguments from Celery's setting for TLS."""
    if not value:
        return {}
    given = {} if value is True else value
    if not isinstance(given, Mapping) or not all(str(key).startswith("ssl_") for key in given):
        raise ConfigurationError(
            f"{name} must be True or a mapping of redis-py's ssl_* arguments, such as ssl_cert_reqs, because "
            'it holds the batches too; or set batches_backend_url = "rediss://…" and batches_backend_options'
        )
    return {"ssl": True, **given}


def check_address(name: str, address: object, options: Mapping[str, Any]) -> str:
    """Return the address of a store if it can be parsed and suits the client's options.

    Raises:
        ConfigurationError: It does not. The text leaves out every part that may be a password.
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
        raise ConfigurationError(f"{name}: all URLs joined by ; must have the same scheme")
    why = _mismatch(schemes.pop(), urls, options)
    if why:
        raise ConfigurationError(f"{name} and batches_backend_options: {why}")
    return ";".join(urls)


def _show_unreadable(address: object) -> str:
    """Describe an address with an unknown scheme, without any part that may be a password."""
    if not isinstance(address, str):
        return f"a value of type {type(address).__name__}"
    scheme, found, _ = address.partition("://")
    if scheme in SCHEMES:
        return "several with other schemes"
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
                f"{name}: the path must be the number of a database, as in redis://localhost:6379/0"
            )
    except ValueError:
        raise ConfigurationError(
            f"{name} cannot be parsed as a URL: in the password write %2F for /, %23 for #, %3F for ?, "
            "%40 for @, as urllib.parse.quote does"
        ) from None


def _mismatch(scheme: str, urls: list[str], options: Mapping[str, Any]) -> str | None:
    """Return why an address of this scheme and these options do not fit, and what to do; None if they do."""
    cluster = options.get("cluster", False)
    if not isinstance(cluster, bool):
        return '"cluster" must be True or False'
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
        return '"sentinel_kwargs" must be a mapping: redis-py\'s arguments for connections to the sentinels'
    return None


def _cluster_mismatch(scheme: str, urls: list[str], options: Mapping[str, Any]) -> str | None:
    if scheme == "unix":
        return "a Cluster is reached over redis:// or rediss://"
    if options.get("db") or any(urlsplit(url).path not in ("", "/", "/0") for url in urls):
        return "a Cluster has database 0 only: leave the number out, and tell apps apart by batches_prefix"
    return None
