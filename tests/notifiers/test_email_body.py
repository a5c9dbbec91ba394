"""The two bodies of a mail: what they say, that they say the same, and that nothing in them can act."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import BID, CREATED_AT, HOSTILE, failing, failure, hostile, notification

from celery_batches_notify.model import Event, Notification
from celery_batches_notify.notifiers.email_body import write_digest, write_subject, write_text
from celery_batches_notify.notifiers.email_html import fill, write_html
from celery_batches_notify.notifiers.mailer.header import is_one_line

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
    """Of fifty tasks so many failed."""
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
    assert {word.rstrip(".:,") for word in words(text)} - {"Open", "the", "batch", "--"} <= {
        word.rstrip(".:,") for word in words(shown)
    } | {about.url}
    assert about.url in Outline(html).links


@pytest.mark.parametrize(
    ("about", "label", "outcome"),
    [
        (notification(), "Succeeded", "All 50 tasks succeeded."),
        (notification(Event.COMPLETE), "Succeeded", "All 50 tasks succeeded."),
        (notification(total=1, succeeded=1), "Succeeded", "The only task succeeded."),
        (notification(total=0, succeeded=0), "Succeeded", "The batch was empty."),
        (failed(2, dead=0), "Complete with failures", "2 of 50 tasks failed and will be tried again."),
        (failed(2, dead=2), "Complete with failures", "2 of 50 tasks failed and will not be tried again."),
        (
            failed(12, dead=3),
            "Complete with failures",
            "12 of 50 tasks failed; 9 will be tried again, 3 will not.",
        ),
        (
            replace(failed(2, dead=2), event=Event.FINISH),
            "Finished with failures",
            "2 of 50 tasks failed and will not be tried again.",
        ),
        (
            replace(failed(1, dead=1, pending=5, succeeded=45), event=Event.DEATH),
            "Failed",
            "1 of 50 tasks failed and will not be tried again; 4 have not run yet.",
        ),
        (
            failed(1, dead=1, total=1),
            "Complete with failures",
            "The only task failed and will not be tried again.",
        ),
        (
            failed(2, cancelled_at=CREATED_AT),
            "Cancelled",
            "2 of 50 tasks failed; 1 will be tried again, 1 will not.",
        ),
        (
            notification(Event.PROGRESS, succeeded=20, pending=30),
            "Running",
            "20 of 50 tasks succeeded, 30 have not run yet.",
        ),
        (
            notification(Event.STALL, succeeded=20, pending=30, failures=2, dead=1),
            "Stalled",
            "20 of 50 tasks succeeded, 2 failed, 28 have not run yet.",
        ),
        (
            notification(Event.DEADLINE, total=1, succeeded=0, pending=1),
            "Late",
            "0 of 1 task succeeded, 1 has not run yet.",
        ),
        (
            notification(Event.CANCEL, total=0, succeeded=0, cancelled_at=CREATED_AT),
            "Cancelled",
            "The batch was empty.",
        ),
    ],
)
def test_what_happened_is_said_in_a_word_and_in_a_sentence(
    about: Notification, label: str, outcome: str
) -> None:
    text, html = bodies(about)

    assert f"\n{label}. {outcome}\n" in text
    assert outcome in html and f"&nbsp; {label}</span>" in html


@pytest.mark.parametrize(
    ("about", "subject"),
    [
        (notification(), "Import rows succeeded"),
        (notification(Event.COMPLETE), "Import rows is complete"),
        (failed(2), "Import rows is complete, 2 of 50 failed"),
        (replace(failed(2), event=Event.FINISH), "Import rows has finished, 2 of 50 failed"),
        (replace(failed(2), event=Event.DEATH), "Import rows has a dead task"),
        (notification(description=""), f"{BID} succeeded"),
        (notification(description="a\nBcc: b@c"), "a Bcc: b@c succeeded"),
    ],
)
def test_the_subject_says_what_happened_to_which_batch(about: Notification, subject: str) -> None:
    assert write_subject(about) == subject


def test_a_long_description_does_not_push_the_news_out_of_the_subject() -> None:
    subject = write_subject(failed(2, description="x" * 1000))

    assert len(subject) < 160 and subject.endswith("… is complete, 2 of 50 failed")


def test_the_numbers_the_times_and_the_batch_are_there() -> None:
    text, _ = bodies(failed(1200, dead=7, total=12_480, pending=1200, succeeded=11_280))

    for line in (
        "  Total         12,480",
        "  Succeeded     11,280",
        "  Failures       1,200",
        "  Dead               7",
        "  Started    2026-11-02 10:00:00 UTC",
        "  Took       3 min 12 s",
        "  Tags       customer:42",
        f"  Batch      {BID}",
        f"Open the batch: https://ops.test/{BID}",
    ):
        assert f"\n{line}\n" in text


def test_the_first_ten_failures_are_listed_and_the_others_counted() -> None:
    text, html = bodies(failed(12))

    assert text.count("proj.tasks.import_row") == 10 == html.count("proj.tasks.import_row")
    assert "    ValueError: Something failed 9\n" in text and "Something failed 10" not in text
    assert "and 2 more" in text and "and 2 more" in html
    assert "  attempt 1 · 2026-11-02 10:00:30 UTC · task 5b1f4b52-0a7e-4a30-9d6e-2c8f4b1d0e11\n" in text


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
    assert html.links == [f"https://ops.test/{BID}"]
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

    assert is_one_line(write_subject(about))
    for body in bodies(about):
        assert all(line.isprintable() or is_one_line(line.replace("\t", "")) for line in body.split("\n"))
        body.encode()


def test_a_message_of_many_lines_cannot_pass_for_the_mails_own_words() -> None:
    message = (
        "oops\n\nSucceeded. All 50 tasks succeeded.\r\n-- \rBatch x\u2028Open the batch: https://evil.test"
    )
    text, _ = bodies(failed(1, failure_info=(failure(error_message=message),)))

    assert "\n    Succeeded. All 50" in text and "\nSucceeded." not in text
    assert "\n    Open the batch: https://evil.test" in text and "\nOpen the batch: https://evil" not in text


def test_what_is_long_is_cut() -> None:
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

    for body in (write_subject(about), *bodies(about)):
        body.encode()
    assert is_one_line(write_subject(about))


def test_times_keep_their_zone() -> None:
    later: Any = CREATED_AT + timedelta(hours=26, minutes=3)
    text, _ = bodies(notification(success_at=later))

    assert "  Took       1 d 2 h\n" in text
