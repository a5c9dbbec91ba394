"""Make hostile text harmless in each kind of markup, so that people can still copy it.

Descriptions, tags, task names and error messages may come from anywhere. They must not ring a whole channel
(`@everyone`), pass for a link or a picture, or draw anything. If a service lacks a safe escape, a space
breaks the markup: people see a space, whereas an invisible character would be copied into addresses.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable

_MENTION = re.compile(
    # at the start of a word, or before a name that rings for all, so not in ops@example.com
    r"(?<![\w.+-])[@\uff20](?=\S)|[@\uff20](?=(?:all|channel|everyone|here|room|team)\b)",
    re.IGNORECASE,
)
_FENCE = re.compile(r"``(?=`)")
_MARKUP = re.compile(r"<(?=\S)|\](?=[(\[:])|``(?=`)")


def fit(text: str, limit: int, escape: Callable[[str], str]) -> str:
    """Return a text, clipped and then escaped, of at most `limit` characters."""
    clipped = text
    while len(escaped := escape(clipped)) > limit:
        clipped = clipped[: (len(clipped) - 1) * limit // len(escaped)]
    return escaped


def break_mentions(text: str) -> str:
    """Return plain text with its `@word` mentions broken."""
    return _MENTION.sub(r"\g<0> ", text)  # safety: no-mention


def soften(text: str) -> str:
    """Return text for a Markdown dialect without a safe escape: break mentions, links, pictures, ```."""
    return _MARKUP.sub(r"\g<0> ", break_mentions(text))


def fence(lines: tuple[str, ...]) -> str:
    """Return lines as a block of code in Markdown, with any ``` in them broken."""
    text = _FENCE.sub("`` ", "\n".join(lines))
    return f"```\n{text}\n```" if text else ""


def escape_html(text: str) -> str:
    """Return text for HTML and its attributes."""
    return html.escape(text, quote=True)


def escape_slack(text: str) -> str:
    """Return text for Slack's mrkdwn, whose links and mentions all begin with a `<`."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
