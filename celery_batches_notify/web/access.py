"""Who may do what on the page, and whether a request that changes something comes from the page itself."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from time import time
from urllib.parse import urlsplit

from starlette.requests import Request

GRANTS = ("read", "retry", "cancel", "redeliver", "seal", "delete")
TOKEN_SECONDS = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What somebody may do.

    Attributes:
        grants: Of `read`, `retry`, `cancel`, `redeliver`, `seal` and `delete`. No `read`, no page.
        user: Who it is, for the log.
        challenge: What to ask the browser for if nothing may be seen, such as `Basic realm="batches"`.
    """

    grants: frozenset[str] = frozenset({"read"})
    user: str = ""
    challenge: str = ""


Decide = Callable[[Request], "Access | Collection[str] | Awaitable[Access | Collection[str]]"]


def read_only(_: Request) -> Access:
    """Let everybody read, and nobody change anything: what a page without `access=` does."""
    return Access()


def basic_auth(user: str, password: str, *, grants: Collection[str] = ("read",)) -> Decide:
    """Return an `access=` that asks for a name and a password, and gives who has them these grants.

    Args:
        user: The name.
        password: The password.
        grants: What they may do.
    """
    expected = base64.b64encode(f"{user}:{password}".encode())
    granted = check_grants(grants)

    def decide(request: Request) -> Access:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic" and hmac.compare_digest(_normal(given), expected):  # safety: password
            return Access(grants=granted, user=user)
        return Access(grants=frozenset(), challenge='Basic realm="batches", charset="UTF-8"')

    return decide


def check_grants(grants: Collection[str]) -> frozenset[str]:
    """Return the grants as a set; raise `ValueError` if one is none of `GRANTS`."""
    if isinstance(grants, str) or (unknown := set(grants) - set(GRANTS)):
        shown = grants if isinstance(grants, str) else ", ".join(sorted(unknown))
        raise ValueError(f"access must be a collection of {', '.join(GRANTS)}, got {shown!r}")
    return frozenset(grants)


def find_forgery(request: Request, *, behind_proxy: bool = False) -> str:
    """Say why a request that changes something may not come from our own page; empty if it does.

    Browsers send `Sec-Fetch-Site` to https and localhost only; over plain http `Origin` is compared with
    `Host`. What sends neither is no browser, and has to bring its credentials along.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return "" if site in ("same-origin", "none") else f"Sec-Fetch-Site is {site!r}, not 'same-origin'"
    origin = request.headers.get("origin")
    if origin is not None:
        forwarded = request.headers.get("x-forwarded-host") if behind_proxy else None
        host = forwarded or request.headers.get("host", "")
        return "" if urlsplit(origin).netloc == host else f"Origin {origin!r} is not Host {host!r}"
    if request.headers.get("authorization"):
        return ""
    return "the request has no Sec-Fetch-Site, no Origin and no Authorization header"


class FormTokens:
    """Tokens that a form carries, so that only a form of ours is obeyed; valid for one to two hours.

    Args:
        secret: What they are signed with; the same in all processes that serve the page.
        clock: The time in seconds since 1970.
    """

    def __init__(self, secret: bytes, clock: Callable[[], float] = time) -> None:
        self._secret = secret
        self._clock = clock

    def make(self, *about: str) -> str:
        """Return the token of a form about this: who, what and which batch."""
        return self._sign(int(self._clock() // TOKEN_SECONDS), about)

    def fits(self, token: str, *about: str) -> bool:
        """Whether this is the token of such a form."""
        hour = int(self._clock() // TOKEN_SECONDS)
        expected = [self._sign(each, about) for each in (hour, hour - 1)]
        return any(secrets.compare_digest(_normal(token), each.encode()) for each in expected)

    def _sign(self, hour: int, about: tuple[str, ...]) -> str:
        text = "\n".join([str(hour), *about]).encode()
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()[:32]


def _normal(given: str) -> bytes:
    """Return text of a stranger as bytes, because only ASCII text can be compared in constant time."""
    return given.encode("utf-8", "replace")
