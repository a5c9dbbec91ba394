"""Write down what an older commit leaves in the store, the broker and the spool.

`python tests/upgrade/make_fixture.py` needs the repository's history. The file holds plain commands, because
an older server cannot load the dump of a newer one.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
BEFORE = "343c70971"  # the last commit before callbacks had a key of their own
ITS_OWN = ("tests/projects/upgrade_app.py", "tests/upgrade/stage.py")


def extract(commit: str, place: Path) -> None:
    """Lay out a commit, with today's stage in it."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x", "-C", str(place)], input=archive, check=True)
    for name in ITS_OWN:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place / name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commit", default=BEFORE)
    parser.add_argument("--to", type=Path, default=ROOT / "tests" / "upgrade" / "before.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        extract(options.commit, Path(name))
        command = [sys.executable, "-m", "tests.upgrade.stage", options.commit, str(options.to.absolute())]
        return subprocess.run(
            command, cwd=name, env={"PYTHONPATH": name, "PATH": "/usr/bin:/bin"}, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
