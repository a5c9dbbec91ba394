"""Messages are pushed packed at once, or by redis-py where somebody has put something before it."""

from __future__ import annotations

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from celery_batches_notify.producer import pushing
from celery_batches_notify.producer.pushing import push_texts

TEXTS = ["", "a", "with \r\n lines", "x" * 100_000]


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note the commands that were packed here."""
    packed: list[str] = []

    def noting(pool: object, command: bytes) -> object:
        packed.append(command[:20].decode())
        return run(pool, command)

    run = pushing.run_packed
    monkeypatch.setattr(pushing, "run_packed", noting)
    return packed


def test_texts_are_pushed_as_redis_py_pushes_them(redis: Redis, ways: list[str]) -> None:
    push_texts(redis, "ours", TEXTS)
    redis.lpush("theirs", *TEXTS)
    assert redis.lrange("ours", 0, -1) == redis.lrange("theirs", 0, -1)
    assert len(ways) == 1


def test_a_key_of_any_letters_is_the_same_key(redis: Redis, ways: list[str]) -> None:
    push_texts(redis, "quéue", TEXTS)
    assert redis.llen("quéue") == len(TEXTS) and len(ways) == 1


def test_other_letters_are_pushed_by_redis_py(redis: Redis, ways: list[str]) -> None:
    push_texts(redis, "ours", ["é"])
    assert redis.lrange("ours", 0, -1) == ["é".encode()] and ways == []


def test_a_client_with_a_method_of_its_own_is_asked(server_url: str, redis: Redis, ways: list[str]) -> None:
    class Prefixed(Redis):
        def execute_command(self, name: str, key: str, *args: object) -> object:
            return super().execute_command(name, f"prefix:{key}", *args)

    push_texts(Prefixed.from_url(server_url), "ours", TEXTS)
    assert redis.llen("prefix:ours") == len(TEXTS) and ways == []


def test_a_client_with_one_connection_uses_it(server_url: str, redis: Redis, ways: list[str]) -> None:
    push_texts(Redis.from_url(server_url, single_connection_client=True), "ours", TEXTS)
    assert redis.llen("ours") == len(TEXTS) and ways == []


def test_a_refusal_is_redis_pys_and_leaves_the_connection_usable(redis: Redis, ways: list[str]) -> None:
    redis.set("ours", "no list")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        push_texts(redis, "ours", TEXTS)
    redis.delete("ours")
    push_texts(redis, "ours", TEXTS)
    assert redis.llen("ours") == len(TEXTS) and len(ways) == 2
