"""Check `via_options`, which have Pony's names, before anything is sent."""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celery_batches_notify.notifiers.options import check_seconds, to_seconds

AUTHENTICATIONS = ("plain", "login", "cram_md5", "none")
_STARTTLS = {True: "required", "always": "required", "auto": "auto", False: "off"}
_WORD = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpOptions:
    """How to connect to an SMTP server, secure the connection and log in.

    `starttls` is `required`, `auto` (if the server offers it), `off`, or `implicit`: TLS from the first byte.
    If `authentication` is None, the server's offer decides.
    """

    address: str = "localhost"
    port: int = 25
    domain: str = "localhost.localdomain"
    user_name: str | None = None
    password: str | None = field(default=None, repr=False)
    authentication: str | None = None
    oauth2_file: str | None = None
    keyring: bool = False
    starttls: str = "auto"
    ca_file: str | None = None
    ca_path: str | None = None
    open_timeout: float = 5.0
    read_timeout: float = 30.0
    total_timeout: float = 60.0

    @property
    def where(self) -> str:
        """The server's name in errors."""
        return f"{self.address}:{self.port}"

    @property
    def logs_in(self) -> bool:
        """Whether the mailer logs in."""
        named = self.user_name is not None or self.oauth2_file is not None
        return named and self.authentication != "none"

    @property
    def is_loopback(self) -> bool:
        """Whether the server is this machine, so that nobody can listen on the way."""
        try:
            return ipaddress.ip_address(self.address).is_loopback
        except ValueError:
            return self.address.lower() == "localhost"


@dataclass(frozen=True, slots=True, kw_only=True)
class SendmailOptions:
    """The local program that gets the mail, and its arguments before `-f sender -- recipient …`."""

    location: str | None = None
    arguments: tuple[str, ...] = ("-i",)
    total_timeout: float = 60.0


def read_smtp_options(via_options: Mapping[str, Any]) -> SmtpOptions:
    """Check the options of `via="smtp"`; None means an option's default.

    Raises:
        TypeError: One is of a wrong type.
        ValueError: One is unknown, has a wrong value, or contradicts another; the text says what to write.
    """
    given = _known(
        "smtp",
        via_options,
        "address port domain user_name password authentication oauth2_file keyring enable_starttls "
        "enable_starttls_auto ssl tls openssl_verify_mode ca_file ca_path open_timeout read_timeout "
        "total_timeout",
    )
    starttls = _starttls(given)
    _check_verify_mode(given.pop("openssl_verify_mode", "peer"))
    for name in ("address", "domain", "user_name", "password", "ca_file", "ca_path", "oauth2_file"):
        if not isinstance(given.get(name, ""), str):
            raise TypeError(f"via_options: {name} must be a string")
    for name in ("address", "domain"):
        if not _WORD.fullmatch(given.get(name, "x")):
            raise ValueError(f"via_options: {name} {given[name]!r} is not a host name or an IP address")
    for name in ("open_timeout", "read_timeout", "total_timeout"):
        if name in given:
            given[name] = _seconds(name, given[name])
    given["port"] = _port(given.get("port", 465 if starttls == "implicit" else 25))
    options = SmtpOptions(**given, starttls=starttls)
    return _check_login(options)


def read_sendmail_options(via_options: Mapping[str, Any]) -> SendmailOptions:
    """Check the options of `via="sendmail"`; None means an option's default.

    Raises:
        ValueError: One is unknown or has a wrong value; the text says what to write.
    """
    given = _known("sendmail", via_options, "location arguments total_timeout")
    location = given.get("location")
    if location is not None and (not isinstance(location, str) or not location.startswith("/")):
        raise ValueError(
            f"via_options: location must be an absolute path such as /usr/sbin/sendmail, got {location!r}"
        )
    arguments = given.get("arguments", "-i")
    words = shlex.split(arguments) if isinstance(arguments, str) else list(arguments)
    if not all(isinstance(word, str) for word in words) or "-t" in words:
        raise ValueError(
            'via_options: arguments must be a string such as "-i", or a list of strings, without "-t", '
            "because the command line names the recipients, even Bcc ones"
        )
    seconds = _seconds("total_timeout", given.get("total_timeout", 60))
    return SendmailOptions(location=location, arguments=tuple(words), total_timeout=seconds)


