"""`via="sendmail"`: a program gets the mail, and its exit code decides."""

from __future__ import annotations

import os
import sys
import time
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from celery_batches_notify.notifiers.mailer import MailFailed, Receipt, mail


def send(
    location: object, *, to: object = "a@example.com", body: str = "Ready.", **via_options: Any
) -> Receipt:
    given = {"location": str(location), **via_options}
    return mail(
        to=to, bcc="-c@example.com", from_="me@example.com", body=body, via="sendmail", via_options=given
    )


def test_the_program_gets_the_envelope_as_arguments_and_the_mail_as_input(program: Path) -> None:
    receipt = send(program, body="one\n.\ntwo")

    assert (program.parent / "arguments").read_text().splitlines() == [
        *("-i", "-f", "me@example.com", "--", "a@example.com", "-c@example.com")
    ]
    sent = (program.parent / "mail").read_bytes()
    assert b"\r" not in sent and b"-c@example.com" not in sent
    assert message_from_bytes(sent, policy=default).get_content() == "one\n.\ntwo\n"  # type: ignore[attr-defined]
    assert receipt.accepted == ("a@example.com", "-c@example.com")


def test_arguments_of_ones_own_take_the_place_of_the_default(program: Path) -> None:
    send(program, arguments=["-i", "-N", "never; touch /tmp/x"])

    assert (program.parent / "arguments").read_text().splitlines()[:3] == ["-i", "-N", "never; touch /tmp/x"]


@pytest.mark.parametrize(
    ("code", "permanent"),
    [(65, True), (67, True), (68, True), (75, False), (69, False), (78, False), (1, False)],
)
def test_an_exit_code_about_this_mail_is_permanent_and_any_other_is_not(
    program: Path, code: int, permanent: bool
) -> None:
    (program.parent / "exit").write_text(str(code))

    with pytest.raises(MailFailed, match="told to fail") as caught:
        send(program)

    assert caught.value.permanent is permanent


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this Python has no files in memory")
@pytest.mark.usefixtures("no_temporary_directory")
def test_it_needs_no_directory_for_temporary_files(program: Path) -> None:
    (program.parent / "exit").write_text("75")

    with pytest.raises(MailFailed, match="told to fail"):
        send(program)


def test_it_works_in_a_python_that_was_built_for_an_old_libc(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (program.parent / "exit").write_text("75")
    monkeypatch.delattr(os, "memfd_create", raising=False)

    with pytest.raises(MailFailed, match="told to fail"):
        send(program)


@pytest.mark.parametrize("location", ["/nowhere/sendmail", "/etc/passwd", "/"])
def test_a_program_that_cannot_be_run_is_named(location: str) -> None:
    with pytest.raises(MailFailed, match=location) as caught:
        send(location)

    assert not caught.value.permanent


def test_a_machine_without_sendmail_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # a mock, because this machine may have one
    monkeypatch.setattr("celery_batches_notify.notifiers.mailer.sendmail.find_sendmail", lambda: None)

    with pytest.raises(MailFailed, match="give its path as location"):
        mail("a@example.com", via="sendmail")


def test_a_program_that_does_not_end_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "sendmail"
    path.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n")
    path.chmod(0o755)

    began = time.monotonic()
    with pytest.raises(MailFailed, match=r"0\.3 s"):
        send(path, total_timeout=0.3)

    assert time.monotonic() - began < 30


def test_what_a_program_leaves_running_does_not_make_its_mail_a_failure(tmp_path: Path) -> None:
    path, end = tmp_path / "sendmail", tmp_path / "end"
    path.write_text(
        f'#!/bin/sh\ncat > "{tmp_path}/mail"\n(until test -e "{end}"; do sleep 0.1; done) &\nexit 0\n'
    )
    path.chmod(0o755)

    try:
        assert send(path, total_timeout=20).refused == ()
    finally:
        end.touch()


def test_a_program_that_reads_nothing_is_no_accident(tmp_path: Path) -> None:
    path = tmp_path / "sendmail"
    path.write_text("#!/bin/sh\nexit 0\n")
    path.chmod(0o755)

    assert send(path, body="x" * 1_000_000).refused == ()
