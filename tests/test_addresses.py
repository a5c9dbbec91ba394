from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from topologies import HAS_CLUSTER

from celery_batches_notify import ConfigurationError
from celery_batches_notify.addresses import show_address, split_addresses
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.store import Store

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
    ("url", "options", "mend"),
    [
        ("sentinel://hunter2@h", {}, 'add {"master_name": "mymaster"}'),
        ("sentinel://:hunter2@h", {"master_name": ""}, 'add {"master_name": "mymaster"}'),
        ("sentinel://:hunter2@h", MASTER | CLUSTER, "not both"),
        ("sentinel://:hunter2@h", MASTER | {"sentinel_kwargs": ["hunter2"]}, "is a mapping"),
        ("redis://:hunter2@h", MASTER, "sentinel://host:26379"),
        ("redis://:hunter2@h", {"sentinel_kwargs": {"password": "hunter2"}}, "sentinel://host:26379"),
        ("redis://:hunter2@h;redis://:hunter2@h", {}, 'for a Cluster: add {"cluster": True}'),
        ("redis://:hunter2@h;rediss://h", CLUSTER, "must all begin alike"),
        ("redis://:hunter2@h/1", CLUSTER, "database 0 only"),
        ("redis://:hunter2@h", CLUSTER | {"db": 1}, "database 0 only"),
        ("redis://:hunter2@h", {"cluster": "hunter2"}, "is True or False"),
        ("unix://:hunter2@/s", CLUSTER, "over redis:// or rediss://"),
        ("sentinel://:hunter2@h:x", MASTER, "no URL that can be read"),
        ("sentinel://h;sentinel://:hunter2/@h", MASTER, "no URL that can be read"),
        ("sentinel://h;hunter2://h", MASTER, "or sentinel:// ones"),
    ],
)
def test_what_does_not_go_together_names_the_mend_and_no_secret(
    url: str, options: dict[str, Any], mend: str
) -> None:
    with pytest.raises(ConfigurationError) as told:
        settings(url, options)
    assert mend in str(told.value)
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
    assert shown == "sentinel://u:**@a:1/0;sentinel://:**@b:2/"
    assert split_addresses("redis://:a;b@h;redis://c") == ["redis://:a;b@h", "redis://c"]
