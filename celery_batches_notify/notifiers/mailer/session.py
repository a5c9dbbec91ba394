"""One SMTP connection: its TLS, its login, its end."""

from __future__ import annotations

import base64
import contextlib
import hmac
import smtplib
import socket
import ssl
from collections.abc import Callable

from celery_batches_notify.notifiers.deadline import Sockets
from celery_batches_notify.notifiers.mailer.options import SmtpOptions
from celery_batches_notify.notifiers.mailer.receipt import MailFailed
from celery_batches_notify.text import one_line

_MECHANISMS = {"plain": "PLAIN", "login": "LOGIN", "cram_md5": "CRAM-MD5"}
_GO_ON, _LOGGED_IN = 334, 235


class Session(smtplib.SMTP):
    """smtplib's connection, with the TLS and timeouts of the options, and a login of its own."""

    def __init__(self, options: SmtpOptions, context: ssl.SSLContext, sockets: Sockets) -> None:
        self._options, self._context, self._sockets = options, context, sockets
        super().__init__(
            options.address, options.port, local_hostname=options.domain, timeout=options.open_timeout
        )
        try:
            self._start_tls()
        except BaseException:
            self.close()
            raise

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        sock = socket.create_connection((host, port), timeout)
        try:
            self._sockets.keep(sock)
            if self._options.starttls == "implicit":
                sock = self._context.wrap_socket(sock, server_hostname=host)
        except BaseException:
            sock.close()
            raise
        sock.settimeout(self._options.read_timeout)
        return sock

    def _start_tls(self) -> None:
        wanted = self._options.starttls
        if wanted not in ("required", "auto"):
            return
        self.ehlo_or_helo_if_needed()
        if self.has_extn("starttls"):
            self.starttls(context=self._context)
        elif wanted == "required":
            raise self._failure("the server offers no STARTTLS, which enable_starttls requires")
        elif self._options.logs_in and not self._options.is_loopback:
            raise self._failure(
                "the server offers no STARTTLS, so the password would travel in clear; "
                "use a server or port with TLS, or allow it with enable_starttls=False"
            )

    def leave(self) -> None:
        """End the connection. An error here does not undo what the server accepted."""
        with contextlib.suppress(OSError):
            self.quit()
        self.close()

    def log_in(self, user: str, secret: str, authentication: str | None) -> None:
        """Log in by the given mechanism, or by the first of `_MECHANISMS` that the server offers.

        Unlike `login`, it tries one mechanism only, and encodes as UTF-8. The error may hold the secret,
        because some servers repeat what they refuse.

        Raises:
            MailFailed: The server does not offer the mechanism.
            smtplib.SMTPAuthenticationError: The server refuses the login.
        """
        self.ehlo_or_helo_if_needed()
        mechanism = self._choose(authentication)
        opening, answers = _exchange(mechanism, user, secret)
        code, reply = self.docmd("AUTH", f"{mechanism} {opening}".rstrip())
        for answer in answers:
            if code != _GO_ON:
                break
            code, reply = self.docmd(answer(reply))
        if code != _LOGGED_IN:
            raise smtplib.SMTPAuthenticationError(code, reply)

    def _choose(self, authentication: str | None) -> str:
        offered = self.esmtp_features.get("auth", "").upper().split()
        if authentication is None:
            wanted = list(_MECHANISMS.values())
        else:
            wanted = [_MECHANISMS.get(authentication, authentication.upper())]
        for mechanism in wanted:
            if mechanism in offered:
                return mechanism
        raise self._failure(
            f"the server offers to log in by {one_line(', '.join(offered), 100) or 'nothing'}, "
            f"not by {' or '.join(wanted)}; choose another authentication, "
            "or a port with TLS if it offers more there"
        )

    def _failure(self, message: str) -> MailFailed:
        """Make an error with our own text, unredacted, because a password may be a common word."""
        return MailFailed(f"{self._options.where}: {message}")


def _exchange(mechanism: str, user: str, secret: str) -> tuple[str, list[Callable[[bytes], str]]]:
    """Return the argument of AUTH, and the functions that answer the server's challenges, one by one."""
    match mechanism:
        case "PLAIN":
            return _b64(f"\0{user}\0{secret}"), []
        case "LOGIN":
            return "", [lambda _: _b64(user), lambda _: _b64(secret)]
        case "CRAM-MD5":
            return "", [lambda challenge: _b64(f"{user} {_digest(secret, challenge)}")]
    # after a bad token XOAUTH2 answers 334, and sends the error after an empty line
    return _b64(f"user={user}\1auth=Bearer {secret}\1\1"), [lambda _: ""]


def _digest(secret: str, challenge: bytes) -> str:
    try:
        text = base64.b64decode(challenge)
    except ValueError:
        raise smtplib.SMTPAuthenticationError(_GO_ON, b"a challenge that is not base64") from None
    return hmac.new(secret.encode(), text, "md5").hexdigest()


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")
