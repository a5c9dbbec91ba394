from __future__ import annotations

import ssl
from typing import Any

import pytest
from celery import Celery
from redis.backoff import NoBackoff
from redis.connection import SSLConnection
from redis.retry import Retry

from celery_batches_notify import Batches, ConfigurationError, StoreUnavailable
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.client import connect
from celery_batches_notify.store.store import Store
from celery_batches_notify.store_url import show_address, split_addresses
from tests.support.topologies import HAS_CLUSTER

MASTER = {"master_name": "mymaster"}
CLUSTER = {"cluster": True}


def settings(url: object, options: object) -> Settings:
    app = Celery(set_as_current=False)
    app.conf.update(batches_backend_url=url, batches_backend_options=options)
    return Settings.from_app(app)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("redis://u:p%40@h:1/2", {"socket_timeout": 1}),
        ("redis://:a;b@h/0", {}),
        ("rediss://h", {"ssl_ca_certs": "/ca.pem"}),
        ("unix:///run/redis.sock?db=2", {}),
        ("sentinel://h:26379/3", MASTER),
        ("sentinel://:p;w@h;sentinel://h2:1", MASTER | {"sentinel_kwargs": {"password": "x", "ssl": True}}),
        ("sentinel://h", MASTER | {"ssl": True, "ssl_ca_certs": "/ca.pem", "min_other_sentinels": 1}),
        ("redis://a;redis://b:7001/0", CLUSTER),
        ("rediss://a", CLUSTER | {"username": "u", "password": "p"}),
        ("redis://a", {"cluster": False}),
    ],
)
def test_what_goes_together_is_taken(url: str, options: dict[str, Any]) -> None:
    made = settings(url, options)
    assert made.backend_url == url
    if not options.get("cluster"):  # whose client asks at once
        Store(made).client.close()


@pytest.mark.parametrize(
    ("url", "options", "fix"),
    [
        ("sentinel://hunter2@h", {}, 'add {"master_name": "mymaster"}'),
        ("sentinel://:hunter2@h", {"master_name": ""}, 'add {"master_name": "mymaster"}'),
        ("sentinel://:hunter2@h", MASTER | CLUSTER, "not both"),
        ("sentinel://:hunter2@h", MASTER | {"sentinel_kwargs": ["hunter2"]}, "must be a mapping"),
        ("redis://:hunter2@h", MASTER, "sentinel://host:26379"),
        ("redis://:hunter2@h", {"sentinel_kwargs": {"password": "hunter2"}}, "sentinel://host:26379"),
        ("redis://:hunter2@h;redis://:hunter2@h", {}, 'for a Cluster: add {"cluster": True}'),
        ("redis://:hunter2@h;rediss://h", CLUSTER, "must have the same scheme"),
        ("redis://:hunter2@h/1", CLUSTER, "database 0 only"),
        ("redis://:hunter2@h", CLUSTER | {"db": 1}, "database 0 only"),
        ("redis://:hunter2@h", {"cluster": "hunter2"}, "must be True or False"),
        ("unix://:hunter2@/s", CLUSTER, "over redis:// or rediss://"),
        ("sentinel://:hunter2@h:x", MASTER, "cannot be parsed as a URL"),
        ("sentinel://h;sentinel://:hunter2/@h", MASTER, "cannot be parsed as a URL"),
        ("sentinel://h;hunter2://h", MASTER, "or sentinel:// ones"),
        ("redis://:hunter2@h/zero", {}, "must be the number of a database"),
        ("redis://:12/hunter2@h", {}, "must be the number of a database"),
        ("sentinel://:hunter2@h/zero", MASTER, "must be the number of a database"),
    ],
)
def test_what_does_not_go_together_names_the_mend_and_no_secret(
    url: str, options: dict[str, Any], fix: str
) -> None:
    with pytest.raises(ConfigurationError) as told:
        settings(url, options)
    assert fix in str(told.value)
    assert "batches_backend_url" in str(told.value)
    assert "hunter2" not in str(told.value)


