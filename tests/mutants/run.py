"""Takes each safety away in a copy of the package, and shows that its test goes red.

`python tests/mutants/run.py [WORD …]` runs those whose safety has one of the words, or whose name is one of
them, or all. It exits with 0 if all tests are green on the copy as it is, and each mutant turned its own red.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tests.mutants.mutant_table import MUTANTS, Mutant
from tests.mutants.safeties import find_marks, mutate

ROOT = Path(__file__).parents[2]
COPIED = ("celery_batches_notify", "tests", "docs", "pyproject.toml", "README.md", "tox.ini")
GREEN, RED = 0, 1
TEST_SECONDS, RUN_SECONDS = 40, 240


def main(words: list[str]) -> int:
    """Run the mutants and print the table."""
    chosen = [m for m in MUTANTS if not words or any(w in m.safety or w == m.name for w in words)]
    with tempfile.TemporaryDirectory(prefix="batches-mutants-") as directory:
        copy = Path(directory)
        for name in COPIED:
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
        print(f"{len(chosen)} mutants; first their tests as they are", flush=True)
        code, output = run_tests(copy, {mutant.killer for mutant in chosen})
        if code != GREEN:
            print(output[-4000:], "the tests are not green to begin with", sep="\n")
            return 1
        survivors = [mutant for mutant in chosen if not is_killed(copy, mutant)]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} killed")
    return 1 if survivors else 0


def is_killed(copy: Path, mutant: Mutant) -> bool:
    """Apply one mutant, run its test, and put everything back."""
    [place] = [place for name, place in find_marks(copy / "celery_batches_notify") if name == mutant.name]
    text = place.path.read_text("utf-8")
    place.path.write_text(mutate(text, place, mutant.new), "utf-8")
    began = time.monotonic()
    try:
        code, output = run_tests(copy, [mutant.killer])
    finally:
        place.path.write_text(text, "utf-8")
    broken = re.search(r"Error compiling script|SyntaxError|IndentationError", output)
    verdict = "BROKEN" if broken else "killed" if code == RED else "SURVIVED"
    seconds = time.monotonic() - began
    print(f"{verdict:8} {seconds:5.1f} s  {mutant.safety:66} {mutant.killer.rpartition('::')[2]}", flush=True)
    if verdict == "BROKEN":
        print(output[-2000:])
    return verdict == "killed"


def run_tests(copy: Path, tests: Iterable[str]) -> tuple[int, str]:
    """Run tests over the copy; return pytest's exit code and what it wrote."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    command += [f"--timeout={TEST_SECONDS}", *sorted(tests)]
    env = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=copy, env=env, capture_output=True, text=True, check=False, timeout=RUN_SECONDS
        )
    except subprocess.TimeoutExpired:
        return RED, f"no end within {RUN_SECONDS} s"
    return done.returncode, done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
