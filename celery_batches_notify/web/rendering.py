"""Rendering of HTML: the templates' environment and its filters."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from celery_batches_notify.bar import count_parts, draw_bar
from celery_batches_notify.headline import describe_duration, judge, name_of
from celery_batches_notify.text import one_line, straighten
from celery_batches_notify.web.view import BatchView, sentence_of, span_of

LINE_CHARACTERS = 1000
BLOCK_CHARACTERS = 20_000
CURVE_WIDTH, CURVE_HEIGHT = 640, 80
ASSETS = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "confirm.js": "text/javascript; charset=utf-8",
    "batch-progress.js": "text/javascript; charset=utf-8",
    "idiomorph.min.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")


@cache
def read_asset(name: str) -> tuple[bytes, str]:
    """Return a file of the page and a hash of it."""
    data = files(__package__).joinpath("assets", name).read_bytes()
    return data, hashlib.sha256(data).hexdigest()[:12]


def asset_path(name: str) -> str:
    """Return the URL of a file, relative to the page's root."""
    return f"assets/{name}?v={read_asset(name)[1]}"


@cache
def environment() -> Environment:
    """Return the templates' environment, which escapes everything and raises for a missing variable."""
    env = Environment(
        loader=PackageLoader("celery_batches_notify.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "line": lambda text, limit=LINE_CHARACTERS: one_line(text, limit),
        "block": clean_block,
        "time": draw_time,
        "duration": describe_duration,
        "count": lambda n: f"{n:,}",
        "bar": lambda of: Markup(draw_bar(of)),  # noqa: S704 - figures and our own words
        "parts": count_parts,
        "asset": asset_path,
        "judge": judge,
        "name_of": name_of,
        "sentence": sentence_of,
        "span": span_of,
        "curve": draw_curve,
        "moments": list_moments,
    }
    return env


def render(template: str, **values: Any) -> str:
    """Return a template with these values as HTML."""
    return environment().get_template(template).render(**values)


def clean_block(text: object) -> str:
    """Return a text of several lines without invisible characters and those that change its direction."""
    return _CONTROLS.sub("", straighten(str(text)[:BLOCK_CHARACTERS]))


def draw_time(at: datetime | None) -> Markup:
    """Return a time as HTML, or a dash."""
    if at is None:
        return Markup("–")
    shown = f"{at:%Y-%m-%d %H:%M:%S}"
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(at.isoformat(), shown, shown)


def list_moments(view: BatchView) -> list[tuple[str, datetime]]:
    """Return the events of a batch and their times, in order."""
    status = view.status
    names = [("created", status.created_at), ("sealed", status.sealed_at), ("cancelled", status.cancelled_at)]
    names += [(event, getattr(status, f"{event}_at")) for event in ("death", "complete", "finish", "success")]
    if view.curve:
        names.append(("first end", view.curve[0][0]))
    return sorted([(name, at) for name, at in names if at is not None], key=lambda moment: moment[1])


def draw_curve(view: BatchView) -> str:
    """Return the points of the line that shows how many members had ended when, or ""."""
    curve, status = view.curve, view.status
    until = status.finish_at or view.now
    if len(curve) < 2 or status.total <= 0 or until <= curve[0][0]:
        return ""
    began, length = curve[0][0], (until - curve[0][0]).total_seconds()
    ended = [*((at, n) for at, n in curve if at <= until), (until, status.succeeded + status.dead)]
    points = [
        (
            (at - began).total_seconds() / length * CURVE_WIDTH,
            CURVE_HEIGHT * (1 - min(n / status.total, 1)),
        )
        for at, n in ended
    ]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
