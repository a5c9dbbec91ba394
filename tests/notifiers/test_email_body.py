"""The two bodies of a mail: they say the same, and hostile text in them is harmless."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_batches_notify.failure_groups import group_failures
from celery_batches_notify.model import Event, Notification, Origin
from celery_batches_notify.notifiers.email.body import write_digest, write_text
from celery_batches_notify.notifiers.email.html import fill, write_html
from celery_batches_notify.notifiers.mailer.header import is_one_line
from celery_batches_notify.notifiers.summary import link_of
from tests.support.samples import BID, CREATED_AT, HOSTILE, failing, failure, hostile, notification

MARKUP = (
    *HOSTILE,
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "</td></tr></table><h1>another mail</h1>",
    "</style><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "<!--[if mso]><script>x</script><![endif]-->",
    "--><script>alert(1)</script>",
    "<![CDATA[<b>]]>",
    "' onmouseover='alert(1)",
    '" style="position:fixed',
    "$title $colour ${sheet} $$",
    "&#x3c;script&#x3e;",
    "\ufeff<script>",
    "<\x00script>",
    "<a\nhref=javascript:alert(1)>",
)
LINKS = (
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    'https://ops.test/"onclick="alert(1)',
    "https://ops.test/'onclick='alert(1)",
    "https://ops.test/<script>",
    "https://ops.test/\nX: y",
    " https://ops.test",
    "ops.test",
)


class Outline(HTMLParser):
    """The elements of a document with the names of their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, ...]] = []
        self.links: list[str | None] = []
        self.text: list[str] = []
        self.strange: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, *(name for name, _ in attributes)))
        self.links += [value for name, value in attributes if name in ("href", "src", "action", "background")]

    def handle_data(self, data: str) -> None:
        if self.elements[-1:] != [("style",)]:
            self.text.append(data)

    def handle_comment(self, data: str) -> None:
        self.strange.append(data)

    unknown_decl = handle_pi = handle_comment


def failed(count: int, *, dead: int = 1, **changes: Any) -> Notification:
    """A notification of fifty tasks, so many of them failed."""
    return failing(count, dead=dead, **({"total": 50, "succeeded": 50 - count} | changes))


def bodies(about: Notification) -> tuple[str, str]:
    digest = write_digest(about)
    return write_text(digest), write_html(digest)


def words(text: str) -> set[str]:
    return set(text.split()) - {"·", "\u200b"}


@pytest.mark.parametrize(
    "about", [notification(), failed(12, dead=3), failed(2, dead=0), notification(total=0, succeeded=0)]
)
def test_the_text_and_the_html_say_the_same(about: Notification) -> None:
    text, html = bodies(about)

    shown = " ".join(Outline(html).text)
    assert {word.rstrip(".:,") for word in words(text)} - {
        "Open",
        "the",
        "batch",
        "--",
        about.subject[0],
    } <= {word.rstrip(".:,") for word in words(shown)} | {link_of(about)}
    assert link_of(about) in Outline(html).links


@pytest.mark.parametrize(
    ("about", "label"),
    [
        (notification(), "Succeeded"),
        (notification(Event.COMPLETE), "Succeeded"),
        (failed(2, dead=0), "Will be retried"),
        (failed(12, dead=3), "Failed"),
        (replace(failed(2, dead=2), event=Event.FINISH), "Failed"),
        (replace(failed(1, dead=1, pending=5, succeeded=45), event=Event.DEATH), "Failed"),
        (failed(2, cancelled_at=CREATED_AT), "Cancelled"),
        (notification(cancelled_at=CREATED_AT), "Succeeded"),
        (notification(Event.PROGRESS, succeeded=20, pending=30), "Running"),
        (notification(Event.STALL, succeeded=20, pending=30, failures=2, dead=1), "Stalled"),
        (notification(Event.DEADLINE, total=1, succeeded=0, pending=1), "Late"),
    ],
)
def test_the_label_and_the_headline_say_what_happened(about: Notification, label: str) -> None:
    text, html = bodies(about)
    sentence = about.subject.partition(" ")[2].removesuffix(": Import rows")

    assert text.startswith(f"{about.subject}\n\n")
    assert f"<title>{about.subject}</title>" in html
    assert f">{sentence}</h1>" in html and ">Import rows</p>" in html
    assert f">{about.subject[0]}&nbsp; {label}</span>" in html


