"""Where one run of the demo takes place, carried from the demo to its worker in environment variables."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field

VARIABLE = "BATCHES_DEMO_"
SECRET_VARIABLE = VARIABLE + "WEBHOOK_SECRET"
MEASURES_FILE = "measures.jsonl"
SUM_FILE = "sum.json"

# The names under which Celery's command line finds other people's settings.
_CELERY_VARIABLES = {"APP", "BROKER_URL", "RESULT_BACKEND", "LOADER", "CONFIG_MODULE", "WORKDIR"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The servers, the secret and the directory of one run.

    Attributes:
        redis_url: The server that is broker and store in one.
        prefix: What the names of everything on that server start with.
        directory: Where tasks put their results, as there is no result backend.
        smtp_port: Where mail is caught, on 127.0.0.1.
        webhook_url: Where webhooks are caught.
        webhook_secret: What they are signed with.
    """

    redis_url: str = field(repr=False)
    prefix: str
    directory: str
    smtp_port: str
    webhook_url: str
    webhook_secret: str = field(repr=False)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Surroundings:
        """Read what `as_environ` wrote. Raises `KeyError` outside the demo's worker."""
        return cls(**{f.name: environ[VARIABLE + f.name.upper()] for f in dataclasses.fields(cls)})

    def as_environ(self) -> dict[str, str]:
        """Return the variables that carry this to the worker."""
        return {VARIABLE + name.upper(): value for name, value in dataclasses.asdict(self).items()}


def forget_other_settings(environ: MutableMapping[str, str] = os.environ) -> None:
    """Remove what would send the demo to other people's brokers, backends or proxies."""
    for name in [n for n in environ if n.startswith("CELERY_") or n in _CELERY_VARIABLES]:
        del environ[name]
    environ["no_proxy"] = environ["NO_PROXY"] = "*"