@pytest.mark.skipif(HAS_CLUSTER, reason="only an old redis-py lacks it")
def test_a_cluster_with_an_old_redis_py_says_what_to_upgrade() -> None:
    with pytest.raises(ConfigurationError, match="needs redis-py 6"):
        Store(settings("redis://h", CLUSTER)).client.ping()


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("redis://h", {"passwort": "hunter2"}),
        ("sentinel://h", MASTER | {"passwort": "hunter2"}),
        ("sentinel://h", MASTER | {"sentinel_kwargs": {"passwort": "hunter2"}}),
        *([("redis://127.0.0.1:1", CLUSTER | {"passwort": "hunter2"})] if HAS_CLUSTER else []),
    ],
)
def test_an_option_that_redis_py_does_not_know_is_named(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="passwort") as told:
        Store(settings(url, options)).client.ping()
    assert "hunter2" not in str(told.value)


def test_several_urls_are_shown_without_any_password() -> None:
    shown = show_address("sentinel://u:hunter2@a:1/0?password=hunter2;sentinel://:hunter2;x@b:2")
    assert shown == "sentinel://u:**@a:1/0;sentinel://:**@b:2"
    assert split_addresses("redis://:a;b@h;redis://c") == ["redis://:a;b@h", "redis://c"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://[::1]:6379/1", "redis://[::1]:6379/1"),
        ("redis://:hunter2@[::1]", "redis://:**@[::1]"),
        ("redis://:hunter2@h:1?password=hunter2", "redis://:**@h:1"),
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock"),
        ("redis://u@h", "redis://u@h"),
    ],
)
def test_an_address_is_shown_as_it_was_written(url: str, shown: str) -> None:
    assert show_address(url) == shown


# -- what the client is made of -------------------------------------------------------------------


def kwargs_of(url: object, options: object, *, no_retry: bool = False) -> dict[str, Any]:
    """Return the arguments of redis-py's connections."""
    with connect(settings(url, options), no_retry=no_retry) as client:
        return {**client.connection_pool.connection_kwargs, "kind": client.connection_pool.connection_class}


@pytest.mark.parametrize("no_retry", [False, True])
def test_bytes_are_read_though_the_query_asks_for_text(no_retry: bool) -> None:
    made = kwargs_of("redis://h?decode_responses=True", {}, no_retry=no_retry)
    assert made["decode_responses"] is False


def test_the_options_win_over_the_query_and_the_query_over_our_own() -> None:
    url = "redis://h:7/3?socket_timeout=60&socket_connect_timeout=50"
    made = kwargs_of(url, {"socket_timeout": 40})
    assert (made["host"], made["port"], made["db"]) == ("h", 7, 3)
    assert (made["socket_timeout"], made["socket_connect_timeout"]) == (40, 50)
    no_retry = kwargs_of(url, {"socket_timeout": 40}, no_retry=True)
    assert (no_retry["socket_timeout"], no_retry["socket_connect_timeout"]) == (0.5, 0.5)


def test_tls_is_an_option_of_a_redis_url_too() -> None:
    assert issubclass(kwargs_of("redis://h", {"ssl": True, "ssl_cert_reqs": "none"})["kind"], SSLConnection)
    assert kwargs_of("unix:///run/redis.sock", {})["path"] == "/run/redis.sock"


@pytest.mark.parametrize("word", ["required", "optional", "none"])
def test_celerys_words_for_certificates_are_understood(word: str) -> None:
    app = Celery(set_as_current=False)
    app.conf.result_backend = f"rediss://h/0?ssl_cert_reqs=CERT_{word.upper()}"
    with connect(Settings.from_app(app)) as client:
        assert client.connection_pool.connection_kwargs["ssl_cert_reqs"] == word


def test_a_strange_word_for_certificates_is_a_wrong_setting_not_a_store_that_is_away() -> None:
    with pytest.raises(ConfigurationError, match="batches_backend_options: Invalid SSL"):
        connect(settings("rediss://h?ssl_cert_reqs=perhaps", {}))


