"""The shapes of canvas that a batch must count, one table: the tests, and the docs' table, read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery import Signature, chain, chord, group

# Celery gives links, chunks, parts of a replacing canvas and what a task's code calls new ids at each run.
CALLED_ANEW = (
    *("link=", "link of", "two links", "link on", "has a link", "chunks last", "chunks in", "replace with c"),
    *("replace with g", "replace with a", "send_task by name", "used again", "adds to", "add_to_chord"),
    *("another id", "gives its chain"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A canvas and what its batch comes to.

    `build` gets the tasks by name and returns a signature, or a call to make inside the block. `total` and
    `dead` are members at the end; `chords` is how many chords Celery makes of it: on a result backend that
    does not count chords itself, each is one more member, Celery's own `celery.chord_unlock`.
    """

    name: str
    build: Callable[[Any], Signature | Callable[[], object]]
    total: int
    dead: int = 0
    chords: int = 0
    prefork_only: bool = False
    redis_only: bool = False

    @property
    def fixed_ids(self) -> bool:
        """Whether a member that runs again calls its successors again under the ids that they had."""
        return not any(word in self.name for word in CALLED_ANEW)


def _shape(name: str, build: Callable[[Any], Any], total: int, **more: Any) -> Shape:
    return Shape(name=name, build=build, total=total, **more)


def _copies(p: Any, n: int) -> list[Signature]:
    return [p.t.s() for _ in range(n)]


PAIRS = [(1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12)]

