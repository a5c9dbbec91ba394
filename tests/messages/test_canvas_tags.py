from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.app.amqp import task_message
from kombu.utils import json

from celery_batches_notify.membership import Membership
from celery_batches_notify.messages.canvas import (
    first_of_body,
    is_tagged,
    read_tag,
    tag_message,
    unlocked_body,
)
from celery_batches_notify.messages.headers import read_header

BID = "0123456789abcdefABCD-_"
FIRST = Membership(bid=BID, index=7, task_id="first")
LATE = Membership(bid=BID, index=None, task_id="second", of=(7, "first"))
TAG = {"bid": BID, "late": True, "of": [7, "first"], "by": "first"}


@pytest.fixture
def t() -> Any:
    app = Celery("tags", set_as_current=False, broker="memory://")

    def nothing() -> None:
        pass

    return app.task(nothing, name="t", shared=False)


def tagged(name: str = "t", args: tuple[object, ...] = (), member: Membership = FIRST, **more: Any) -> Any:
    replaced = more.pop("replaced", None)
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None, **more}
    message = task_message(headers={}, properties={}, body=(args, {}, embed), sent_event=None)
    before = copy.deepcopy(message.body)
    body = tag_message(name, message, member, replaced=replaced).body
    assert message.body == before, "the signatures themselves stay as they are"
    return body


def tags_of(signature: Any) -> dict[str, Any]:
    """Return the path to each tagged signature, with its tag."""
    found: dict[str, Any] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict) and "options" in value:
            headers = value["options"].get("headers") or {}
            if "batches" in headers:
                found[path] = headers["batches"]
            for key in ("link", "link_error", "chain", "chord"):
                walk(value["options"].get(key), f"{path}.{key}")
            for key in ("tasks", "header", "body"):
                walk(value["kwargs"].get(key), f"{path}.{key}")
        elif isinstance(value, list | tuple):
            for i, part in enumerate(value):
                walk(part, f"{path}[{i}]")

    walk(json.loads(json.dumps(signature)), "")
    return found


def test_signatures_in_a_message_are_tagged_and_errbacks_are_not(t: Any) -> None:
    sig = t.s()
    _, _, embed = tagged(callbacks=[sig], errbacks=[sig], chain=[sig, sig], chord=sig)
    assert tags_of(embed["callbacks"]) == {"[0]": TAG}
    assert tags_of(embed["chain"]) == {"[0]": TAG, "[1]": TAG}
    assert tags_of(embed["chord"]) == {"": TAG}
    assert tags_of(embed["errbacks"]) == {}
    assert sig.options == {}


def test_every_leaf_of_a_nested_canvas_is_tagged_and_no_container(t: Any) -> None:
    inner = chord([t.s(), chain(t.s(), t.s())], t.s().set(link=t.s(), link_error=t.s()))
    _, _, embed = tagged(chain=[chain(t.s(), group(t.s(), inner), app=t.app)])
    found = tags_of(embed["chain"])
    assert all(tag == TAG for tag in found.values())
    assert not any(path.endswith("link_error") for path in found)
    leaves = json.dumps(json.loads(json.dumps(embed["chain"]))).count('"task": "t"')
    assert len(found) == leaves - 1, "all but the errback"


def test_options_that_freezing_left_on_nested_signatures_are_tagged_too(t: Any) -> None:
    step = t.s().set(chord=t.s(), chain=[t.s()], link=t.s())
    _, _, embed = tagged(chain=[step])
    assert tags_of(embed["chain"]).keys() == {"[0]", "[0].chord", "[0].chain[0]", "[0].link"}


def test_a_container_is_tagged_only_if_its_own_headers_would_hide_its_parts(t: Any) -> None:
    parts = group(t.s().set(headers={"mine": 1}), t.s()).set(headers={"x": 1})
    _, _, embed = tagged(chain=[parts])
    assert tags_of(embed["chain"]).keys() == {"[0]", "[0].tasks[0]", "[0].tasks[1]"}
    assert embed["chain"][0]["options"]["headers"] == {"x": 1, "batches": TAG}
    assert embed["chain"][0]["kwargs"]["tasks"][0]["options"]["headers"]["mine"] == 1


