"""The distributions, built once, as they would be uploaded."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EPOCH = "1767225600"


def build(to: Path) -> Path:
    """Build the sdist of a copy of this checkout, and the wheel from that; return their directory."""
    checkout, dist = to / "checkout", to / "dist"
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    for name in filter(None, names.stdout.split("\0")):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, checkout / name)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH}
    command = [sys.executable, "-m", "build", "--outdir", str(dist), str(checkout)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return dist


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the sdist and the wheel."""
    return build(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    """Return the wheel."""
    [wheel] = dist.glob("*.whl")
    return wheel
