"""Failures of one kind are put together."""

from __future__ import annotations

import random
from uuid import UUID

import pytest

from celery_batches_notify.failure_groups import find_place, generalise, group_failures
from celery_batches_notify.model import Failure

RANDOM = random.Random(7)
TRACE = """Traceback (most recent call last):
  File "/usr/lib/python3.11/site-packages/celery/app/trace.py", line 451, in trace_task
    R = retval = fun(*args, **kwargs)
  File "/srv/proj/mailer.py", line {line}, in send_mail
    server.send(mail)
  File "/usr/lib/python3.11/smtplib.py", line 398, in getreply
    raise SMTPServerDisconnected("Connection unexpectedly closed")
smtplib.SMTPServerDisconnected: Connection unexpectedly closed
"""


def fail(message: str, *, error: str = "ValueError", task: str = "proj.load", line: int = 88) -> Failure:
    return Failure(
        task_id=str(UUID(int=RANDOM.getrandbits(128))),
        task=task,
        error_class=error,
        error_message=message,
        backtrace=TRACE.format(line=line),
        retries=0,
    )


def test_ids_paths_and_numbers_do_not_make_another_kind() -> None:
    kinds = [
        lambda n: fail(f"row {n} of /data/in/{n}.csv: {UUID(int=n)} is taken"),
        lambda n: fail(f"https://api.example.com/{n}?x={n} answered {500 + n % 4} after {n}.5 s"),
        lambda n: fail(f"<Row at 0x{n:012x}> for mail{n}@example.com", error="KeyError"),
    ]
    failures = [kinds[0 if n < 2_000 else 1 if n < 3_500 else 2](n) for n in range(4_213)]
    RANDOM.shuffle(failures)
    groups = group_failures(failures)
    assert [group.count for group in groups] == [2_000, 1_500, 713]
    assert {failure.task_id for group in groups for failure in group.failures} == {
        failure.task_id for failure in failures
    }


@pytest.mark.parametrize(
    "other",
    [
        fail("no", task="proj.save"),
        fail("no", error="KeyError"),
        fail("yes"),
        fail("no", line=89),
    ],
    ids=["task", "class", "message", "place"],
)
def test_what_fails_otherwise_is_another_kind(other: Failure) -> None:
    assert len(group_failures([fail("no"), fail("no"), other])) == 2


def test_a_kind_says_what_failed_where_first_and_last() -> None:
    failures = [fail(f"row {n} is bad", error="sqlalchemy.exc.IntegrityError") for n in range(3)]
    (group,) = group_failures(failures)
    assert (group.title, group.message) == ("IntegrityError in load", "row … is bad")
    assert group.place == "mailer.py:88"
    assert (group.first, group.last) == (failures[0], failures[2])


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("KeyError: 'vat'", "KeyError: 'vat'"),
        ("500, 1,000 and 3.14", "…, … and …"),
        ("deadbeefcafe1234 at 10.0.0.1:5432", "… at …"),
        ("two\nlines \x1b[31m", "two lines [… m".replace("… m", "…m")),
        ("decade facade", "decade facade"),
    ],
)
def test_a_message_is_generalised(message: str, kind: str) -> None:
    assert generalise(message) == kind


def test_a_backtrace_without_frames_has_no_place() -> None:
    assert find_place("no such thing") == ""
    assert find_place('  File "/x/site-packages/lib.py", line 3, in f') == "lib.py:3"