def _known(via: str, via_options: Mapping[str, Any], names: str) -> dict[str, Any]:
    if unknown := sorted(set(via_options) - set(names.split())):
        raise ValueError(
            f"via_options: unknown option {', '.join(map(str, unknown))} for via={via!r}; "
            f"its options are {', '.join(names.split())}"
        )
    return {name: value for name, value in via_options.items() if value is not None}


def _starttls(given: dict[str, Any]) -> str:
    tls = [given.pop(name) for name in ("ssl", "tls") if name in given]
    asked = [(name, given.pop(name)) for name in ("enable_starttls", "enable_starttls_auto") if name in given]
    for value in tls:
        if not isinstance(value, bool):
            raise TypeError(f"via_options: ssl and tls must be True or False, got {value!r}")
    meant = set()
    for name, value in asked:
        if not isinstance(value, (bool, str)) or value not in _STARTTLS:
            raise ValueError(f'via_options: {name} must be True, False, "always" or "auto", got {value!r}')
        auto = name == "enable_starttls_auto" and value is True
        meant.add("auto" if auto else _STARTTLS[value])
    if any(tls):
        if meant - {"off"}:
            raise ValueError(
                "via_options: ssl/tls (TLS from the first byte, port 465) and enable_starttls (TLS after "
                "a greeting, ports 25 and 587) exclude each other; keep the one that your server speaks"
            )
        return "implicit"
    if len(meant) > 1:
        raise ValueError(
            "via_options: enable_starttls and enable_starttls_auto contradict each other; "
            'give enable_starttls alone: True (required), "auto" or False'
        )
    return meant.pop() if meant else "auto"


def _check_verify_mode(mode: object) -> None:
    if mode != "peer":
        raise ValueError(
            f"via_options: openssl_verify_mode {mode!r} is refused: certificates are always verified; "
            'if the server has a CA of its own, give that CA as ca_file="/path/ca.pem"'
        )


def _seconds(name: str, value: Any) -> float:
    check_seconds(f"via_options: {name}", value)
    return to_seconds(value)


def _port(value: object) -> int:
    digits = str(value)
    if isinstance(value, bool) or not (digits.isascii() and digits.isdigit() and 0 < int(digits) < 65_536):
        raise ValueError(f"via_options: port must be a port such as 25, 465 or 587, got {value!r}")
    return int(digits)


def _check_login(options: SmtpOptions) -> SmtpOptions:
    if options.authentication is not None and options.authentication not in AUTHENTICATIONS:
        raise ValueError(
            f"via_options: authentication must be one of {', '.join(AUTHENTICATIONS)}, "
            f"got {options.authentication!r}"
        )
    named = options.user_name is not None
    if options.oauth2_file is not None and (
        options.password is not None or options.authentication is not None
    ):
        raise ValueError("via_options: oauth2_file logs in by itself; leave password and authentication out")
    if not isinstance(options.keyring, bool):
        raise TypeError(f"via_options: keyring must be True or False, got {options.keyring!r}")
    if options.keyring and (not named or options.password is not None or options.oauth2_file is not None):
        raise ValueError("via_options: keyring goes with user_name alone, because it holds the password")
    if options.oauth2_file is None and named != (options.password is not None or options.keyring):
        raise ValueError(
            "via_options: user_name and password go together: give both or neither, or keyring=True if "
            "yagmail's keyring holds the password"
        )
    if options.authentication in ("plain", "login", "cram_md5") and not named:
        raise ValueError(
            f"via_options: authentication {options.authentication!r} needs user_name and password; "
            'without a login write "none" or leave it out'
        )
    return options