@pytest.mark.parametrize(
    ("address", "use_ssl"), [("result_backend", "redis_backend_use_ssl"), ("broker_url", "broker_use_ssl")]
)
def test_celerys_own_setting_for_tls_goes_with_its_address(address: str, use_ssl: str) -> None:
    app = Celery(set_as_current=False)
    app.conf[address] = "redis://h"
    app.conf[use_ssl] = {"ssl_cert_reqs": ssl.CERT_NONE}
    app.conf.batches_backend_options = {"socket_timeout": 1}
    with connect(Settings.from_app(app)) as client:
        pool = client.connection_pool
        assert issubclass(pool.connection_class, SSLConnection)
        assert pool.connection_kwargs["ssl_cert_reqs"] == ssl.CERT_NONE
        assert pool.connection_kwargs["socket_timeout"] == 1
    app.conf[use_ssl] = {"hunter2": "x"}
    with pytest.raises(ConfigurationError, match=f"{use_ssl} must be True or a mapping"):
        Settings.from_app(app)


def test_connections_that_are_all_in_use_name_the_option(server_url: str) -> None:
    store = Store(settings(server_url, {"max_connections": 1}))
    store.client.ping()
    held = store.client.client()  # which takes a connection for itself
    with pytest.raises(StoreUnavailable, match="max_connections in batches_backend_options"):
        store.read_cancelled()
    held.close()
    assert store.read_cancelled() == {}
    store.close()


@pytest.mark.parametrize("where", ["the options", "the query"])
def test_no_report_waits_longer_than_it_may_whatever_the_timeouts_say(where: str) -> None:
    query, options = "?socket_timeout=60&socket_connect_timeout=60", {}
    if where == "the options":
        query, options = "", {"socket_timeout": 60, "socket_connect_timeout": None}
    store = Store(settings(f"redis://h{query}", options))
    assert store.longest_call_seconds >= 240
    prompt = store.answering_within(15)
    assert prompt.longest_call_seconds == 12, "else no report had time for it, and all were hurried"
    assert prompt.client.connection_pool.connection_kwargs["socket_timeout"] == 3
    assert store.answering_within(10**4) is store or options
    store.close()


def test_a_store_that_answers_in_time_is_asked_over_the_same_connections() -> None:
    store = Store(settings("redis://h", {}))
    assert store.longest_call_seconds == 8
    assert store.answering_within(15) is store


def test_retries_of_ones_own_do_not_make_a_report_wait() -> None:
    store = Store(settings("redis://h", {"retry": Retry(NoBackoff(), 100)}))
    assert store.answering_within(15).settings.backend_options["retry"]._retries == 1


@pytest.mark.parametrize("no_retry", [False, True])
def test_sentinels_are_waited_for_no_longer_than_the_store(no_retry: bool) -> None:
    forever = {"socket_timeout": None, "socket_connect_timeout": 3600, "username": "u"}
    store = Store(settings("sentinel://h", {**MASTER, "sentinel_kwargs": forever}))
    quick = store.no_retry if no_retry else store.answering_within(15)
    (sentinel,) = quick.client.connection_pool.sentinel_manager.sentinels
    made = sentinel.connection_pool.connection_kwargs
    seconds = 0.5 if no_retry else 3
    assert (made["socket_timeout"], made["socket_connect_timeout"]) == (seconds, seconds)
    assert made["username"] == "u"
    store.close()


@pytest.mark.parametrize(
    "conf",
    [
        {"result_backend": "rediss://h?ssl_cert_reqs=perhaps"},
        {"batches_backend_url": "redis://h?socket_timeout=soon"},
        {"batches_backend_url": "redis://h", "batches_backend_options": {"perhaps": 1}},
    ],
    ids=["certificates", "a number", "an option"],
)
def test_what_redis_py_does_not_take_keeps_the_app_from_starting(conf: dict[str, Any]) -> None:
    app = Celery(set_as_current=False)
    app.config_from_object(conf)
    assert app.conf.task_serializer == "json"  # Celery has read its configuration
    with pytest.raises(ConfigurationError, match=r"perhaps|socket_timeout"):
        Batches(app)
