"""The versions that this package works with, and the internals of other packages that it relies on.

`Batches(app)` looks for each of these internals, because a count that goes wrong says nothing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from celery_batches_notify import __version__
from celery_batches_notify.errors import ConfigurationError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Supported:
    """The versions of a package: the first that works, and the last that was tested."""

    package: str
    first: str
    tested: str

    @property
    def requirement(self) -> str:
        """The tested versions, as pip takes them."""
        major, minor, *_ = _numbers(self.tested)
        return f"{self.package}>={self.first},<{major}.{minor + 1}"


SUPPORTED = {
    "celery": Supported(package="celery", first="5.5.3", tested="5.7"),
    "kombu": Supported(package="kombu", first="5.5.2", tested="5.7"),
    "redis": Supported(package="redis", first="5.2", tested="8.1"),
}
# module:object, the attributes of it that are replaced or used, and what for
INTERNALS = (
    ("celery.app.amqp:AMQP", "_create_task_sender send_task_message as_task_v2", "to send task messages"),
    ("celery:_state", "_get_active_apps", "to refuse calls of other apps in a block"),
    ("celery.app.amqp:task_message", "headers properties body sent_event", "to read task messages"),
    ("celery.app.base:Celery", "send_task subclass_with_self AsyncResult", "to collect calls"),
    ("celery.app.base:Celery", "current_worker_task steps thread_oid", "to know which task runs"),
    ("celery.app.task:Task", "_get_exec_options", "to call tasks"),
    ("celery.app.task:Context", "replaced_task_nesting is_eager", "to know which task runs"),
    ("celery.local:Proxy", "_get_current_object", "to find tasks"),
    ("celery.result:AsyncResult", "get supports_native_join", "to refuse to wait inside a block"),
    ("celery.backends.base:Backend", "store_result on_task_call", "to see which state a task stores"),
    ("kombu.serialization:registry", "dumps loads", "to store calls"),
    (
        "redis.connection:Connection",
        "connect pack_command send_packed_command read_response",
        "to run scripts",
    ),
    ("redis.connection:Connection", "can_read disconnect send_command", "to record what runs"),
    ("redis.connection:SSLConnection", "_wrap_socket_with_ssl", "to keep forks out of a TLS handshake"),
    ("redis.connection:ConnectionPool", "get_connection release", "to run scripts"),
    ("redis.retry:Retry", "call_with_retry", "to run scripts"),
)
INTERNALS_OF_WORKERS = (
    ("celery.concurrency.base:BasePool", "terminate_job", "to end cancelled members"),
    ("celery.worker.request:Request", "on_failure acknowledge request_dict", "to count outcomes"),
    (
        "celery.worker.request:Request",
        "revoked terminate _announce_revoked _already_revoked",
        "to discard members",
    ),
    ("celery.worker.state:reserved_requests", "add discard", "to know what a worker runs"),
)


@cache
def check_versions() -> None:
    """Check Celery, kombu and redis-py once per process; log a warning for each untested version.

    Raises:
        ConfigurationError: One is too old, or lacks an internal that this package relies on.
    """
    for package in SUPPORTED:
        check_version(package, import_module(package).__version__)
    check_internals(INTERNALS)


@cache
def check_versions_of_worker() -> None:
    """Look for the internals that workers rely on. Raises `ConfigurationError`."""
    check_internals(INTERNALS_OF_WORKERS)


def check_version(package: str, installed: str) -> None:
    """Log a warning if a version was not tested. Raises `ConfigurationError` if it is too old."""
    supported, found = SUPPORTED[package], _numbers(installed)
    if found < _numbers(supported.first):
        raise ConfigurationError(
            f"{package} {installed} is too old for celery-batches-notify, which needs {supported.first} or "
            f'newer: pip install "{supported.requirement}"'
        )
    if found[:2] > _numbers(supported.tested):
        logger.warning(
            "batches: %s %s was not tested with this version of celery-batches-notify, which was tested with "
            "%s to %s",
            package,
            installed,
            supported.first,
            supported.tested,
        )


def check_internals(internals: Iterable[tuple[str, str, str]]) -> None:
    """Look for internals of other packages. Raises `ConfigurationError`, which says what to install."""
    for place, names, purpose in internals:
        module, _, name = place.partition(":")
        package = module.partition(".")[0]
        try:
            holder = getattr(import_module(module), name)
            for attribute in names.split():
                getattr(holder, attribute)
        except (ImportError, AttributeError) as exc:
            raise _does_not_fit(package, f"{module}.{name}", purpose) from exc


def _does_not_fit(package: str, what: str, purpose: str) -> ConfigurationError:
    installed = import_module(package).__version__
    return ConfigurationError(
        f"{package} {installed} does not fit celery-batches-notify {__version__}, which "
        f'needs {what} {purpose}: pip install "{SUPPORTED[package].requirement}"'
    )


def _numbers(text: str) -> tuple[int, ...]:
    """Return the numbers that a version begins with."""
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, found[0].split("."))) if found else ()
