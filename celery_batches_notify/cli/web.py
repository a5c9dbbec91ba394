"""Serving the status page from the command line."""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Collection

import click
from celery import Celery

from celery_batches_notify.cli.engine_of import engine_of
from celery_batches_notify.cli.output import Output
from celery_batches_notify.errors import ConfigurationError


def serve_page(
    app: Celery, out: Output, *, host: str, port: int, auth: str | None, actions: bool, behind_proxy: bool
) -> int:
    """Serve the status page until interrupted or ended; return the exit code.

    Raises:
        ConfigurationError: A package of the extra `web` is missing.
        UsageError: The address is reachable from other machines, and no password is given.
        ClickException: The address is taken, or not this machine's.
    """
    user, colon, password = (auth or "").partition(":")
    if auth is not None and not (user and colon and password):
        raise click.UsageError("--auth must be USER:PASSWORD")
    if auth is None and not is_loopback(host):  # safety: open-page-refused
        raise click.UsageError(f"{host} can be reached from elsewhere: give --auth USER:PASSWORD")
    try:
        from celery_batches_notify.web import GRANTS, basic_auth, status_page
        from celery_batches_notify.web.serving import PageServer, listen, settle
    except ImportError as exc:
        raise ConfigurationError(
            f"the page needs {exc.name}: pip install 'celery-batches-notify[web]'"
        ) from exc
    engine_of(app)
    grants: Collection[str] = GRANTS if actions else ("read",)
    access = grants if auth is None else basic_auth(user, password, grants=grants)
    page = status_page(app, access=access, behind_proxy=behind_proxy)
    shown = f"[{host}]" if ":" in host else host
    try:
        sockets = listen(host, port)
    except (OSError, UnicodeError) as exc:
        raise click.ClickException(f"the page cannot listen at {shown}:{port}: {_say_why(exc)}") from exc
    url = f"http://{shown}:{sockets[0].getsockname()[1]}/"
    out.say(f"the page is at {url} until Ctrl-C", url=url)
    settle()
    PageServer(page, log_level="warning").run(sockets)
    return 0


def _say_why(exc: OSError | UnicodeError) -> str:
    """Return why nothing can listen there, and which option to change."""
    if isinstance(exc, UnicodeError):
        return "that is not the name of a host; give another --host"
    option = "--port" if exc.errno in (errno.EADDRINUSE, errno.EACCES) else "--host"
    return f"{(exc.strerror or str(exc)).partition(' (')[0].lower()}; give another {option}"


def is_loopback(host: str) -> bool:
    """Return whether an address is reachable only from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
