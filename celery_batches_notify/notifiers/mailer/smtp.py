"""SMTP: a mail over a connection of our own, in time.

yagmail's own `send` is not used: it attaches files that a text names, takes any certificate with STARTTLS,
asks for passwords, and sleeps over lost connections to report nothing then.
"""

from __future__ import annotations

import base64
import smtplib
import ssl

from celery_batches_notify.notifiers.deadline import DeadlinePassed, Sockets, run_within
from celery_batches_notify.notifiers.mailer.letter import Letter
from celery_batches_notify.notifiers.mailer.login import read_login
from celery_batches_notify.notifiers.mailer.options import SmtpOptions
from celery_batches_notify.notifiers.mailer.receipt import MailFailed, Refusal
from celery_batches_notify.notifiers.mailer.session import Session
from celery_batches_notify.notifiers.redaction import hide
from celery_batches_notify.text import one_line

_TEXT_SHOWN = 300
_SERVICE_ENDS = 421  # a server may say this at any step; said of a recipient, it is about that mail
_REFUSED_STEP = {
    smtplib.SMTPSenderRefused: "the sender",
    smtplib.SMTPDataError: "the mail",
    smtplib.SMTPAuthenticationError: "the login",
    smtplib.SMTPHeloError: "the greeting",
}


def send(letter: Letter, options: SmtpOptions) -> tuple[Refusal, ...]:
    """Hand a letter to the server, and return the recipients it refused while it took the others.

    Raises:
        MailFailed: No recipient was accepted, or it did not come to that within `total_timeout`.
    """
    sockets = Sockets()
    try:
        return run_within(options.total_timeout, lambda: _deliver(letter, options, sockets), sockets.cut)
    except DeadlinePassed:
        raise MailFailed(f"{options.where} was not done after {options.total_timeout:g} s in all") from None


def _deliver(letter: Letter, options: SmtpOptions, sockets: Sockets) -> tuple[Refusal, ...]:
    login = read_login(options)
    hidden = _forms_of(login)
    session = None
    try:
        session = Session(options, _tls_context(options), sockets)
        if login is not None:
            session.log_in(*login)
        return _refusals(session.sendmail(letter.sender, letter.recipients, letter.as_bytes()), hidden)
    except OSError as exc:  # which smtplib's and ssl's errors are
        failure = _failure(exc, options.where, hidden)
    finally:
        if session is not None:
            session.leave()
        sockets.close()
    # Raised outside of the handler, so that smtplib's error, with what the server said, is not its context.
    raise failure


def _forms_of(login: tuple[str, str, str | None] | None) -> tuple[str, ...]:
    """Return what a server that repeats what it was sent would give away."""
    if login is None or not login[1]:
        return ()
    user, secret, _ = login
    sent = (secret, f"\0{user}\0{secret}", f"user={user}\1auth=Bearer {secret}\1\1")
    return (secret, *(base64.b64encode(text.encode()).decode() for text in sent))


def _tls_context(options: SmtpOptions) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=options.ca_file, capath=options.ca_path)
    except OSError as exc:
        raise MailFailed(f"ca_file {options.ca_file!r} cannot be used: {one_line(str(exc), 100)}") from exc


def _failure(exc: OSError, where: str, hidden: tuple[str, ...]) -> MailFailed:
    match exc:
        case smtplib.SMTPRecipientsRefused():
            return _all_refused(_refusals(exc.recipients, hidden), where)
        case smtplib.SMTPResponseException():
            step = _REFUSED_STEP.get(type(exc), "the connection")
            about_the_mail = isinstance(exc, (smtplib.SMTPSenderRefused, smtplib.SMTPDataError))
            refusal = Refusal(address="", code=exc.smtp_code, text=_words(exc.smtp_error, hidden))
            return MailFailed(
                f"{where} refused {step}: {refusal}",
                permanent=about_the_mail and refusal.is_final,
                status_code=refusal.code if refusal.code > 0 else None,
                alone=about_the_mail and refusal.code != _SERVICE_ENDS,
            )
        case ssl.SSLCertVerificationError():
            return MailFailed(
                f"the certificate of {where} is not trusted: {exc.verify_message}; if its CA is your own, "
                "give that as ca_file"
            )
    return MailFailed(f"{where}: {_words(str(exc), hidden) or type(exc).__name__}")


def _all_refused(refused: tuple[Refusal, ...], where: str) -> MailFailed:
    passing = [refusal for refusal in refused if not refusal.is_final]
    shown = (passing or refused)[0]
    return MailFailed(
        f"{where} refused every recipient, {shown.address} with {shown}",
        permanent=not passing,
        status_code=shown.code,
        refused=refused,
        alone=True,  # safety: mailbox-full
    )


def _refusals(refused: dict[str, tuple[int, bytes]], hidden: tuple[str, ...]) -> tuple[Refusal, ...]:
    return tuple(
        Refusal(address=address, code=code, text=_words(text, hidden))
        for address, (code, text) in refused.items()
    )


def _words(text: bytes | str, hidden: tuple[str, ...]) -> str:
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return one_line(hide(words, dict.fromkeys(hidden, "…"), at_least=1), _TEXT_SHOWN)
