"""What a row of the outcome table is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

POOLS = ("prefork", "threads", "solo", "gevent")
NEWEST = (5, 7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expect:
    """What a batch of one such member comes to.

    `tokens` is all that its channel carries; `runs` how often the task began; `errors` the class of the
    failure that is kept, where Celery leaves a choice one of these; `died` whether the batch fires `death`;
    `says` what the documentation says of the state, where the state alone does not.
    """

    state: str
    tokens: str
    runs: int = 1
    errors: tuple[str, ...] = ("",)
    died: bool = False
    says: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotHere:
    """Such an end cannot happen in this pool, and why."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One way to end.

    `scene` is where it runs: in the worker of all rows (`shared`), in one whose tasks kill their process
    (`lost`), or in a worker of its own that gets this signal. `act` is what is done to it meanwhile.
    `needs` is the Celery line that brought it; `pools` and `older` say where it ends otherwise: in some
    pools, and in some before Celery 5.7.
    """

    name: str
    what: str
    task: str
    expect: Expect
    args: tuple[object, ...] = ()
    options: dict[str, object] = field(default_factory=dict)
    scene: str = "shared"
    act: str = ""
    needs: tuple[int, int] = (5, 5)
    pools: dict[str, Expect | NotHere] = field(default_factory=dict)
    older: dict[str, Expect] = field(default_factory=dict)

    def expected(self, pool: str, line: tuple[int, ...] = NEWEST) -> Expect | NotHere:
        """What is expected in this pool, with this Celery."""
        of_pool = self.pools.get(pool, self.expect)
        return self.older.get(pool, of_pool) if line < NEWEST else of_pool


def dead(*errors: str, tokens: str = "-!", runs: int = 1, says: str = "") -> Expect:
    return Expect(state="dead", tokens=tokens, runs=runs, errors=errors, died=True, says=says)


def row(name: str, what: str, task: str, expect: Expect, **more: object) -> Row:
    return Row(name=name, what=what, task=task, expect=expect, **more)


def succeeded(*, runs: int = 1, says: str = "") -> Expect:
    return Expect(state="succeeded", tokens="+!$", runs=runs, says=says)


SUCCEEDED = succeeded()
AGAIN = succeeded(runs=2, says="unchanged: it runs again")
HELD = succeeded(runs=2, says="unchanged: it runs again when this worker has gone")
STALLS = "unchanged: Celery does not report it, and the batch becomes `stalled`"
UNREADABLE = Expect(state="waiting", tokens="", runs=0, says=STALLS)
AFTER_RETRY = Expect(state="succeeded", tokens="-!+$", runs=2, says="failing; then as the next attempt ends")
NO_LIMITS = succeeded(says="succeeded: Celery enforces no limits in this pool")
NO_SOFT = succeeded(says="succeeded: Celery enforces no soft limit in this pool")
NO_TERMINATE = succeeded(says="succeeded: Celery cannot terminate in this pool")
NO_CHILD = NotHere(why="there is no child: see “whole worker killed”")
LOST = dead("billiard.exceptions.WorkerLostError")
GONE = dead("billiard.exceptions.WorkerLostError", says="dead, when the worker's lease has ended")
RAISED_IN_HANDLER = dead("NotImplementedError", says="dead: Celery's own signal handler raises in the task")
AS_IT_ENDS = succeeded(says="as it ends: Celery waits for its threads")
REVOKED = dead("celery.exceptions.TaskRevokedError")
KILLED_GREENLET = dead("greenlet.GreenletExit", "celery.exceptions.TaskRevokedError")
REJECTED = dead("celery.exceptions.Reject")
NEVER_RAN = dead("celery.exceptions.TaskRevokedError", runs=0)
NOBODY = dict.fromkeys(("threads", "solo"), NO_LIMITS)
