"""The outcome table: what counts as what, for every way in which a task can end, in every pool.

`test_outcomes.py` runs each row in each pool and checks it; `python tests/outcome_table.py --write` puts the
same rows into the documentation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "outcomes.md"
BEGIN = "<!-- begin of the outcome table: written by tests/outcome_table.py --write -->"
END = "<!-- end of the outcome table -->"
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


SUCCEEDED = Expect(state="succeeded", tokens="+!$")
AGAIN = Expect(state="succeeded", tokens="+!$", runs=2, says="unchanged: it runs again")
HELD = Expect(
    state="succeeded", tokens="+!$", runs=2, says="unchanged: it runs again when this worker has gone"
)
GONE = Expect(state="waiting", tokens="", says="unchanged: no signal tells, the sweeper finds it")
UNREADABLE = Expect(state="waiting", tokens="", runs=0, says="unchanged: no signal tells, the batch stalls")
AFTER_RETRY = Expect(state="succeeded", tokens="-!+$", runs=2, says="failing; then as the next attempt ends")
NO_LIMITS = Expect(state="succeeded", tokens="+!$", says="succeeded: Celery enforces no limits in this pool")
NO_SOFT = Expect(
    state="succeeded", tokens="+!$", says="succeeded: Celery enforces no soft limit in this pool"
)
NO_TERMINATE = Expect(state="succeeded", tokens="+!$", says="succeeded: Celery cannot terminate in this pool")
NO_CHILD = NotHere(why="there is no child: see “whole worker killed”")
LOST = dead("billiard.exceptions.WorkerLostError")
RAISED_IN_HANDLER = dead("NotImplementedError", says="dead: Celery's own signal handler raises in the task")
AS_IT_ENDS = Expect(state="succeeded", tokens="+!$", says="as it ends: Celery waits for its threads")
REVOKED = dead("celery.exceptions.TaskRevokedError")
KILLED_GREENLET = dead("greenlet.GreenletExit", "celery.exceptions.TaskRevokedError")
REJECTED = dead("celery.exceptions.Reject")
NEVER_RAN = dead("celery.exceptions.TaskRevokedError", runs=0)
NOBODY = dict.fromkeys(("threads", "solo"), NO_LIMITS)

ROWS = (
    # -- it returned
    Row(name="returned", what="returned", task="returns", expect=SUCCEEDED),
    Row(name="returned-late", what="returned, late ack", task="returns.late", expect=SUCCEEDED),
    Row(name="returned-stored", what="returned, result stored", task="returns.stored", expect=SUCCEEDED),
    Row(
        name="returned-backend-down",
        what="returned, but the result backend was down",
        task="returns.down",
        expect=SUCCEEDED,
    ),
    Row(
        name="unserialisable",
        what="returned what the result backend cannot store",
        task="returns_object.stored",
        expect=dead("kombu.exceptions.EncodeError"),
    ),
    Row(
        name="unserialisable-no-backend",
        what="the same without a result backend",
        task="returns_object",
        expect=SUCCEEDED,
    ),
    # -- it raised
    Row(name="raised", what="raised", task="raises", expect=dead("ValueError")),
    Row(name="raised-late", what="raised, late ack", task="raises.late", expect=dead("ValueError")),
    Row(
        name="raised-backend-down",
        what="raised, and the result backend was down",
        task="raises.down",
        expect=dead("ConnectionError"),
    ),
    Row(
        name="unpicklable",
        what="raised an exception that cannot be pickled",
        task="raises_unpicklable",
        expect=dead("proj_outcomes.Unpicklable"),
    ),
    Row(
        name="unpicklable-subclass",
        what="the same, and a base class of it can be pickled",
        task="raises_unpicklable_value",
        expect=dead("proj_outcomes.UnpicklableValue"),
    ),
    Row(
        name="unpicklable-stored",
        what="the same with a result backend",
        task="raises_unpicklable.stored",
        expect=dead("proj_outcomes.Unpicklable"),
    ),
    Row(name="retried", what="raised, a retry is coming", task="retries_once", expect=AFTER_RETRY),
    Row(name="retried-late", what="the same, late ack", task="retries_once.late", expect=AFTER_RETRY),
    Row(
        name="retried-backend-down",
        what="the same while the result backend is down",
        task="retries_once.down",
        expect=AFTER_RETRY,
    ),
    Row(
        name="retrying",
        what="raised, and its retry is an hour away",
        task="retries_much_later",
        expect=Expect(state="failing", tokens="-!", errors=("ValueError",)),
    ),
    Row(
        name="retries-exhausted",
        what="retries exhausted",
        task="runs_out_of_retries",
        expect=dead("KeyError", tokens="-!-", runs=2),
    ),
    # -- time limits
    Row(
        name="soft-limit",
        what="soft time limit",
        task="naps",
        args=(3,),
        options={"soft_time_limit": 1},
        expect=dead("billiard.exceptions.SoftTimeLimitExceeded"),
        pools={**NOBODY, "gevent": NO_SOFT},
    ),
    Row(
        name="soft-limit-caught",
        what="soft time limit, caught by the task, which returned",
        task="catches_soft_limit",
        args=(3,),
        options={"soft_time_limit": 1},
        expect=SUCCEEDED,
        pools={**NOBODY, "gevent": NO_SOFT},
    ),
    Row(
        name="soft-limit-reporting",
        what="returned, and the soft time limit hits while that is being counted",
        task="reports_slowly",
        options={"soft_time_limit": 1},
        expect=SUCCEEDED,
        pools={**NOBODY, "gevent": NO_SOFT},
    ),
    Row(
        name="hard-limit",
        what="hard time limit",
        task="naps",
        args=(4,),
        options={"time_limit": 1},
        expect=dead("billiard.exceptions.TimeLimitExceeded"),
        pools=dict(NOBODY),
    ),
    Row(
        name="hard-limit-late",
        what="hard time limit, late ack",
        task="naps.late",
        args=(4,),
        options={"time_limit": 1},
        expect=dead("billiard.exceptions.TimeLimitExceeded"),
        pools=dict(NOBODY),
    ),
    Row(
        name="hard-limit-requeued",
        what="hard time limit, late ack and `acks_on_failure_or_timeout=False`",
        task="naps.requeued",
        args=(4,),
        options={"time_limit": 1},
        scene="lost",
        expect=AGAIN,
        pools=dict(NOBODY),
    ),
    # -- revoked, expired
    Row(
        name="revoked",
        what="revoked before it ran",
        task="returns",
        act="revoke",
        expect=NEVER_RAN,
    ),
    Row(
        name="revoked-running",
        what="revoked while it ran, without `terminate`",
        task="naps",
        args=(2,),
        act="revoke_running",
        expect=Expect(state="succeeded", tokens="+!$", says="as it ends: Celery lets it run on"),
    ),
    Row(
        name="terminated",
        what="revoked while it ran, with `terminate`",
        task="naps",
        args=(4,),
        act="terminate",
        expect=REVOKED,
        pools={**dict.fromkeys(("threads", "solo"), NO_TERMINATE), "gevent": KILLED_GREENLET},
    ),
    Row(
        name="terminated-late",
        what="the same, late ack",
        task="naps.late",
        args=(4,),
        act="terminate",
        expect=REVOKED,
        pools={**dict.fromkeys(("threads", "solo"), NO_TERMINATE), "gevent": KILLED_GREENLET},
    ),
    Row(name="expired", what="expired", task="returns", options={"expires": -1}, expect=NEVER_RAN),
    # -- refused
    Row(name="rejected", what="`Reject(requeue=False)`", task="rejects", args=(False,), expect=REJECTED),
    Row(
        name="rejected-late",
        what="`Reject(requeue=False)`, late ack",
        task="rejects.late",
        args=(False,),
        expect=REJECTED,
    ),
    Row(
        name="requeued-early",
        what="`Reject(requeue=True)` after an early ack: the message is gone",
        task="rejects",
        args=(True,),
        expect=REJECTED,
    ),
    Row(
        name="requeued",
        what="`Reject(requeue=True)`, late ack",
        task="rejects.late",
        args=(True,),
        expect=AGAIN,
    ),
    Row(
        name="unknown",
        what="task not registered on the worker",
        task="nobody_knows_this",
        expect=dead("celery.exceptions.NotRegistered", runs=0),
    ),
    Row(
        name="content-type",
        what="message in a serialisation that the worker does not accept",
        task="returns",
        act="other_content_type",
        expect=dead("kombu.exceptions.ContentDisallowed", runs=0),
    ),
    Row(
        name="no-task-name",
        what="message without a task name",
        task="returns",
        act="no_task_name",
        expect=dead("ValueError", runs=0),
    ),
    Row(
        name="bad-eta",
        what="message with a time that cannot be read",
        task="returns",
        act="bad_eta",
        expect=dead("celery.exceptions.InvalidTaskError", runs=0),
    ),
    Row(
        name="undecodable",
        what="message whose body cannot be decoded",
        task="returns",
        act="garbled",
        expect=UNREADABLE,
    ),
    # -- ignored, replaced
    Row(name="ignored", what="`Ignore`", task="ignores", expect=SUCCEEDED),
    Row(name="ignored-late", what="`Ignore`, late ack", task="ignores.late", expect=SUCCEEDED),
    Row(
        name="ignored-failed",
        what="`Ignore` after the task stored `FAILURE` itself",
        task="ignores_after_failing",
        args=("FAILURE",),
        expect=dead("ValueError"),
    ),
    Row(
        name="ignored-failed-stored",
        what="the same with a result backend",
        task="ignores_after_failing.stored",
        args=("FAILURE",),
        expect=dead("ValueError"),
    ),
    Row(
        name="ignored-custom",
        what="`Ignore` after the task stored a state of its own",
        task="ignores_after_failing",
        args=("HALFWAY",),
        expect=SUCCEEDED,
    ),
    Row(
        name="ignored-marked",
        what="`Ignore` after `backend.mark_as_failure`",
        task="ignores_after_marking",
        expect=dead("ValueError"),
    ),
    Row(
        name="ignored-marked-stored",
        what="the same with a result backend",
        task="ignores_after_marking.stored",
        expect=dead("ValueError"),
    ),
    Row(
        name="replaced",
        what="`self.replace(signature)`",
        task="replaces",
        expect=Expect(
            state="succeeded",
            tokens="+!$",
            runs=2,
            says="unchanged: the replacement carries the membership on",
        ),
    ),
    # -- the process is lost
    *(
        Row(
            name=f"{how}-{variant}".lower().strip("-"),
            what=f"raised `{how}`{words}",
            task=f"exits.{variant}".strip("."),
            args=(how,),
            scene="lost",
            expect=dead(error, "billiard.exceptions.WorkerLostError"),
            pools=pools,
        )
        for how, error in (
            ("SystemExit", "SystemExit"),
            ("KeyboardInterrupt", "KeyboardInterrupt"),
            ("CancelledError", "asyncio.exceptions.CancelledError"),
        )
        for variant, words, pools in (
            ("", "", {}),
            ("stored", ", result stored", {}),
            ("late", ", late ack", dict.fromkeys(("threads", "solo", "gevent"), HELD)),
        )
    ),
    Row(
        name="systemexit-requeued",
        what="raised `SystemExit`, late ack and `reject_on_worker_lost`",
        task="exits.requeued",
        args=("SystemExit",),
        scene="lost",
        expect=AGAIN,
        pools=dict.fromkeys(("threads", "solo", "gevent"), HELD),
        older={"prefork": dead("SystemExit")},
    ),
    *(
        Row(
            name=f"killed-{variant or 'early'}",
            what=f"pool child killed{words}",
            task=f"kills_its_process.{variant}".strip("."),
            scene="lost",
            expect=expect,
            needs=(5, 7) if variant == "retried" else (5, 5),
            pools=dict.fromkeys(("threads", "solo", "gevent"), NO_CHILD),
        )
        for variant, words, expect in (
            ("", ", early ack", LOST),
            ("late", ", late ack", LOST),
            ("requeued", ", late ack and `reject_on_worker_lost`", AGAIN),
            ("retried", " and `retry_on_worker_lost`", AFTER_RETRY),
        )
    ),
    Row(
        name="worker-killed",
        what="whole worker killed, early ack",
        task="naps",
        args=(8,),
        scene="SIGKILL",
        expect=GONE,
        pools={"solo": AGAIN},
    ),
    Row(
        name="worker-killed-late",
        what="whole worker killed, late ack",
        task="naps.late",
        args=(8,),
        scene="SIGKILL",
        expect=AGAIN,
    ),
    Row(
        name="cold-shutdown",
        what="cold shutdown while it ran, early ack",
        task="naps",
        args=(8,),
        scene="SIGQUIT",
        expect=GONE,
        pools={"threads": AS_IT_ENDS, "solo": RAISED_IN_HANDLER, "gevent": KILLED_GREENLET},
    ),
    Row(
        name="cold-shutdown-late",
        what="cold shutdown while it ran, late ack",
        task="naps.late",
        args=(8,),
        scene="SIGQUIT",
        expect=AGAIN,
        pools={"threads": AS_IT_ENDS, "solo": RAISED_IN_HANDLER, "gevent": KILLED_GREENLET},
    ),
    Row(
        name="warm-shutdown",
        what="warm shutdown while it ran",
        task="naps",
        args=(2,),
        scene="SIGTERM",
        expect=SUCCEEDED,
    ),
    # -- twice
    Row(
        name="twice",
        what="delivered twice, returned twice",
        task="returns",
        act="twice",
        expect=Expect(state="succeeded", tokens="+!$", runs=2, says="succeeded, once"),
    ),
    Row(
        name="twice-dead",
        what="delivered twice, raised twice",
        task="raises",
        act="twice",
        expect=dead("ValueError", runs=2, says="dead, once"),
    ),
    Row(
        name="twice-raised-returned",
        what="delivered twice, raised and then returned",
        task="raises_once",
        act="twice",
        expect=Expect(state="succeeded", tokens="-!+$", runs=2, died=True, says="dead, then succeeded"),
    ),
    Row(
        name="twice-returned-raised",
        what="delivered twice, returned and then raised",
        task="returns_once",
        act="twice",
        expect=Expect(
            state="succeeded", tokens="+!$", runs=2, says="succeeded: a later failure changes nothing"
        ),
    ),
    Row(
        name="overtaken",
        what="raised, and the retry's success overtakes the report of it",
        task="overtaken",
        expect=Expect(
            state="succeeded", tokens="+!$", runs=2, says="succeeded: the late report changes nothing"
        ),
        pools={"solo": AFTER_RETRY},
    ),
)