def test_the_numbers_the_times_and_the_batch_are_there() -> None:
    about = failed(1200, dead=7, total=12_480, pending=1200, succeeded=11_280)
    origin = Origin(name="billing", environment="staging", timezone=ZoneInfo("Europe/Berlin"))
    text, _ = bodies(replace(about, origin=origin))

    for line in (
        "  Tasks               12,480",
        "  Succeeded           11,280",
        "  Will be retried      1,193",
        "  Failed for good          7",
        "  Started          2026-11-02 11:00:00 CET",
        "  Took             3 min 12 s",
        "  System           billing (staging)",
        "  Tags             customer:42",
        f"  Batch            {BID}",
        f"Open the batch: https://ops.test/{BID}#failures",
    ):
        assert f"\n{line}\n" in text


def test_failures_of_one_kind_are_one_entry_with_one_example() -> None:
    many = tuple(failure(error_class="db.IntegrityError", error_message=f"row {n}") for n in range(15))
    text, html = bodies(failed(17, failure_info=(*many, failure())))

    assert (
        "\n  15 × IntegrityError in import_row\n    row 0\n  db.IntegrityError in proj.tasks.import_row · "
        in text
    )
    assert "\n  ValueError in import_row\n    Something failed\n" in text
    assert " · attempt 1 · 2026-11-02 10:00:30 UTC · task 5b1f4b52-0a7e-4a30-9d6e-2c8f4b1d0e11\n" in text
    assert "row 1" not in text + html
    assert "and 1 more" in text and "and 1 more" in html


def test_a_mail_shows_the_kinds_of_the_page_and_where_each_failed() -> None:
    frame = '  File "/srv/app/importer.py", line {}, in load\n'
    rows = tuple(failure(error_message=f"row {n}", backtrace=frame.format(88)) for n in range(3))
    about = failed(4, failure_info=(*rows, failure(error_message="row 9", backtrace=frame.format(7))))
    text, _ = bodies(about)

    assert "\n  3 × ValueError in import_row\n    row 0\n" in text
    assert " · importer.py:88 · attempt 1 · " in text and "importer.py:7 · " in text
    kinds = group_failures(about.status.failure_info)
    assert [text.count(f"\n  {kind.counted}\n") for kind in kinds] == [1, 1]
    for level in ("messages", "counts"):
        assert "importer" not in write_text(write_digest(about, level))


@pytest.mark.parametrize(
    ("about", "part"),
    [
        (notification(), ""),
        (notification(Event.PROGRESS, succeeded=20, pending=30), ""),
        (failed(2, dead=0), "#why"),
        (notification(Event.STALL, succeeded=20, pending=30), "#why"),
        (failed(2), "#failures"),
        (failed(2, failure_info=()), "#why"),
    ],
)
def test_the_link_leads_to_the_part_of_the_page_that_matters(about: Notification, part: str) -> None:
    assert Outline(bodies(about)[1]).links == [f"https://ops.test/{BID}{part}"]


def test_ten_kinds_are_listed_and_the_others_counted() -> None:
    kinds = tuple(failure(error_class=f"Error{n}") for n in range(12))
    text, html = bodies(failed(12, failure_info=kinds))

    assert "Error9 in" in text and "Error10" not in text + html
    assert "and 2 more" in text and "and 2 more" in html


def test_a_mail_shows_no_more_failures_than_its_level() -> None:
    text, html = (write(write_digest(failed(2), "messages")) for write in (write_text, write_html))
    assert "Something failed 0" in text and "Something failed 0" in html
    assert "5b1f4b52" not in text + html
    text, html = (write(write_digest(failed(2), "counts")) for write in (write_text, write_html))
    assert "2 × ValueError in import_row" in text and "Something failed" not in text + html
    text, html = (write(write_digest(failed(2), "none")) for write in (write_text, write_html))
    assert "Failures" not in text + html and "1 of 50 failed for good" in text


def test_without_a_page_the_command_that_says_more_is_there() -> None:
    text, html = bodies(replace(failed(2), url=None, origin=Origin(app="proj")))
    command = f"celery -A proj batch doctor {BID}"

    assert f"\nSee more: {command}\n" in text and f">{command}</p>" in html
    assert all(
        "doctor" not in body for body in (*bodies(failed(2)), *bodies(replace(notification(), url=None)))
    )


def test_without_a_page_there_is_no_link() -> None:
    text, html = bodies(replace(notification(), url=None))

    assert "Open the batch" not in text + html and Outline(html).links == []


