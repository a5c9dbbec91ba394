"""The wheel in environments that hold nothing else, away from the repository: alone, and with each extra."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.release.conftest import ROOT

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
APP = """
from celery import Celery
app = Celery("shop", broker="redis://localhost:6379/0")
"""
# What each extra brings. Each runs with warnings as errors.
WORKS = {
    "demo": "from celery_batches_notify.testing.server import embedded_server\nwith embedded_server(): pass",
    "apprise": "from celery_batches_notify.notifiers import Apprise\nApprise(urls='json://localhost')",
    "ssrf": "from celery_batches_notify.notifiers import Webhook\n"
    "Webhook(url='https://example.com', allow_private=False)",
    "dkim": "import celery_batches_notify.notifiers.mailer.dkim, dkim",
    "keyring": "import keyring",
    "web": APP
    + "from celery_batches_notify import Batches\nfrom celery_batches_notify.web import status_page\n"
    "Batches(app)\nstatus_page(app, access=('read',))",
}
# What says, without an extra, how to install it.
LACKS = {
    "demo": "import sys\nfrom celery_batches_notify.demo import main\nsys.exit(main([]))",
    "apprise": WORKS["apprise"],
    "ssrf": WORKS["ssrf"],
    "dkim": "from celery_batches_notify.notifiers import Email\n"
    "Email(to='a@example.com', dkim={'domain': 'a', 'selector': 'b', 'private_key': 'c'})",
    "keyring": "from celery_batches_notify.notifiers.mailer.login import _read_keyring\n_read_keyring('me')",
    "web": "import celery_batches_notify.web",
}


class Environment:
    """An empty virtual environment with the wheel, and what it runs."""

    def __init__(self, place: Path, requirement: str) -> None:
        self.place = place
        self._python = place / "venv" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", str(place / "venv")], check=True)
        self.run("-m", "pip", "install", "-q", "--disable-pip-version-check", requirement)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python in it, in an empty directory; raise if it fails."""
        result = self.try_to_run(*arguments)
        assert result.returncode == 0, result.stdout + result.stderr
        return result

    def try_to_run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python in it, in an empty directory."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        command = [str(self._python), *arguments]
        return subprocess.run(
            command, cwd=self.place, env=environment, capture_output=True, text=True, check=False
        )


@pytest.fixture(scope="module")
def alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("alone"), str(wheel))


@pytest.mark.timeout(600)
def test_alone_it_imports_without_a_warning_and_its_packages_fit(alone: Environment) -> None:
    alone.run("-m", "pip", "check")
    alone.run("-W", "error", "-c", APP + "from celery_batches_notify import *\nBatches(app)")
    alone.run("-m", "celery", "batch", "--help")


@pytest.mark.timeout(600)
def test_every_module_imports_or_names_its_extra(alone: Environment) -> None:
    walk = (
        "import pkgutil, importlib, celery_batches_notify as p\n"
        "for m in pkgutil.walk_packages(p.__path__, p.__name__ + '.', onerror=lambda name: None):\n"
        "    if m.name.endswith(('__main__', 'demo.worker')) or '.web' in m.name: continue\n"
        "    try: importlib.import_module(m.name)\n"
        "    except ImportError as exc: print(m.name, exc)\n"
    )
    left = alone.run("-c", walk).stdout.split("\n")
    assert {line.partition(" ")[0].rpartition(".")[2] for line in left if line} <= {
        "public_only",
        "plugin",
        "receivers",
    }


@pytest.mark.timeout(600)
@pytest.mark.parametrize("extra", EXTRAS)
def test_without_an_extra_the_error_names_its_install(extra: str, alone: Environment) -> None:
    result = alone.try_to_run("-c", LACKS[extra])
    [*_, last] = (result.stdout + result.stderr).strip().splitlines()
    assert result.returncode
    assert f"celery-batches-notify[{extra}]" in last
    assert "pip install" in last


@pytest.mark.timeout(600)
@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_alone_does_its_thing(extra: str, wheel: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path, f"{wheel}[{extra}]")
    environment.run("-m", "pip", "check")
    environment.run("-c", WORKS[extra])


@pytest.mark.timeout(600)
def test_the_demo_runs_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path, f"{wheel}[demo]")
    assert "success" in environment.run("-m", "celery_batches_notify.demo").stdout
