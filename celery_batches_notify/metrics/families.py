"""Metric families, and the two text formats in which Prometheus reads them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})
_OPEN_METRICS_ACCEPTED = re.compile(r"application/openmetrics-text\s*(;[^,]*)?")
_QUALITY = re.compile(r";\s*q=\s*(0(?:\.0*)?|[0-9.]+)\s*(?:;|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One value of a family: what its name adds to the family's, and its labels."""

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A metric with all its samples. A counter's name lacks `_total`, which is its samples' suffix."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: tuple[Sample, ...]


def accepts_open_metrics(accept: str) -> bool:
    """Return whether an `Accept` header asks for OpenMetrics, as Prometheus does."""
    found = _OPEN_METRICS_ACCEPTED.search(accept.lower())
    if found is None:
        return False
    quality = _QUALITY.search(found[1] or "")
    return quality is None or quality[1].strip("0.") != ""


def render_families(families: Iterable[Family], *, open_metrics: bool = False) -> str:
    """Return families as text: in OpenMetrics, or in Prometheus' own older format, which all agents read."""
    lines = [line for family in families for line in _lines_of(family, open_metrics=open_metrics)]
    return "\n".join([*lines, *(["# EOF"] if open_metrics else []), ""])


def _lines_of(family: Family, *, open_metrics: bool) -> list[str]:
    name = family.name if open_metrics or family.kind != "counter" else f"{family.name}_total"
    help_escapes = _ESCAPES if open_metrics else _HELP_ESCAPES
    about = [f"# HELP {name} {family.help.translate(help_escapes)}", f"# TYPE {name} {family.kind}"]
    return about + [
        f"{family.name}{sample.suffix}{_labels_of(sample)} {_number(sample.value)}"
        for sample in family.samples
    ]


def _labels_of(sample: Sample) -> str:
    labels = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in sample.labels.items())
    return f"{{{labels}}}" if labels else ""


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(round(value, 3))
