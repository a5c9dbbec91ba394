from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from redis import Redis

from celery_batches_notify.demo import main
from tests.demo.processes import find_descendants, running, starting_with_sigint
from tests.support.servers import wait_until
from tests.support.terminal import Screen

COMMAND = [sys.executable, "-m", "celery_batches_notify.demo"]
SOMEBODY_ELSES = {
    "CELERY_BROKER_URL": "amqp://127.0.0.1:1",
    "CELERY_RESULT_BACKEND": "redis://127.0.0.1:1",
    "BROKER_URL": "amqp://127.0.0.1:1",
    "APP": "nobodys.app",
    "HTTP_PROXY": "http://127.0.0.1:1",
    "http_proxy": "http://127.0.0.1:1",
}
GOOD = 40
BROKEN = {
    "bad_coding.py": b"# coding: uft-8\n",
    "latin_1.py": b"name = 'Andr\xe9'\n",
    "python_2.py": b"print 'Hello'\n",
}


@contextmanager
def demo(
    tmp_path: Path,
    *arguments: str,
    sigint: signal.Handlers = signal.SIG_DFL,
    stdout: int | IO[bytes] = subprocess.PIPE,
    **environ: str,
) -> Iterator[subprocess.Popen[str]]:
    """Run the demo, with temporary files of its own."""
    temporary = tmp_path / "tmp"
    temporary.mkdir(exist_ok=True)
    with starting_with_sigint(sigint):
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TMPDIR": str(temporary), **environ},
        )
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout
    read = []
    for line in process.stdout:
        read.append(line)
        if text in line:
            return
    pytest.fail(f"no {text!r} in {''.join(read)}")


