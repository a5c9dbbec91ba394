"""Links that share one batch with everybody who has them, until they expire. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac

MAC_BYTES = 16


def sign_share(secret: str, bid: str, expires_at: int) -> str:
    """Return the token of a link to a batch that is good until so many seconds since 1970."""
    return f"{bid}.{expires_at}.{_mac(secret, bid, expires_at)}"


def read_share(secret: str, token: str, now: float) -> str | None:
    """Return the bid that a token shares, or None if it is forged or has expired."""
    bid, _, rest = token.partition(".")
    until, _, mac = rest.partition(".")
    if not (until.isascii() and until.isdigit() and len(until) <= 12):
        return None
    expected = _mac(secret, bid, int(until)).encode()
    if not hmac.compare_digest(mac.encode("utf-8", "replace"), expected):  # safety: share-signed
        return None
    return bid if now < int(until) else None  # safety: share-expires


def _mac(secret: str, bid: str, expires_at: int) -> str:
    text = f"share\n{bid}\n{expires_at}".encode()
    digest = hmac.new(secret.encode(), text, hashlib.sha256).digest()[:MAC_BYTES]
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
