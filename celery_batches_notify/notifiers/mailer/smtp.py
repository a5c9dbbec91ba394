"""Send a mail over SMTP, on a connection of our own, within a time limit.

yagmail's own `send` does not do: it attaches files that a text names, accepts any certificate with STARTTLS,
prompts for passwords, and after a lost connection it sleeps and reports nothing.
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
from celery_batches_notify.notifiers.redaction import Redactor
from celery_batches_notify.text import one_line

_TEXT_SHOWN = 300
_SERVICE_ENDS = 421  # a server may say so at any step; in answer to a recipient, it concerns only that mail
_REFUSED_STEP = {
    smtplib.SMTPSenderRefused: "the sender",
    smtplib.SMTPDataError: "the mail",
    smtplib.SMTPAuthenticationError: "the login",
    smtplib.SMTPHeloError: "the greeting",
}


def send(letter: Letter, options: SmtpOptions) -> tuple[Refusal, ...]:
    """Send a letter, and return the recipients that the server refused although it accepted others.

    Raises:
        MailFailed: The server accepted no recipient, or did not do so within `total_timeout`.
    """
    sockets = Sockets()
    taken: list[tuple[Refusal, ...]] = []
    try:
        run_within(options.total_timeout, lambda: _deliver(letter, options, sockets, taken), sockets.cut)
    except DeadlinePassed:
        if taken:  # only the goodbye was too slow  # safety: slow-goodbye
            return taken[0]
        raise MailFailed(f"{options.where} was not done after {options.total_timeout:g} s in all") from None
    return taken[0]


def _deliver(
    letter: Letter, options: SmtpOptions, sockets: Sockets, taken: list[tuple[Refusal, ...]]
) -> None:
    """Send a letter; put the refusals into `taken` at once, because leaving may take long."""
    login = read_login(options)
    redactor = Redactor(_forms_of(login), at_least=1)
    session: Session | None = None
    failure: MailFailed | None = None
    try:
        session = Session(options, _tls_context(options), sockets)
        if login is not None:
            session.log_in(*login)
        refused = session.sendmail(letter.sender, letter.recipients, letter.as_bytes())
        taken.append(_refusals(refused, redactor))
    except OSError as exc:  # the base of smtplib's and ssl's errors
        failure = _failure(exc, options.where, redactor)
    finally:
        if session is not None:
            session.leave()
        sockets.close()
    if failure is not None:
        # Raised outside the handler, so that smtplib's error, which quotes the server, is not its context.
        raise failure


def _forms_of(login: tuple[str, str, str | None] | None) -> tuple[str, ...]:
    """Return every form in which a server could repeat the secret."""
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


def _failure(exc: OSError, where: str, redactor: Redactor) -> MailFailed:
    match exc:
        case smtplib.SMTPRecipientsRefused():
            return _all_refused(_refusals(exc.recipients, redactor), where)
        case smtplib.SMTPResponseException():
            step = _REFUSED_STEP.get(type(exc), "the connection")
            about_the_mail = isinstance(exc, (smtplib.SMTPSenderRefused, smtplib.SMTPDataError))
            refusal = Refusal(address="", code=exc.smtp_code, text=_quote(exc.smtp_error, redactor))
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
    return MailFailed(f"{where}: {_quote(str(exc), redactor) or type(exc).__name__}")


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


def _refusals(refused: dict[str, tuple[int, bytes]], redactor: Redactor) -> tuple[Refusal, ...]:
    return tuple(
        Refusal(address=address, code=code, text=_quote(text, redactor))
        for address, (code, text) in refused.items()
    )


def _quote(text: bytes | str, redactor: Redactor) -> str:
    answer = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return one_line(redactor.hide(answer), _TEXT_SHOWN)
