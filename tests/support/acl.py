"""The users of the documentation, made on a server as its very lines say."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from redis import Redis

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "run-in-production.md"
PASSWORDS = {"batches": "a-long-password", "batches-reader": "another-password"}


@cache
def lines() -> dict[str, str]:
    """The lines of the page, by user."""
    found = re.findall(r"^(ACL SETUSER (\S+) .*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    return {user: line for line, user in found}


def url_as(url: str, user: str = "batches", *, prefix: str = "batches") -> str:
    """Make the user on the server at this URL, and return the URL with its name and password."""
    if urlsplit(url).scheme != "redis" or "@" in url:
        return url
    name = user if prefix == "batches" else f"{user}-{prefix}"
    words = lines()[user].replace("~batches:*", f"~{prefix}:*").split()
    with Redis.from_url(url) as admin:
        admin.execute_command(*words[:2], name, *words[3:])
    return url.replace("redis://", f"redis://{name}:{PASSWORDS[user]}@")