SHAPES = [
    _shape("single", lambda p: p.t.s(), 1),
    _shape("chain of 3", lambda p: chain(p.t.s(), p.t.s(), p.t.s()), 3),
    _shape("chain(t, group(2), t)", lambda p: chain(p.t.s(), group(p.t.s(), p.t2.s()), p.t.s()), 4, chords=1),
    _shape("chain(t, group(2))", lambda p: chain(p.t.s(), group(p.t.s(), p.t2.s())), 3),
    _shape("group of 3", lambda p: group(p.t.s() for _ in range(3)), 3),
    _shape("chord(3, body)", lambda p: chord(_copies(p, 3), p.body.s()), 4, chords=1),
    _shape("chord, chain body", lambda p: chord(_copies(p, 3), chain(p.body.s(), p.t.s())), 5, chords=1),
    _shape("chord, group body", lambda p: chord(_copies(p, 2), group(p.body.s(), p.t2.s())), 4, chords=1),
    _shape(
        "nested chord in chain",
        lambda p: chain(p.t.s(), chord(_copies(p, 3), p.body.s()), p.t.s()),
        6,
        chords=1,
    ),
    _shape(
        "chain in chord header",
        lambda p: chord([chain(p.t.s(), p.t2.s()), p.t.s(), p.t.s()], p.body.s()),
        5,
        chords=1,
    ),
    _shape(
        "chain in chord header, in a chain",
        lambda p: chain(p.t.s(), chord([chain(p.t.s(), p.t2.s()), p.t.s(), p.t.s()], p.body.s())),
        6,
        chords=1,
    ),
    _shape("group of chains", lambda p: group(chain(p.t.s(), p.t.s()), chain(p.t.s(), p.t.s())), 4),
    _shape(
        "chord of chords",
        lambda p: chord([chord([p.t.s(), p.t2.s()], p.body.s()), p.t.s(), p.t.s()], p.t.s()),
        6,
        chords=2,
    ),
    _shape(
        "chain of chord of chords",
        lambda p: chain(
            p.t.s(), chord([chord([p.t.s(), p.t2.s()], p.body.s()), p.t.s(), p.t.s()], p.t.s()), p.t.s()
        ),
        8,
        chords=2,
    ),
    _shape(
        "two chords in a row in a chain",
        lambda p: chain(chord([p.t.s(), p.t2.s()], p.body.s()), chord([p.t.s(), p.t2.s()], p.body.s())),
        6,
        chords=2,
    ),
    _shape("group in group", lambda p: group(group(p.t.s(), p.t2.s()), p.t.s()), 3),
    _shape("link=", lambda p: p.t.s().set(link=p.lk.s()), 2),
    _shape("link of link", lambda p: p.t.s().set(link=p.lk.s().set(link=p.t2.s())), 3),
    _shape("two links", lambda p: p.t.s().set(link=[p.lk.s(), p.t2.s()]), 3),
    _shape("link= a chain", lambda p: p.t.s().set(link=chain(p.lk.s(), p.t2.s())), 3),
    _shape("link on a nested chain task", lambda p: chain(p.t.s(), p.t2.s().set(link=p.lk.s()), p.t.s()), 4),
    _shape(
        "link_error (old style, task fails)", lambda p: p.boom.s().set(link_error=p.eb_old.s()), 1, dead=1
    ),
    _shape("link_error (new style, task fails)", lambda p: p.boom.s().set(link_error=p.eb.s()), 1, dead=1),
    _shape("same sig as link and link_error, fails", lambda p: _both(p.boom.s(), p.eb.s()), 1, dead=1),
    _shape("chunks", lambda p: p.add.chunks(PAIRS, 2), 3),
    _shape("chunks last in a chain", lambda p: chain(p.t.s(), p.add.chunks(PAIRS, 2)), 5),
    _shape(
        "chunks in the middle of a chain",
        lambda p: chain(p.t.s(), p.add.chunks(PAIRS, 2), p.body.s()),
        6,
        dead=2,
    ),
    _shape(
        "chunks().group() in a chain",
        lambda p: chain(p.t.s(), p.add.chunks(PAIRS, 2).group(), p.body.s()),
        5,
        chords=1,
    ),
    _shape("starmap", lambda p: p.add.starmap(PAIRS), 1),
    _shape("map in a chain", lambda p: chain(p.t.si(), p.t.map([1, 2, 3])), 2),
    _shape("retry", lambda p: p.retries.s(), 1),
    _shape("retry inside a chain", lambda p: chain(p.t.s(), p.retries.s(), p.t.s()), 3),
    _shape("retry in a chord header", lambda p: chord([p.retries.s(), p.t.s()], p.body.s()), 3, chords=1),
    _shape("retry until it fails, in a chain", lambda p: chain(p.t.s(), p.gives_up.s(), p.t.s()), 2, dead=1),
    _shape("autoretry in a chain", lambda p: chain(p.t.s(), p.autoretries.s(), p.t.s()), 3),
    _shape("replace with single", lambda p: p.replaced.s("single"), 1),
    _shape("replace with single, in a chain", lambda p: chain(p.t.si(), p.replaced.si("single"), p.t.s()), 3),
    _shape("replace with single that has a link", lambda p: p.replaced.s("linked"), 2),
    _shape("replace with single that fails", lambda p: p.replaced.s("fails"), 1, dead=1),
    _shape("replace 3 times", lambda p: p.replaced.s("thrice"), 1),
    _shape("replace with chain", lambda p: p.replaced.s("chain"), 4),
    _shape("replace with chain, in a chain", lambda p: chain(p.t.si(), p.replaced.si("chain"), p.t.s()), 6),
    _shape("replace with chain that fails first", lambda p: p.replaced.s("chain fails"), 2, dead=1),
    _shape(
        "replace with chain in chord header",
        lambda p: chord([p.replaced.s("chain"), p.t.s()], p.body.s()),
        6,
        chords=1,
    ),
    _shape("replace with group", lambda p: p.replaced.s("group"), 4, chords=1),
    _shape(
        "replace with group, in a chain",
        lambda p: chain(p.t.si(), p.replaced.si("group"), p.t.s()),
        6,
        chords=1,
    ),
    _shape("replace with group, one fails", lambda p: p.replaced.s("group fails"), 3, dead=1, chords=1),
    _shape("replace with chord", lambda p: p.replaced.s("chord"), 4, chords=1),
    _shape(
        "replace with chord, in a chord header",
        lambda p: chord([p.replaced.s("chord"), p.t.s()], p.body.s()),
        6,
        chords=2,
    ),
    _shape(
        "immutable signatures",
        lambda p: chain(p.t.si(), group(p.t.si(), p.t2.si()), p.t.si()),
        4,
        chords=1,
    ),
    _shape("send_task by name", lambda p: lambda: p.app.send_task("canvas.t", link=p.lk.s()), 2),
    _shape(
        "send_task of an unknown name, chain",
        lambda p: chain(p.t.s(), p.app.signature("canvas.unknown"), p.t.s()),
        2,
        dead=1,
    ),
    _shape("fails mid-chain", lambda p: chain(p.t.s(), p.boom.s(), p.t.s()), 2, dead=1),
    _shape(
        "chord header member fails",
        lambda p: chord([p.t.s(), p.boom.s(), p.t.s()], p.body.s()),
        3,
        dead=1,
        chords=1,
    ),
    _shape(
        "chord header fails, body errback",
        lambda p: chord([p.t.s(), p.boom.s(), p.t.s()], p.body.s().on_error(p.eb.s())),
        3,
        dead=1,
        chords=1,
    ),
    _shape(
        "chain in header fails first",
        lambda p: chord([chain(p.boom.s(), p.t.s()), p.t.s(), p.t.s()], p.body.s()),
        3,
        dead=1,
        chords=1,
    ),
    _shape(
        "inner chord of a chord fails",
        lambda p: chord([chord([p.boom.s(), p.t2.s()], p.body.s()), p.t.s(), p.t.s()], p.body.s()),
        4,
        dead=1,
        chords=2,
    ),
    _shape(
        "chain with on_error, fails",
        lambda p: chain(p.t.s(), p.boom.s(), p.t.s()).on_error(p.eb.s()),
        2,
        dead=1,
    ),
    _shape("body of the chord fails", lambda p: chord(_copies(p, 2), p.boom.s()), 3, dead=1, chords=1),
    _shape(
        "priority and queue",
        lambda p: chain(
            p.t.s().set(queue=p.q2, priority=3),
            group(p.t.s().set(queue=p.q2, priority=6), p.t2.s().set(queue=p.q2, priority=6)),
            p.t.s().set(queue=p.q2, priority=9),
        ),
        4,
        chords=1,
    ),
    _shape(
        "chord: queue, priority of body",
        lambda p: chord([t.set(queue=p.q2) for t in _copies(p, 2)], p.body.s().set(queue=p.q2, priority=6)),
        3,
        chords=1,
    ),
    _shape("countdown on a chain step", lambda p: chain(p.t.s(), p.t2.s().set(countdown=0.5)), 2),
    _shape("user headers on leaf", lambda p: chain(p.t.s(), p.t2.s().set(headers={"x": 1})), 2),
    _shape(
        "user headers on a group in a chain",
        lambda p: chain(p.t.s(), group(p.t.s(), p.t2.s()).set(headers={"x": 1})),
        3,
    ),
    _shape(
        "user headers on a chord in a chain",
        lambda p: chain(p.t.s(), chord([p.t.s(), p.t2.s()], p.body.s()).set(headers={"x": 1})),
        4,
        chords=1,
    ),
    _shape(
        "user headers on apply_async of a chord",
        lambda p: lambda: chord([p.t.s(), p.t2.s()], p.body.s()).apply_async(headers={"x": 1}),
        3,
        chords=1,
    ),
    _shape(
        "stamped chain",
        lambda p: _stamped(chain(p.t.s(), p.t2.s(), p.t.s(), p.t2.s())),
        4,
    ),
    _shape("plain delay in a task body", lambda p: chain(p.delays.s(), p.t.s()), 2),
    _shape("request.headers forwarded by hand", lambda p: p.forwards.s(), 1),
    _shape("signature used again outside the batch", lambda p: _used_again(p), 2),
    _shape(
        "generator group in a chain",
        lambda p: chain(p.t.s(), group(p.t.s() for _ in range(2)), p.body.s()),
        4,
        chords=1,
    ),
    _shape("generator chord", lambda p: chord((p.t.s() for _ in range(3)), p.body.s()), 4, chords=1),
    _shape("big chord(300, body)", lambda p: chord(_copies(p, 300), p.body.s()), 301, chords=1),
    _shape(
        "add_to_chord in a header",
        lambda p: chord([p.adds.s(), p.t.s()], p.body.s()),
        4,
        chords=1,
        redis_only=True,
    ),
    _shape("Ignore", lambda p: p.ignores.s(), 1),
    _shape("Reject, no requeue", lambda p: p.rejects.s(), 1, dead=1),
    _shape("expired before it ran", lambda p: p.t.s().set(expires=-1), 1, dead=1),
    _shape("hard time limit", lambda p: p.sleeps.s().set(time_limit=1), 1, dead=1, prefork_only=True),
    _shape("process dies", lambda p: p.dies.s(), 1, dead=1, prefork_only=True),
]