def test_a_second_attempt_says_that_it_may_be_a_repeat() -> None:
    first, again = bodies(notification()), bodies(replace(notification(), attempt=2))

    assert all("attempt 2: it may have come before" in body for body in again)
    assert not any("attempt" in body for body in first)


def test_nothing_is_loaded_from_anywhere() -> None:
    html = Outline(bodies(failed(3))[1])

    assert {tag for tag, *_ in html.elements}.isdisjoint(
        {"img", "script", "link", "iframe", "form", "object"}
    )
    assert html.links == [f"https://ops.test/{BID}#failures"]
    assert "url(" not in bodies(failed(3))[1] and "@import" not in bodies(failed(3))[1]


def test_every_class_has_its_look_inline_and_every_template_is_filled() -> None:
    html = bodies(failed(3))[1]

    assert "$" not in html
    assert all("style" in names for tag, *names in Outline(html).elements if "class" in names)


@pytest.mark.parametrize(
    ("succeeded", "failing_", "dead", "waiting", "widths"),
    [
        (48, 1, 1, 0, [96, 2, 2]),
        (12_477, 1, 1, 1, [97, 1, 1, 1]),
        (0, 0, 0, 10, [100]),
        (1, 1, 0, 1, [34, 33, 33]),
        (0, 0, 0, 0, [100]),
    ],
)
def test_the_bar_shows_every_share_and_is_always_full(
    succeeded: int, failing_: int, dead: int, waiting: int, widths: list[int]
) -> None:
    failures = failing_ + dead
    counts = {"succeeded": succeeded, "failures": failures, "dead": dead, "pending": failures + waiting}
    _, html = bodies(notification(total=succeeded + failures + waiting, **counts))

    bar = html.partition('class="bar"')[2].partition("</table>")[0]
    assert [int(width) for width in re.findall(r'width="(\d+)%">&nbsp;', bar)] == widths


@pytest.mark.parametrize("text", [text for text in MARKUP if text.strip()])
def test_no_text_becomes_an_element_an_attribute_or_a_comment(text: str) -> None:
    tame, wild = (Outline(bodies(hostile(words))[1]) for words in ("tame", text))

    assert wild.elements == tame.elements
    assert wild.links == tame.links and wild.strange == []


@pytest.mark.parametrize("url", LINKS)
def test_only_a_web_address_becomes_a_link(url: str) -> None:
    text, html = bodies(replace(notification(), url=url))

    assert Outline(html).links == [] and "Open the batch" not in text + html


@pytest.mark.parametrize("text", MARKUP)
def test_no_text_brings_control_characters_or_a_second_subject(text: str) -> None:
    about = hostile(text)

    assert is_one_line(about.subject)
    for body in bodies(about):
        assert all(line.isprintable() or is_one_line(line.replace("\t", "")) for line in body.split("\n"))
        body.encode()


def test_a_message_of_many_lines_cannot_pass_for_the_mails_own_words() -> None:
    message = "oops\n\nAll 50 succeeded.\r\n-- \rBatch x\u2028Open the batch: https://evil.test"
    text, _ = bodies(failed(1, failure_info=(failure(error_message=message),)))

    assert "\n    All 50 succeeded." in text and "\nAll 50" not in text
    assert "\n    Open the batch: https://evil.test" in text and "\nOpen the batch: https://evil" not in text


def test_long_texts_are_cut() -> None:
    text, html = bodies(hostile("x" * 50_000))

    assert len(text) < 5_000 and len(html) < 25_000


def test_fill_escapes_all_that_is_not_html_already() -> None:
    inner = fill("<b>$x</b>", x="<\"&'>")

    assert fill("<p a='$x'>$y</p>", x="'", y=inner) == "<p a='&#x27;'><b>&lt;&quot;&amp;&#x27;&gt;</b></p>"


@given(text=st.text(st.characters(exclude_categories=())), retries=st.integers(0, 2**40))
def test_any_text_makes_two_bodies_that_can_be_written(text: str, retries: int) -> None:
    bad = failure(
        task=text, error_class=text, error_message=text, task_id=text, retries=retries, failed_at=None
    )
    about = failed(1, description=text, tags=(text,), failure_info=(bad,))

    for body in (about.subject, *bodies(about)):
        body.encode()
    assert is_one_line(about.subject)


def test_times_keep_their_zone() -> None:
    later: Any = CREATED_AT + timedelta(hours=26, minutes=3)
    text, _ = bodies(notification(success_at=later))

    assert "  Took             1 d 2 h\n" in text
