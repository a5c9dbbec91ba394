"""The rights of users, and the checks that a request that changes something comes from the page itself."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from time import time
from urllib.parse import urlsplit

from starlette.requests import Request

GRANTS = ("read", "retry", "cancel", "redeliver", "seal", "delete")
TOKEN_SECONDS = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The rights of the user who sent a request.

    Attributes:
        grants: Any of `read`, `retry`, `cancel`, `redeliver`, `seal` and `delete`. A user without
            `read` sees no page.
        user: The name of the user, which the page logs with each action.
        challenge: The `WWW-Authenticate` header to send if the user may not read, such as
            `Basic realm="batches"`.

    Raises:
        ValueError: A grant is unknown, or the grants are no collection, such as a set, list or tuple.
    """

    grants: frozenset[str] = frozenset({"read"})
    user: str = ""
    challenge: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "grants", check_grants(self.grants))


Decide = Callable[[Request], "Access | Collection[str] | Awaitable[Access | Collection[str]]"]


def read_only(_: Request) -> Access:
    """Let everybody read and nobody change anything: the default of `access=`."""
    return Access()


def basic_auth(user: str, password: str, *, grants: Collection[str] = ("read",)) -> Decide:
    """Return a function for `access=` that asks for a name and a password, and then gives these grants.

    Args:
        user: The name.
        password: The password.
        grants: The rights of a user who gives both.
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
    """Return the grants as a set; raise `ValueError` if one is not in `GRANTS`.

    A mapping is refused, because the keys of `{"read": True, "delete": False}` would grant both.
    """
    is_set = isinstance(grants, Collection) and not isinstance(grants, (str, Mapping))  # safety: grants-set
    if not is_set or (unknown := set(grants) - set(GRANTS)):
        shown = ", ".join(sorted(unknown)) if is_set else grants
        raise ValueError(f"access must be a collection of {', '.join(GRANTS)}, got {shown!r}")
    return frozenset(grants)


def find_forgery(request: Request, *, behind_proxy: bool = False) -> str:
    """Say why a request that changes something may not come from our own page; return "" if it does.

    Browsers send `Sec-Fetch-Site` only to https and localhost, so over plain http this compares `Origin`
    with `Host`. A client that sends neither header is not a browser, and must send `Authorization`.
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
    """Makes and checks the tokens of forms, so that the page obeys only its own; valid for one to two hours.

    Args:
        secret: The key that signs the tokens; the same in all processes that serve the page.
        clock: The time in seconds since 1970.
    """

    def __init__(self, secret: bytes, clock: Callable[[], float] = time) -> None:
        self._secret = secret
        self._clock = clock

    def make(self, *about: str) -> str:
        """Return the token for a form, given its user, action and batch."""
        return self._sign(int(self._clock() // TOKEN_SECONDS), about)

    def fits(self, token: str, *about: str) -> bool:
        """Return whether `make` made this token for the same user, action and batch."""
        hour = int(self._clock() // TOKEN_SECONDS)
        expected = [self._sign(each, about) for each in (hour, hour - 1)]
        return any(secrets.compare_digest(_normal(token), each.encode()) for each in expected)

    def _sign(self, hour: int, about: tuple[str, ...]) -> str:
        text = "\n".join([str(hour), *about]).encode()
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()[:32]


def _normal(given: str) -> bytes:
    """Return a client's text as bytes, because `compare_digest` accepts only ASCII in a `str`."""
    return given.encode("utf-8", "replace")
