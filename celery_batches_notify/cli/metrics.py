"""The metrics of all batches, printed, or written to a file that node_exporter reads."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from celery import Celery

from celery_batches_notify.cli.engine_of import engine_of
from celery_batches_notify.cli.exit_codes import ExitCode
from celery_batches_notify.cli.output import Output
from celery_batches_notify.errors import ConfigurationError
from celery_batches_notify.metrics.collector import Collector
from celery_batches_notify.metrics.families import render_families

READABLE = 0o644  # node_exporter runs as a user of its own


def show_metrics(app: Celery, out: Output, *, output: Path | None) -> int:
    """Print the metrics, or write them to the file `output` in one step; return the exit code.

    Raises:
        ConfigurationError: The file cannot be written.
        StoreUnavailable: The store is away; a file that exists stays as it is.
    """
    families = Collector().collect(engine_of(app))
    count = sum(len(family.samples) for family in families)
    if output is not None:
        write_at_once(output, render_families(families))
        return out.end(f"{count} samples are in {output}", ExitCode.DONE, samples=count, output=str(output))
    if out.as_json:
        for family in families:
            for sample in family.samples:
                name = family.name + sample.suffix
                out.say("", name=name, kind=family.kind, labels=sample.labels, value=sample.value)
        out.finish(ExitCode.DONE, samples=count)
        return ExitCode.DONE
    for line in render_families(families).splitlines():
        out.say(line)
    return ExitCode.DONE


def write_at_once(path: Path, text: str) -> None:
    """Write a file that readers see whole: the old one, or the new one.

    Raises:
        ConfigurationError: It cannot be written.
    """
    temporary = ""
    try:
        # Its name does not end in .prom, or node_exporter would read it, too.
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), READABLE)
        Path(temporary).replace(path)  # safety: metrics-at-once
    except OSError as exc:
        with suppress(OSError):
            Path(temporary).unlink()
        raise ConfigurationError(f"--output {path} cannot be written: {exc.strerror}") from exc