def find_worker(demo_pid: int) -> int:
    """Return the worker's main process: below the demo, only it has children and a shell as parent."""
    found: set[int] = set()

    def look() -> bool:
        parents = running()
        guards = [pid for pid, parent in parents.items() if parent == demo_pid]
        found.update(p for p in parents.values() if parents.get(p) in guards and p not in guards)
        return bool(found)

    wait_until(look, seconds=60, what="the worker and its children")
    (worker,) = found
    return worker


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some modules that can be parsed, and three that cannot."""
    directory = tmp_path_factory.mktemp("modules")
    for number in range(GOOD):
        (directory / f"good_{number}.py").write_text("def f():\n    pass\n")
    for name, content in BROKEN.items():
        (directory / name).write_bytes(content)
    return directory


@pytest.fixture(scope="module")
def finished(modules: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int, Path]:
    """A whole run with foreign settings in its environment: its output, exit code and temporary files."""
    tmp_path = tmp_path_factory.mktemp("demo")
    with demo(tmp_path, "--path", str(modules), **SOMEBODY_ELSES) as process:
        output, _ = process.communicate(timeout=60)
    return output, process.returncode, tmp_path / "tmp"


@pytest.fixture(scope="module")
def output(finished: tuple[str, int, Path]) -> str:
    return finished[0]


def test_it_ends_with_a_line_of_success(finished: tuple[str, int, Path]) -> None:
    output, code, _ = finished
    assert code == 0, output
    assert re.fullmatch(
        rf"The demo succeeded: {GOOD} modules measured, 3 could not be read or parsed, "
        r"mail and webhooks arrived, \d+\.\d s\.",
        output.splitlines()[-1],
    )


def test_it_leaves_no_file_behind(finished: tuple[str, int, Path]) -> None:
    assert list(finished[2].iterdir()) == []


def test_it_shows_progress_as_batch_watch_does(output: str) -> None:
    assert f"dead 100% {GOOD} succeeded 0 failing 3 dead of {GOOD + 3}: 3 of {GOOD + 3} failed" in output


def test_on_a_terminal_it_draws_a_bar_and_failures_scroll_by(tmp_path: Path, modules: Path) -> None:
    screen = Screen(columns=120)
    with demo(tmp_path, "--path", str(modules), stdout=screen.slave, TERM="xterm", LANG="C.UTF-8") as process:
        assert process.wait(timeout=60) == 0
    screen.close()
    (bar,) = [line for line in screen.lines if f"{GOOD} ok 3 dead /{GOOD + 3}" in line and "100%" in line][:1]
    assert bar.startswith(f"Measure {GOOD + 3} modules")
    assert len([line for line in screen.lines if " failed measure[" in line]) == 3


def test_it_prints_the_status_as_batch_show_does(output: str) -> None:
    assert f"✗ 3 of {GOOD + 3} failed for good: Measure {GOOD + 3} modules of" in output
    for callback in ("complete:0 email", "finish:0 webhook", "finish:1 demo.add_up"):
        assert f"callback {callback}: delivered, 1 attempt" in output


def test_the_failures_are_shown_with_their_errors(output: str) -> None:
    assert "- 1 × SyntaxError in measure (python_2.py:1): Missing parentheses in call to 'print'" in output
    assert "failures: 3 kinds in the 3 that are kept of 3" in output


def test_the_callback_task_adds_up_without_a_result_backend(output: str) -> None:
    assert f"{GOOD} modules · 0.0 MB · {2 * GOOD} lines · {GOOD} functions · 0 classes" in output


def test_the_mail_is_shown_as_it_arrived(output: str) -> None:
    mail = output[output.index("The mail that arrived") : output.index("The webhook that arrived")]
    assert "│ To: you@example.com" in mail
    assert re.search(r"│ Subject: ✗ \d+ of \d+ failed for good.*: .*modules", mail)
    assert re.search(r"│ Message-ID: <cb_[\w-]{22}_complete_0@", mail)
    assert re.search(r"│ Failures\n", mail)


def test_the_webhook_is_shown_as_it_arrived(output: str) -> None:
    webhook = output[output.index("The webhook that arrived") : output.index("Second batch")]
    assert re.search(r"│ webhook-id: cb_[\w-]{22}_finish_0\n", webhook)
    assert re.search(r"│ webhook-signature: v1,\S+=\n", webhook)
    assert '│   "event": "finish",' in webhook
    assert '"… and 2 more"' in webhook


def test_a_second_batch_shows_success(output: str) -> None:
    second = output[output.index("Second batch") :]
    assert "success 100% 3 succeeded 0 failing 0 dead of 3: All 3 succeeded" in second
    assert re.search(r"webhook arrived: event success, webhook-id cb_[\w-]{22}_success_0", second)


def test_a_part_of_the_standard_library_is_enough(tmp_path: Path) -> None:
    with demo(tmp_path, "--files", "60", "--pool", "threads") as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "The demo succeeded: " in output.splitlines()[-1]


def test_a_server_of_the_user_keeps_only_the_users_keys(tmp_path: Path, modules: Path, redis: Redis) -> None:
    redis.set("mine", "1")
    pool = redis.connection_pool.connection_kwargs
    url = f"redis://{pool['host']}:{pool['port']}/0"
    with demo(tmp_path, "--redis", url, "--path", str(modules), "--pool", "solo") as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert redis.keys() == [b"mine"]


def test_a_server_that_does_not_answer_is_an_error_without_its_password(tmp_path: Path) -> None:
    with demo(tmp_path, "--redis", "redis://:geheim@127.0.0.1:1/0") as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "--redis: this server cannot be used" in output
    assert "geheim" not in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)], ids=str
)
def test_nothing_is_left_of_a_demo_that_is_ended(tmp_path: Path, signum: signal.Signals, code: int) -> None:
    with demo(tmp_path) as process:
        read_until(process, " running ")
        started = find_descendants(process.pid)
        assert len(started) >= 8  # the guards, the server, the worker, its pool
        process.send_signal(signum)
        assert process.stdout
        rest = process.stdout.read()
        assert process.wait(timeout=30) == code
    if signum != signal.SIGKILL:
        assert rest.splitlines()[-1].startswith(f"Interrupted ({signum.name}): ")
    assert "Traceback" not in rest
    wait_until(lambda: not started & running().keys())
    wait_until(lambda: not list((tmp_path / "tmp").iterdir()))


def test_ctrl_c_while_it_starts_leaves_nothing_either(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        read_until(process, "the demo")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert output.splitlines()[-1].startswith("Interrupted (SIGINT)")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_demo_that_starts_with_ctrl_c_ignored_ignores_it(tmp_path: Path) -> None:
    with demo(tmp_path, sigint=signal.SIG_IGN) as process:
        read_until(process, " running ")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 143
    assert output.splitlines()[-1].startswith("Interrupted (SIGTERM)")


def test_a_worker_that_is_lost_fails_the_demo_and_shows_its_log(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        read_until(process, " running ")
        os.kill(find_worker(process.pid), signal.SIGKILL)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "The end of the worker's log" in output
    assert re.search(r"The demo failed after \d+\.\d s: the worker ended before the batch did", output)


def test_a_reader_that_closes_the_pipe_gets_no_traceback(tmp_path: Path) -> None:
    with demo(tmp_path, "--files", "20") as process:
        assert process.stdout
        process.stdout.close()
        assert process.wait(timeout=30) == 1
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--files", "0"], "must be a whole number from 1 on, got '0'"),
        (["--files", "many"], "must be a whole number from 1 on, got 'many'"),
        (["--concurrency", "65"], "must be at most 64, got '65'"),
        (["--pool", "processes"], "invalid choice: 'processes'"),
        (["--path", "/no/such/directory"], "there is no directory '/no/such/directory'"),
        (["--redis", "localhost:6379"], "must be a URL such as redis://localhost:6379/0"),
        (["--unknown"], "unrecognized arguments: --unknown"),
    ],
    ids=lambda value: value[0].lstrip("-") if isinstance(value, list) else "",
)
def test_a_wrong_option_is_an_error_that_says_what_to_give(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_directory_without_modules_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--path", str(tmp_path)])
    assert exit_.value.code == 2
    assert "there is no *.py file" in capsys.readouterr().err


def test_the_package_of_the_demo_imports_nothing_by_itself() -> None:
    code = (
        "import sys, celery_batches_notify; before = set(sys.modules); import celery_batches_notify.demo; "
        "print(set(sys.modules) - before)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "{'celery_batches_notify.demo'}\n"


def test_the_page_shows_the_demos_batch_until_it_is_interrupted(tmp_path: Path) -> None:
    with demo(tmp_path, "--files", "20", "--pool", "solo", "--web") as process:
        assert process.stdout
        url = next(line for line in process.stdout if "status page" in line).split()[-1]
        read_until(process, "until you press Ctrl-C")
        with urllib.request.urlopen(url) as answer:
            html = answer.read().decode()
        assert "Measure 20 modules" in html
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
        assert "The demo succeeded" in rest
        assert process.returncode == 0
