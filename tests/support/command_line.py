"""The `celery` command as it is once the package is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from celery_batches_notify import __version__
from tests.support.servers import ROOT

SECONDS = 60.0


def install(directory: Path) -> Path:
    """Write what an installation would say of our entry points, and return where.

    Celery finds `batch` by its entry point. A `.dist-info` on the path is all that an installation is to it,
    and takes no time; where the package is installed already, the first on the path counts.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    info = directory / f"celery_batches_notify-{__version__}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {__version__}\n"
    )
    groups = project["entry-points"].items()
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in groups]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return directory


def celery(
    installed: Path, *arguments: str, python: str = sys.executable, redirect: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `celery …` in a process of its own, with the test's app at hand; redirected as a shell does."""
    path = os.pathsep.join([str(installed), str(ROOT)])
    env = {**os.environ, "PYTHONPATH": path, "NO_PROXY": "127.0.0.1", **environment}
    command = [python, "-W", "error::ResourceWarning", "-m", "celery", *arguments]
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirect}', "sh", *command],
        env=env,
        cwd=installed,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
