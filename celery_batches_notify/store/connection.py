"""The client that talks to the store, and its errors in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kombu.utils.url import maybe_sanitize_url
from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from celery_batches_notify.errors import ConfigurationError, StoreUnavailable
from celery_batches_notify.settings import Settings

# A task's time limit goes on while its outcome is reported: one call must not hold it for long.
CONNECT_TIMEOUT_SECONDS = 2
REPLY_TIMEOUT_SECONDS = 2
RETRIES = 1


def connect(settings: Settings) -> Redis:
    """Make the client for these settings; nothing is sent before its first use.

    Every script is safe to repeat, so a lost reply is asked for again at once.

    Raises:
        ConfigurationError: redis-py does not take the URL or an option.
    """
    options = {
        "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "socket_timeout": REPLY_TIMEOUT_SECONDS,
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), RETRIES),
        "retry_on_error": [RedisConnectionError, RedisTimeoutError],
        **settings.backend_options,
        "decode_responses": False,
    }
    try:
        client = Redis.from_url(settings.backend_url, **options)
        client.connection_pool.make_connection()
    except (TypeError, ValueError) as exc:
        raise ConfigurationError(f"batches_backend_url or batches_backend_options: {exc}") from None
    return client


@contextmanager
def store_errors(settings: Settings) -> Iterator[None]:
    """Turn redis-py's errors into `StoreUnavailable`, with the mend where the cause is known.

    Raises:
        StoreUnavailable: The store cannot be reached or refused the command.
    """
    try:
        yield
    except AuthenticationError as exc:
        raise StoreUnavailable(f"{_where(settings)} refused the user or the password: {exc}") from exc
    except NoPermissionError as exc:
        raise StoreUnavailable(f"{_where(settings)} does not allow its user to do this: {exc}") from exc
    except (RedisConnectionError, RedisTimeoutError) as exc:
        raise StoreUnavailable(
            f"{_where(settings)} does not answer: {exc}; is it running? ({settings.backend_source})"
        ) from exc
    except RedisError as exc:
        raise StoreUnavailable(f"{_where(settings)} refused: {exc}") from exc


def _where(settings: Settings) -> str:
    return f"the batches' store at {maybe_sanitize_url(settings.backend_url)}"
