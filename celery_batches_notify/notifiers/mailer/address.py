"""Parse mail addresses as people write them, and refuse ambiguous ones.

The parsers of the standard library guess (CVE-2023-27043) and decode encoded words. This one accepts only
`user@host`, `Name <user@host>` and lists of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from celery_batches_notify.notifiers.mailer.header import HeaderLine, encode_words, header_line, is_one_line

Addresses = str | Iterable[str]

_MAILBOX = re.compile(
    r"""\s*(?:
        (?P<name>"(?:[^"\\]|\\.)*"|[^"<>@,;:()\\\[\]]*)\s*<\s*(?P<bracketed>[^<>\s]+)\s*>
        |(?P<bare>[^<>"\s,;:()]+)
    )\s*(?:,|\Z)""",
    re.VERBOSE,
)
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
_USER = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*|\[(?:IPv6:)?[0-9A-Fa-f:.]+\]")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_LONGEST, _LONGEST_NAME = 254, 60  # so that a line with both is short enough
_FIX = (
    "write user@host, the user in plain ASCII, or Name <user@host>, the name in double quotes if it has "
    "special characters; several in a list or with commas between"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One mailbox: `spec` is `user@host` in ASCII, `name` its owner's name, or empty."""

    spec: str
    name: str = ""

    @property
    def host(self) -> str:
        """The part after the `@`."""
        return self.spec.rpartition("@")[2]

    def __str__(self) -> str:
        return f"{self.name} <{self.spec}>" if self.name else self.spec


def parse_addresses(option: str, written: Addresses | None) -> tuple[Address, ...]:
    """Return the mailboxes of one option, each once, in their order.

    Args:
        option: The option's name; errors quote it.
        written: One text or several. Each holds one mailbox or more, separated by commas.

    Raises:
        TypeError: One of them is not a string.
        ValueError: One of them is not an address that can be written safely.
    """
    if written is not None and not isinstance(written, Iterable):
        raise TypeError(f"{option} must be an address or a list of addresses, got {written!r}")
    texts = [written] if isinstance(written, str) else list(written or ())
    found: dict[str, Address] = {}
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{option}: an address must be a string, got {text!r}")
        if not is_one_line(text):
            raise ValueError(f"{option} holds a line break or another control character: {text!r}")
        for address in _read(option, " ".join(text.split())):
            found.setdefault(address.spec, address)
    return tuple(found.values())


def parse_address(option: str, written: str) -> Address:
    """Return the one mailbox of an option that takes one.

    Raises:
        ValueError: It is not exactly one address that can be written safely.
    """
    addresses = parse_addresses(option, written)
    if len(addresses) != 1:
        raise ValueError(f"{option} must be one address, got {len(addresses)}: {written!r}")
    return addresses[0]


def address_line(name: str, addresses: Iterable[Address]) -> HeaderLine:
    """Make the header that lists these mailboxes."""
    listed = list(addresses)
    wire = ",\n ".join(_written(name, address) for address in listed)
    return header_line(name, ", ".join(map(str, listed)), wire)


def _read(option: str, text: str) -> Iterable[Address]:
    end = 0
    while end < len(text):
        match = _MAILBOX.match(text, end)
        if match is None:
            raise ValueError(f"{option}: {text[end:].strip()!r} is not an address; {_FIX}")
        name = (match["name"] or "").strip()
        if name.startswith('"'):
            name = re.sub(r"\\(.)", r"\1", name[1:-1])
        yield Address(spec=_spec(option, match["bracketed"] or match["bare"]), name=name)
        end = match.end()


def _spec(option: str, written: str) -> str:
    import idna  # noqa: PLC0415 -- slow to import, and most hosts are ASCII

    user, at, host = written.rpartition("@")
    try:
        # Python's own codec turns ß into ss, which is somebody else's domain
        host = host if host.isascii() else idna.encode(host, uts46=True).decode()  # safety: own-domain
    except UnicodeError:
        host = ""
    spec = f"{user}@{host}"
    # a mail reader could decode "=?" into another address
    if (
        not at
        or not _USER.fullmatch(user)
        or "=?" in user
        or not _HOST.fullmatch(host)
        or len(spec) > _LONGEST
    ):
        raise ValueError(f"{option}: {written!r} is not an address; {_FIX}")
    return spec


def _written(header: str, address: Address) -> str:
    if not address.name:
        return address.spec
    if not address.name.isascii() or "=?" in address.name or len(address.name) > _LONGEST_NAME:
        name = encode_words(header, address.name, always=True)
    elif _PLAIN_NAME.fullmatch(address.name):
        name = address.name
    else:
        name = '"{}"'.format(re.sub(r'(["\\])', r"\\\1", address.name))
    return f"{name} <{address.spec}>"
