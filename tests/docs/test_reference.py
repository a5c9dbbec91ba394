"""The pages say what the code has: every name, no other, and its default."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Literal, get_origin

import pytest
from celery import Celery
from redis import Redis

import celery_batches_notify
from celery_batches_notify import Batch, BatchesError, BatchStatus, errors, notifiers, testing, typing, web
from celery_batches_notify.delivery.backoff import DELAYS_SECONDS
from celery_batches_notify.delivery.callbacks import BYTES_AT_MOST, CALLBACKS_AT_MOST
from celery_batches_notify.delivery.rules import RULES
from celery_batches_notify.log_lines import PREFIX, Fields
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.messages import kept_calls
from celery_batches_notify.model import STATES, Event, Failure, Notification
from celery_batches_notify.notifiers import mailer
from celery_batches_notify.recovery import lost_producers
from celery_batches_notify.settings import LINGER_AT_LEAST, NOT_SETTINGS, Settings
from celery_batches_notify.store.keys import PARTS
from celery_batches_notify.testing import plugin
from celery_batches_notify.web.answers import THEME_COOKIE
from celery_batches_notify.worker import in_flight, outcomes
from tests.docs.pages import DOCS, ROOT, all_pages, first_codes, read_page, read_tables
from tests.support.servers import Ear

SUCCEEDED = Outcome(state=State.SUCCEEDED)
NOW = "2026-11-23T06:00:02+00:00"


def told(*_: object) -> None:
    """Be called back."""


# -- settings -------------------------------------------------------------------------------------


def defaults() -> dict[str, object]:
    fields = (f for f in dataclasses.fields(Settings) if f.name not in ("backend_url", *NOT_SETTINGS))
    return {
        f"batches_{f.name}": f.default_factory() if callable(f.default_factory) else f.default for f in fields
    }


def describe(value: object) -> str:
    """Say a default as the page does."""
    if isinstance(value, timedelta):
        days, hours = value.days, value.seconds // 3600
        if value < timedelta(hours=1):
            return f"{value.seconds} s"
        hours += 0 if days > 1 else days * 24
        return f"{days} days" if days > 1 else f"{hours} hour{'s' if hours > 1 else ''}"
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, (dict, frozenset)):
        return "`[]`" if isinstance(value, frozenset) else "`{}`"
    if isinstance(value, bool):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else ""


def test_the_settings_are_those_of_the_page() -> None:
    named = first_codes("reference/settings.md", "setting")
    assert sorted(named) == sorted([*defaults(), "batches_backend_url"])


@pytest.mark.parametrize("name", defaults())
def test_a_default_is_the_one_on_the_page(name: str) -> None:
    rows = [row for table in read_tables("reference/settings.md") for row in table if row[0] == f"`{name}`"]
    (row,) = rows
    expected = describe(defaults()[name])
    assert row[2] == expected or not expected, "the third column is the default"


def test_the_least_linger_is_the_one_on_the_page() -> None:
    assert f"at least {LINGER_AT_LEAST} s" in read_page("reference/settings.md")


def test_no_page_names_an_unknown_setting() -> None:
    fixtures = {name for name in vars(plugin) if name.startswith("batches_")}
    fields = {PREFIX + name for name in ("bid", *Fields.__annotations__)}
    known = {*defaults(), "batches_backend_url", THEME_COOKIE, *fixtures, *fields}
    for page in all_pages():
        found = re.findall(r"\b(?:CELERY_BATCHES|batches)_[A-Za-z_]+\b", read_page(page))
        named = {name.removeprefix("CELERY_").lower() for name in found}
        assert named <= known, page


def test_the_extras_are_those_of_the_page_and_no_page_names_another() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].keys()
    assert sorted(first_codes("how-to/install-and-configure.md", "extra")) == sorted(extras)
    for page in all_pages():
        named = re.findall(r"celery-batches-notify\[([\w,]+)\]", read_page(page))
        assert {each for names in named for each in names.split(",")} <= extras, page


def test_each_framework_has_a_project_and_its_page_says_how_to_start_it() -> None:
    projects = [path.name for path in (ROOT / "examples").iterdir() if (path / "README.md").exists()]
    for name in projects:
        assert f"`python examples/run.py {name}`" in read_page(f"how-to/{name}.md")
    assert len(projects) == 3


# -- words ----------------------------------------------------------------------------------------


def test_the_fields_of_log_lines_are_those_of_the_page() -> None:
    names = {PREFIX + name for name in ("bid", *Fields.__annotations__)}
    assert set(first_codes("how-to/run-in-production.md", "field")) == names


def test_the_errors_are_those_of_the_page() -> None:
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, BatchesError)
    }
    named = first_codes("how-to/handle-errors.md", "error")
    assert sorted(named) == sorted(classes)
    assert classes <= set(celery_batches_notify.__all__)


@pytest.mark.parametrize(
    "row", read_tables("how-to/handle-errors.md")[0][1:], ids=lambda row: row[0].strip("`")
)
def test_an_error_is_also_the_builtin_that_the_page_names(row: list[str]) -> None:
    foreign = re.findall(r"`(\w+)`", row[1])
    bases = {base.__name__ for base in getattr(errors, row[0].strip("`")).__mro__}
    assert set(foreign) <= bases


def test_the_events_are_those_of_the_pages() -> None:
    assert sorted(first_codes("how-to/callbacks.md", "event")) == sorted(Event)
    counted = set(first_codes("explanation/what-the-counts-mean.md", "event"))
    assert counted == {"death", "complete", "finish", "success"}
    order = re.search(r"in\s+the order ([a-z, ]+);", read_page("how-to/callbacks.md"))
    assert order
    assert order[1].split(", ") == list(Event)
    for page in ("reference/glossary.md", "reference/wire.md"):
        assert all(f"`{event}`" in read_page(page) for event in Event), page


def test_the_rules_are_those_of_the_page() -> None:
    assert sorted(first_codes("how-to/callbacks.md", "rule")) == sorted(RULES)


def test_the_numbers_of_the_page_on_callbacks_are_those_of_the_code() -> None:
    page = read_page("how-to/callbacks.md")
    assert f"up to {CALLBACKS_AT_MOST} callbacks of at most {BYTES_AT_MOST // 1024} KB" in page
    units = {3600: "h", 60: "min", 1: "s"}
    words = [
        next(f"{delay // length} {unit}" for length, unit in units.items() if delay >= length)
        for delay in DELAYS_SECONDS
    ]
    assert f"up to {len(words) + 1} times, after {', '.join(words[:-1])} and {words[-1]} " in page


def test_the_states_of_a_batch_are_those_of_the_schema() -> None:
    states = first_codes("how-to/follow-progress.md", "`state`")
    schema = json.loads((DOCS / "reference" / "webhook.schema.json").read_text("utf-8"))
    assert sorted(states) == sorted(schema["properties"]["state"]["enum"])
    assert states == list(STATES)


@pytest.mark.parametrize("page", ["how-to/follow-progress.md", "reference/wire.md"])
def test_the_tokens_are_those_of_the_pages(page: str) -> None:
    scripts = (ROOT / "celery_batches_notify" / "store" / "scripts").rglob("*.lua")
    published = re.findall(
        r"tokens\[.+\] = '(.)'|fire\('\w+', '(.)'\)", "".join(script.read_text("utf-8") for script in scripts)
    )
    assert set(first_codes(page, "token")) == {a or b for a, b in published}


def test_the_public_names_are_on_the_page_on_the_api() -> None:
    page = read_page("reference/api.md")
    for name in celery_batches_notify.__all__:
        is_error = name in vars(errors)  # those are listed as a module
        assert is_error or re.search(rf"\.\. auto\w+:: {name}$", page, re.MULTILINE), name
    public = {name for name in dir(Batch) if not name.startswith("_")}
    listed = re.search(r"autoclass:: Batch\n   :inherited-members:\n   :members: ([\w, ]+)", page)
    assert listed
    assert set(listed[1].split(", ")) == public
    assert all(f".. autofunction:: {name}\n" in page for name in testing.__all__ if name[0].islower())


def test_the_channels_the_page_and_the_mailer_are_on_the_page_on_the_api() -> None:
    page = read_page("reference/api.md")
    for name in (*dir(notifiers), *web.__all__, *mailer.__all__):
        assert re.search(rf"(:: |\.|`){name}(`|$)", page, re.MULTILINE), name


def test_the_types_for_users_are_those_of_their_page() -> None:
    classes = {each.__name__ for each in vars(typing).values() if isinstance(each, type)} - {"Any"}
    own = {name for name in classes if getattr(typing, name).__module__ == typing.__name__}
    literals = {name for name, value in vars(typing).items() if get_origin(value) is Literal}
    assert set(first_codes("how-to/check-types.md", "name")) == own | literals


def test_the_reasons_why_a_member_cannot_be_sent_again_are_those_of_the_page() -> None:
    of_calls = {kept_calls.NOT_JSON, kept_calls.HEADERS_NOT_JSON, kept_calls.TOO_LONG, kept_calls.NOT_KNOWN}
    of_workers = {kept_calls.CHORD_IS_OVER, in_flight.NOT_KEPT, in_flight.WENT_ON, lost_producers.REASON}
    scripts = (ROOT / "celery_batches_notify" / "store" / "scripts").rglob("*.lua")
    pattern = r"local (?:TOO_MANY|GONE), .+ = '(.+?)'|unsendable = '', '(.+?)'"
    found = re.findall(pattern, "".join(script.read_text("utf-8") for script in scripts))
    of_scripts = {a or b for a, b in found}
    assert len(of_scripts) == 3
    named = first_codes("how-to/cancel-and-retry.md", "reason")
    assert sorted(named) == sorted(of_calls | of_workers | of_scripts)


def test_what_the_doctor_says_is_on_its_page_as_it_says_it() -> None:
    files = (ROOT / "celery_batches_notify" / "doctor").glob("*.py")
    code = re.sub(r"{[^{}]*}", "", "".join(file.read_text("utf-8") for file in files))
    for said in first_codes("how-to/repair.md", "the doctor says"):
        parts = [
            part.strip() for part in re.split(r"…|: |, until|\S*\d[^\s:]*(?: callbacks wait)?", said) if part
        ]
        assert all(part in code for part in parts if " " in part), said


# -- wire -----------------------------------------------------------------------------------------


def status() -> BatchStatus:
    from datetime import datetime

    counts = {"total": 0, "pending": 0, "succeeded": 0, "failures": 0, "dead": 0}
    at = datetime.fromisoformat(NOW)
    return BatchStatus(bid="x" * 22, description="", tags=(), state="open", created_at=at, **counts)


def test_the_fields_of_the_status_are_those_of_the_page() -> None:
    tables = [table for table in read_tables("reference/wire.md") if table[0][0] == "field"]
    of_status, of_failure, of_webhook = (
        [code for row in table[1:] for code in re.findall(r"`([^`]+)`", row[0])] for table in tables
    )
    assert sorted(of_status) == sorted(status().as_dict())
    failure = Failure(
        task_id="t", task="t", error_class="E", error_message="", backtrace=None, retries=0
    ).as_dict()
    assert sorted(of_failure) == sorted(failure)
    body = Notification(id="x", event="finish", status=status()).as_dict()
    assert {*of_status, *of_webhook} - {"callbacks"} == body.keys()


def test_the_capped_lengths_are_those_of_the_page() -> None:
    page = read_page("reference/wire.md")
    assert f"{outcomes.MESSAGE_AT_MOST:,} in `BatchStatus.failure_info`" in page
    assert f"the last {outcomes.BACKTRACE_AT_MOST:,} characters" in page


# -- store ----------------------------------------------------------------------------------------


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    app = make_app()
    app.task(told, name="told", shared=False)
    return app


def test_the_keys_are_those_of_the_page() -> None:
    named = first_codes("reference/store.md", "key")
    parts = [name.removeprefix("batches:{<bid>}:") for name in named if name.startswith("batches:{<bid>}:")]
    assert sorted(parts) == sorted(PARTS)
    others = {name for name in named if "{<bid>}" not in name}
    keys = (ROOT / "celery_batches_notify" / "store" / "keys.py").read_text("utf-8")
    written = {f"batches:{name}" for name in re.findall(r'f"{self.prefix}:(\w+)["{:]', keys)}
    assert {re.sub(r":(<\w+>|{\w+})$", "", name) for name in others} == written


def test_the_fields_of_a_batch_are_those_of_the_page(app: Celery, redis: Redis) -> None:
    """The scripts and the declaration are read for every field that they may write."""
    package = ROOT / "celery_batches_notify"
    scripts = "\n".join(path.read_text("utf-8") for path in Path(package, "store", "scripts").rglob("*.lua"))
    scripts = re.sub(r"--.*", "", scripts)
    written = set()
    for call in re.findall(r"'(?:HSET|HSETNX|HINCRBY)', BATCH, (.*)", scripts):
        written |= set(re.findall(r"'([a-z][a-z_]*:?)'(?= *,)", call))
    with Batch(
        "words", callback_queue="q", keep_open=True, keep_calls=True, parent=open_one(app), app=app
    ) as batch:
        app.tasks["told"].delay()
    written |= {field.decode() for field in redis.hgetall(f"batches:{{{batch.bid}}}")}
    named = set(first_codes("reference/store.md", "field"))
    said = {name.replace("<event>", event) for name in named for event in Event}
    written = {name for name in written if not name.startswith(("unsendable:", "at:"))}
    assert written <= said, "the page does not name them all"
    fixed = {name for name in named if "<" not in name}
    assert fixed - written <= {"sealed_at", "had_death", "retired", "life", "trace"}, (
        "the page names what nobody writes"
    )


def open_one(app: Celery) -> Batch:
    return Batch("parent", keep_open=True, app=app)


def test_the_subjects_of_the_start_up_checks_are_those_of_the_page() -> None:
    package = ROOT / "celery_batches_notify"
    modules = [*package.glob("*/*checks.py"), package / "doctor" / "other_app.py"]
    code = "".join(path.read_text("utf-8") for path in modules)
    subjects = set(re.findall(r'(?:_(?:warning|error)\(\s*|subject=)"([a-z ]+)"', code))
    assert sorted(first_codes("how-to/run-in-production.md", "subject")) == sorted(subjects)


# -- the rooms of the package ---------------------------------------------------------------------


def test_the_rooms_are_those_of_the_import_contract_in_its_order() -> None:
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    (layers,) = [each["layers"] for each in linter["contracts"] if each["type"] == "layers"]
    (table,) = [t for t in read_tables("explanation/how-it-works.md") if t[0][0] == "room"]
    rows = [sorted(name.rstrip("/") for name in re.findall(r"`([^`]+)`", row[0])) for row in table[1:]]
    assert rows == [sorted(layer.split(" | ")) for layer in reversed(layers)]


# -- the worked example ---------------------------------------------------------------------------


def test_the_example_of_the_counts_happens_as_the_page_says(app: Celery, redis: Redis) -> None:
    (table,) = [t for t in read_tables("explanation/what-the-counts-mean.md") if t[0][0] == "time"]
    batch = Batch(app=app)
    ids = [result.id for result in batch.add(*(app.tasks["told"].s() for _ in range(4)))]
    failure = Failure(task_id="t", task="told", error_class="E", error_message="", backtrace=None, retries=0)
    store = app._batches_extension.engine.store
    reports = [
        None,
        ("a", SUCCEEDED),
        ("b", Outcome(state=State.FAILING, failure=failure)),
        ("c", Outcome(state=State.DEAD, reason="failed", failure=failure)),
        ("d", SUCCEEDED),
        ("b", SUCCEEDED),
    ]
    ear = Ear(redis)
    fired: set[str] = set()
    assert len(table) - 1 == len(reports)
    for row, report in zip(table[1:], reports, strict=True):
        if report:
            index = "abcd".index(report[0])
            member = Membership(bid=batch.bid, index=index, task_id=ids[index])
            store.record_outcome(member, report[1])
        ear.tokens.clear()
        tokens = ear.listen().get(batch.bid, "")
        now = batch.status()
        fresh = {event for event in Event if getattr(now, f"{event}_at", None)} - fired
        fired |= fresh
        counts = {"·": now.total - now.succeeded - now.failures, "↻": now.failing, "✗": now.dead}
        counts["✓"] = now.succeeded
        assert {sign: row[2].count(sign) for sign in counts} == counts, row[1]
        assert [int(cell) for cell in row[3:5]] == [now.pending, now.failures], row[1]
        assert re.findall(r"`(.)`", row[5]) == list(tokens), row[1]
        assert set(re.findall(r"\*\*(\w+)\*\*", row[6])) == fresh, row[1]
        assert row[7] == f"`{now.state}`", row[1]
    ear.close()


def test_a_report_leaves_the_state_that_the_page_says(app: Celery) -> None:
    (table,) = [t for t in read_tables("explanation/what-the-counts-mean.md") if t[0][0] == "before"]
    engine = app._batches_extension.engine
    failure = Failure(task_id="t", task="told", error_class="E", error_message="", backtrace=None, retries=0)

    def report(batch: Batch, task_id: str, state: State, attempt: int) -> None:
        member = Membership(bid=batch.bid, index=0, task_id=task_id)
        outcome = Outcome(state=state, attempt=attempt, reason="failed", failure=failure)
        engine.store.record_outcome(member, outcome)

    def state_of(batch: Batch) -> str:
        now = batch.status()
        counts = {"succeeded": now.succeeded, "dead": now.dead, "failing": now.failing, "waiting": 1}
        return next(word for word, count in counts.items() if count)

    for before, *after in table[1:]:
        for reported, left in zip((State.SUCCEEDED, State.FAILING, State.DEAD), after, strict=True):
            batch = Batch(app=app)
            (result,) = batch.add(app.tasks["told"].s())
            if before != "waiting":
                report(batch, result.id, State[before.upper()], 1)
            assert state_of(batch) == before
            report(batch, result.id, reported, 2)
            assert state_of(batch) == left, (before, reported)


# -- the README -----------------------------------------------------------------------------------


def test_the_readme_has_its_two_commands_as_others_look_for_them() -> None:
    commands = re.findall(r"^    (python3 .*)$", read_page("README.md"), re.MULTILINE)
    make = "python3 -m venv .venv && .venv/bin/pip install -q tox && .venv/bin/tox"
    assert commands == [f"{make} -q -e demo", make]
    assert len(re.findall(r"^    (python3 -m venv .venv.*tox)$", read_page("README.md"), re.MULTILINE)) == 1


@pytest.mark.parametrize("page", ["README.md", "SECURITY.md", "CHANGELOG.md"])
def test_a_link_beside_the_documentation_leads_somewhere(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), target


@pytest.mark.parametrize("page", all_pages())
def test_an_anchor_in_a_link_is_on_its_page(page: str) -> None:
    """The build checks the links inside `docs/`; those that come from outside it only here."""
    base = ROOT if page == "README.md" else (DOCS / page).parent
    for target, anchor in re.findall(r"\]\(([^)#:]*\.md)?#([\w-]+)\)", read_page(page)):
        text = (base / target).read_text("utf-8") if target else read_page(page)
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        slugs = {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
        assert anchor in slugs or f"({anchor})=" in text, f"{target}#{anchor}"
