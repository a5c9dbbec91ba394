"""Run one example: an embedded server, a worker, and the web application, until Ctrl-C.

`python examples/run.py django|fastapi|flask [--port 8000]`
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from pathlib import Path

from celery_batches_notify.testing.child_process import directory_until_we_end, run_until_we_end
from celery_batches_notify.testing.server import embedded_server

HERE = Path(__file__).parent
COMMANDS = {
    "django": ["manage.py", "runserver", "--noreload"],
    "fastapi": ["-m", "uvicorn", "web:web", "--timeout-graceful-shutdown", "1", "--port"],
    "flask": ["-m", "flask", "--app", "web", "run", "--port"],
}
APPS = {"django": "shop", "fastapi": "tasks", "flask": "web:celery_app"}


def main() -> None:
    """Run the example that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("example", choices=COMMANDS)
    parser.add_argument("--port", default="8000")
    options = parser.parse_args()
    with embedded_server() as url, directory_until_we_end(prefix="batches-example-") as directory:
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), *sys.path[1:]]))
        own = {"BATCHES_EXAMPLE_URL": url, "BATCHES_EXAMPLE_DIRECTORY": str(directory), "PYTHONPATH": path}
        how = {"cwd": HERE / options.example, "env": {**os.environ, **own}, "stdout": None, "stderr": None}
        python = sys.executable
        if options.example == "django":
            how["env"]["DJANGO_SUPERUSER_PASSWORD"] = "admin"  # noqa: S105
            who = "--username admin --email admin@example.com"
            for words in ("migrate --run-syncdb -v 0", f"createsuperuser --noinput -v 0 {who}"):
                with run_until_we_end([python, "manage.py", *words.split()], **how) as process:
                    process.wait()
        worker = [python, "-m", "celery", "-A", APPS[options.example], "worker", "-c", "2", "-l", "WARNING"]
        web = [python, *COMMANDS[options.example], options.port]
        with run_until_we_end(worker, **how), run_until_we_end(web, **how) as serving:
            print(f"http://127.0.0.1:{options.port}/ (end with Ctrl-C)", flush=True)
            with suppress(KeyboardInterrupt):
                serving.wait()


if __name__ == "__main__":
    main()
