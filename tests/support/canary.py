"""Canaries: secrets that can be found again in any form, and what they are put into."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

from celery_batches_notify.notifiers.signature import PREFIX
from tests.support.smtp_server import PASSWORD as SMTP_PASSWORD

CANARY = "SENTINEL-9f3c1a"
WEIRD = f"{CANARY}/p w:%"
ROOT = "SENTINEL"  # what every canary begins with, and nothing else holds
SIGNING_KEY = f"{PREFIX}SENTINEL9f3c1a{'A' * 34}"


def forms(secret: str) -> set[str]:
    """Return how a text may give a secret away: as it is, quoted, backwards, in hex and in base64."""
    octets = secret.encode()
    found = {secret, secret[::-1], quote(secret, safe=""), octets.hex()}
    for shift in range(3):  # base64 of any text that has it in it, wherever it starts
        coded = base64.b64encode(b"\0" * shift + octets + b"\0" * (-(shift + len(octets)) % 3)).decode()
        whole = coded[4 if shift else 0 : len(coded) - (4 if (shift + len(octets)) % 3 else 0)]
        found |= {whole, whole.replace("+", "-").replace("/", "_"), whole[::-1]}
    return found


FORMS = forms(ROOT) | {CANARY.lower()}


def find(text: str) -> list[str]:
    """Return what stands around each canary in a text."""
    return [text[max(0, at - 60) : at + 60] for form in sorted(FORMS) if (at := text.find(form)) >= 0]


def http_profiles(label: str, url: str) -> dict[str, dict[str, Any]]:
    """Return a profile of every notifier over HTTP, with a canary in each field that may hold a secret."""
    secret_url = {"url": f"{url}/hooks/{CANARY}/{label}?key={CANARY}"}
    return {
        f"webhook:{label}": secret_url
        | {
            "username": "mike",
            "password": WEIRD,
            "secret": [SIGNING_KEY, "env:CANARY_SIGNING_KEY"],
            "headers": {"X-Auth": CANARY, "X-Token": "env:CANARY_TOKEN"},
        },
        f"campfire:{label}": {"url": url, "roomid": 1, "token": CANARY},
        f"campfire:{label}-today": {"url": url, "roomid": 2, "bot_key": f"7-{CANARY}"},
        f"hipchat:{label}": {"url": url, "roomid": 3, "token": WEIRD},
        f"hipchat:{label}-v1": {"url": url, "roomid": 4, "token": "env:CANARY_TOKEN", "api": "v1"},
        **{f"{kind}:{label}": secret_url for kind in ("slack", "mattermost", "rocketchat", "discord")},
        f"teams:{label}": {"url": "env:CANARY_URL_" + label.upper()},
    }


def apprise_profile(label: str, url: str) -> dict[str, dict[str, Any]]:
    urls = [f"{url.replace('http:', 'json:')}/{CANARY}-{label}?+X-Token={CANARY}"]
    return {f"apprise:{label}": {"urls": urls}}


def mail_profile(label: str, address: str, port: int, *, good: bool = True) -> dict[str, dict[str, Any]]:
    """Return a profile for mail. An address of its own keeps it apart from what fails elsewhere."""
    login = {"user_name": "mailer@example.com", "authentication": "plain"}
    login["password"] = "env:CANARY_SMTP" if good else CANARY
    options = {"address": address, "port": port, **login}
    return {
        f"email:{label}": {
            "to": "ops@example.com",
            "from": "celery@example.com",
            "via": "smtp",
            "via_options": options,
        }
    }


def environment(**urls: str) -> dict[str, str]:
    """Return the variables that the profiles refer to."""
    return {
        "CANARY_SMTP": SMTP_PASSWORD,
        "CANARY_TOKEN": WEIRD.replace("%", ""),
        "CANARY_SIGNING_KEY": SIGNING_KEY,
        **{f"CANARY_URL_{label.upper()}": f"{url}/{CANARY}/{label}" for label, url in urls.items()},
    }