# Beyond the first 79: found while building.
SHAPES += [
    _shape("replace with a chain that is replaced by a chain", lambda p: p.replaced.s("chain of chain"), 6),
    _shape(
        "replace with a chord whose body is replaced", lambda p: p.replaced.s("chord of chain"), 7, chords=1
    ),
    _shape("a late member adds to its batch", lambda p: chain(p.t.si(), p.t.si(), p.adds_more.si(3)), 6),
    _shape("late request.headers forwarded by hand", lambda p: chain(p.t.si(), p.forwards.si()), 2),
    _shape("chain of ids that are no UUIDs", lambda p: _named(p), 3),
    *(
        _shape(
            f"add_to_chord of a {what}",
            lambda p, what=what: chord([p.adds.s(what), p.t.s()], p.body.s()),
            total,
            chords=1,
            redis_only=True,
        )
        for what, total in (("chain", 5), ("group", 5), ("chord", 6), ("chord in a chain", 7))
    ),
    _shape(
        "add_to_chord, called later",
        lambda p: chord([p.adds_lazily.s(), p.t.s()], p.body.s()),
        4,
        chords=1,
        redis_only=True,
    ),
    _shape(
        "add_to_chord in a group in a chain",
        lambda p: group([p.adds.s("chord")]) | p.body.s(),
        5,
        redis_only=True,
    ),
    _shape("goes on under its own id, in a chain", lambda p: chain(p.t.s(), p.goes_on.s(), p.t.s()), 3),
    _shape("retry under another id, in a chain", lambda p: chain(p.t.s(), p.retries_anew.s(), p.t.s()), 4),
    _shape(
        "retry under another id, in a chord header",
        lambda p: chord([p.retries_anew.s(), p.t.s()], p.body.s()),
        4,
        chords=1,
        redis_only=True,
    ),
    _shape("a task that gives its chain to another", lambda p: chain(p.passes_on.s(), p.t.s()), 3),
]


def _both(signature: Signature, callback: Signature) -> Signature:
    return signature.set(link=callback, link_error=callback)


def _stamped(signature: Signature) -> Signature:
    signature.stamp(customer="42")
    return signature


def _used_again(p: Any) -> Callable[[], object]:
    signature = p.t.s().set(link=p.lk.s())

    def call() -> None:
        signature.apply_async()
        with p.outside_batch():
            signature.apply_async()

    return call


def _named(p: Any) -> Signature:
    return chain(p.t.s(), *(p.t.s().set(task_id=f"no uuid {n} {p.unique()}") for n in range(2)))


def docs_table() -> str:
    """The table that `docs/explanation/canvas.md` shows."""
    rows = [
        "| canvas | members | of these dead "
        "| more members on other result backends than Redis, one per chord |",
        "|---|---|---|---|",
    ]
    rows += [
        f"| {s.name} | {s.total} | {s.dead or ''} | {(s.chords and not s.redis_only and s.chords) or ''} |"
        for s in SHAPES
    ]
    return "\n".join(rows)