def test_inner_headers_of_another_library_are_tagged_as_well(t: Any) -> None:
    _, _, embed = tagged(callbacks=[t.s().set(headers={"headers": {"trace": 1}})])
    assert embed["callbacks"][0]["options"]["headers"] == {
        "batches": TAG,
        "headers": {"trace": 1, "batches": TAG},
    }


def test_a_signature_that_hangs_in_two_places_is_copied_once(t: Any) -> None:
    shared = t.s()
    _, _, embed = tagged(chain=[t.s().set(chord=shared), t.s().set(chord=shared)])
    assert embed["chain"][0]["options"]["chord"] is embed["chain"][1]["options"]["chord"]


def test_tags_name_the_publishing_task_and_the_member_whose_canvas_it_is(t: Any) -> None:
    _, _, embed = tagged(member=LATE, chain=[t.s().set(headers={"batches": TAG})])
    assert tags_of(embed["chain"]) == {"[0]": {**TAG, "by": "second"}}


def test_the_part_that_takes_over_the_id_of_the_replaced_task_is_a_member_of_its_own(t: Any) -> None:
    last = t.s().set(task_id="first")
    _, _, embed = tagged(member=LATE, replaced=FIRST, chain=[last, t.s().set(task_id="other")])
    assert [tag.get("turn") for tag in tags_of(embed["chain"]).values()] == [1, None]
    later = Membership(bid=BID, index=None, task_id="third", of=(7, "first"))
    _, _, embed = tagged(member=later, chain=embed["chain"])
    assert [tag.get("turn") for tag in tags_of(embed["chain"]).values()] == [1, None], "and stays so"
    identity = read_header(tags_of(embed["chain"])["[0]"], "first")
    assert isinstance(identity, Membership)
    assert (identity.turn, identity.identity) == (1, "first#1")
    _, _, embed = tagged(member=LATE, replaced=identity, chain=[last])
    assert tags_of(embed["chain"])["[0]"]["turn"] == 2


def test_the_body_that_chord_unlock_waits_for_is_tagged(t: Any) -> None:
    args, _, _ = tagged("celery.chord_unlock", args=("group", t.s()))
    assert tags_of(args[1]) == {"": TAG}
    message = SimpleNamespace(body=(args, {}, {}))
    assert unlocked_body("celery.chord_unlock", message) is args[1]
    assert unlocked_body("t", message) is None


def test_arguments_that_are_signatures_are_left_alone(t: Any) -> None:
    sig = t.s()
    args, _, _ = tagged(args=("group", sig))
    assert args[1] is sig


def test_a_tag_counts_only_for_what_its_own_task_publishes(t: Any) -> None:
    assert read_tag({"batches": TAG}, "first") == TAG
    assert read_tag({"batches": TAG}, "second") is None
    forwarded = {k: v for k, v in TAG.items() if k != "by"}  # what a late member's own message says
    assert read_tag({"batches": forwarded}, "first") is None
    for headers in (None, {}, {"batches": None}, {"batches": {"bid": BID, "index": 0}}):
        assert read_tag(headers, "first") is None
    body = chain(t.s(), t.s(), app=t.app)
    _, _, embed = tagged(chord=body)
    assert is_tagged(embed["chord"], "first")
    assert not is_tagged(embed["chord"], "second")
    assert not is_tagged(body, "first")
    assert not is_tagged(None, "first")


def test_a_chords_body_begins_with_the_ids_that_its_message_fixes(t: Any) -> None:
    def first(body: Any) -> list[str]:
        _, _, embed = tagged(chord=body)
        return [member.task_id for member in first_of_body(embed["chord"], "first")]

    def named(task_id: str) -> Any:
        return t.s().set(task_id=task_id)

    assert first(named("a")) == ["a"]
    assert first(chain(named("a"), named("b"), app=t.app)) == ["a"]
    assert first(group(named("a"), named("b"))) == ["a", "b"]
    assert first(chord([named("a")], named("b"))) == [], "Celery gives it new ids as it calls it"
    assert first(t.s()) == []
    assert first_of_body(named("a"), "first") == (), "a body that is not ours"
