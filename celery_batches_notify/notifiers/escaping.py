"""Make hostile text harmless in each kind of markup, without changing what a person reads.

Descriptions, tags, task names and error messages may come from anywhere. They must not ring a whole channel
(`@everyone`), pass for a link or a picture, or draw anything.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable

NOTHING_SEEN = "\u200b"  # a space of no width: services no longer see a mention, people see no difference

_MENTION = re.compile(r"(?<=[@\uff20])(?=\S)")
_FENCE = re.compile(r"(?<=`)(?=`)")
_MARKUP = re.compile(r"(?<=<)(?=\S)|(?<=\])(?=[(\[:])|(?<=`)(?=`)")


def fit(text: str, limit: int, escape: Callable[[str], str]) -> str:
    """Escape a text and clip it, before it is escaped, so that the result has at most `limit` characters."""
    clipped = text
    while len(escaped := escape(clipped)) > limit:
        clipped = clipped[: (len(clipped) - 1) * limit // len(escaped)]
    return escaped


def break_mentions(text: str) -> str:
    """Return plain text in which no `@word` is one any more."""
    return _MENTION.sub(NOTHING_SEEN, text)


def soften(text: str) -> str:
    """Return text for a Markdown dialect that has no safe escape: no mentions, links, pictures or ```."""
    return _MARKUP.sub(NOTHING_SEEN, break_mentions(text))


def escape_html(text: str) -> str:
    """Return text for HTML and its attributes."""
    return html.escape(break_mentions(text), quote=True)


def escape_href(url: str) -> str:
    """Return an address for an HTML attribute."""
    return html.escape(url, quote=True)


def escape_slack(text: str) -> str:
    """Return text for Slack's mrkdwn: its three special characters escaped, no mentions and no ```."""
    text = _FENCE.sub(NOTHING_SEEN, break_mentions(text))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
