"""The outcome table: what counts as what, for every way in which a task can end, in every pool.

`test_outcome_table.py` plays each row in each pool and checks it.
`python -m tests.support.outcome_table --write` puts the same rows into the documentation.
"""

from __future__ import annotations

import sys

from tests.support.outcome_expect import (
    AFTER_RETRY,
    AGAIN,
    AS_IT_ENDS,
    GONE,
    HELD,
    KILLED_GREENLET,
    LOST,
    NEVER_RAN,
    NO_CHILD,
    NO_SOFT,
    NO_TERMINATE,
    NOBODY,
    RAISED_IN_HANDLER,
    REJECTED,
    REVOKED,
    SUCCEEDED,
    UNREADABLE,
    Expect,
    dead,
    row,
    succeeded,
)

IT_RETURNED = (
    row("returned", "returned", "returns", SUCCEEDED),
    row("returned-late", "returned, late ack", "returns.late", SUCCEEDED),
    row("returned-stored", "returned, result stored", "returns.stored", SUCCEEDED),
    row("returned-backend-down", "returned, but the result backend was down", "returns.down", SUCCEEDED),
    row(
        "unserialisable",
        "returned what the result backend cannot store",
        "returns_object.stored",
        dead("kombu.exceptions.EncodeError"),
    ),
    row("unserialisable-no-backend", "the same, without a result backend", "returns_object", SUCCEEDED),
)

IT_RAISED = (
    row("raised", "raised", "raises", dead("ValueError")),
    row("raised-late", "raised, late ack", "raises.late", dead("ValueError")),
    row(
        "raised-backend-down",
        "raised, and the result backend was down",
        "raises.down",
        dead("ConnectionError"),
    ),
    row(
        "unpicklable",
        "raised an exception that cannot be pickled",
        "raises_unpicklable",
        dead("tests.projects.proj_outcomes.Unpicklable"),
    ),
    row(
        "unpicklable-subclass",
        "the same, and a base class of it can be pickled",
        "raises_unpicklable_value",
        dead("tests.projects.proj_outcomes.UnpicklableValue"),
    ),
    row(
        "unpicklable-stored",
        "the same with a result backend",
        "raises_unpicklable.stored",
        dead("tests.projects.proj_outcomes.Unpicklable"),
    ),
    row("retried", "raised, a retry is coming", "retries_once", AFTER_RETRY),
    row("retried-late", "the same, late ack", "retries_once.late", AFTER_RETRY),
    row(
        "retried-backend-down", "the same while the result backend is down", "retries_once.down", AFTER_RETRY
    ),
    row(
        "retrying",
        "raised, and its retry is an hour away",
        "retries_much_later",
        Expect(state="failing", tokens="-!", errors=("ValueError",)),
    ),
    row(
        "retry-raised",
        "raised `Retry`, and no retry is coming, as if a task that it calls as a function asks for one",
        "calls_what_retries",
        dead("celery.exceptions.Retry"),
    ),
    row(
        "retries-exhausted",
        "retries exhausted",
        "runs_out_of_retries",
        dead("KeyError", tokens="-!-", runs=2),
    ),
)

TIME_LIMITS = (
    row(
        "soft-limit",
        "soft time limit",
        "naps",
        dead("billiard.exceptions.SoftTimeLimitExceeded"),
        args=(3,),
        options={"soft_time_limit": 1},
        pools={**NOBODY, "gevent": NO_SOFT},
    ),
    row(
        "soft-limit-caught",
        "soft time limit, caught by the task, which returned",
        "catches_soft_limit",
        SUCCEEDED,
        args=(3,),
        options={"soft_time_limit": 1},
        pools={**NOBODY, "gevent": NO_SOFT},
    ),
    row(
        "soft-limit-reporting",
        "returned, and the soft time limit hits while that is being counted",
        "reports_slowly",
        SUCCEEDED,
        options={"soft_time_limit": 1},
        pools={**NOBODY, "gevent": NO_SOFT},
    ),
    row(
        "hard-limit",
        "hard time limit",
        "naps",
        dead("billiard.exceptions.TimeLimitExceeded"),
        args=(4,),
        options={"time_limit": 1},
        pools=dict(NOBODY),
    ),
    row(
        "hard-limit-late",
        "hard time limit, late ack",
        "naps.late",
        dead("billiard.exceptions.TimeLimitExceeded"),
        args=(4,),
        options={"time_limit": 1},
        pools=dict(NOBODY),
    ),
    row(
        "hard-limit-requeued",
        "hard time limit, late ack and `acks_on_failure_or_timeout=False`",
        "naps.requeued",
        AGAIN,
        args=(4,),
        options={"time_limit": 1},
        scene="lost",
        pools=dict(NOBODY),
        older={"gevent": HELD},
    ),
)

REVOKED_OR_EXPIRED = (
    row("revoked", "revoked before it ran", "returns", NEVER_RAN, act="revoke"),
    row(
        "revoked-running",
        "revoked while it ran, without `terminate`",
        "naps",
        succeeded(says="as it ends: Celery lets it run on"),
        args=(2,),
        act="revoke_running",
    ),
    row(
        "terminated",
        "revoked while it ran, with `terminate`",
        "naps",
        REVOKED,
        args=(4,),
        act="terminate",
        pools={**dict.fromkeys(("threads", "solo"), NO_TERMINATE), "gevent": KILLED_GREENLET},
    ),
    row(
        "terminated-late",
        "the same, late ack",
        "naps.late",
        REVOKED,
        args=(4,),
        act="terminate",
        pools={**dict.fromkeys(("threads", "solo"), NO_TERMINATE), "gevent": KILLED_GREENLET},
    ),
    row("expired", "expired", "returns", NEVER_RAN, options={"expires": -1}),
)

REFUSED = (
    row("rejected", "`Reject(requeue=False)`", "rejects", REJECTED, args=(False,)),
    row("rejected-late", "`Reject(requeue=False)`, late ack", "rejects.late", REJECTED, args=(False,)),
    row(
        "requeued-early",
        "`Reject(requeue=True)` after an early ack: the message is gone",
        "rejects",
        REJECTED,
        args=(True,),
    ),
    row("requeued", "`Reject(requeue=True)`, late ack", "rejects.late", AGAIN, args=(True,)),
    row(
        "unknown",
        "task not registered on the worker",
        "nobody_knows_this",
        dead("celery.exceptions.NotRegistered", runs=0),
    ),
    row(
        "content-type",
        "message in a serialisation that the worker does not accept",
        "returns",
        dead("kombu.exceptions.ContentDisallowed", runs=0),
        act="other_content_type",
    ),
    row(
        "no-task-name",
        "message without a task name",
        "returns",
        dead("ValueError", runs=0),
        act="no_task_name",
    ),
    row(
        "bad-eta",
        "message with a time that cannot be read",
        "returns",
        dead("celery.exceptions.InvalidTaskError", runs=0),
        act="bad_eta",
    ),
    row("undecodable", "message whose body cannot be decoded", "returns", UNREADABLE, act="garbled"),
)

WENT_ON_UNDER_ITS_ID = (
    row("goes-on", "`self.retry(throw=False)`, then returned", "goes_on", AGAIN, args=("returns",)),
    row("goes-on-ignored", "the same, then `Ignore`", "goes_on", AGAIN, args=("ignores",)),
    row("goes-on-raised", "the same, then raised", "goes_on", AFTER_RETRY, args=("raises",)),
    row(
        "goes-on-by-itself",
        "called itself again with `task_id=self.request.id`, then returned",
        "goes_on",
        AGAIN,
        args=("calls itself",),
    ),
)

IGNORED_OR_REPLACED = (
    row("ignored", "`Ignore`", "ignores", SUCCEEDED),
    row("ignored-late", "`Ignore`, late ack", "ignores.late", SUCCEEDED),
    row(
        "ignored-failed",
        "`Ignore` after the task stored `FAILURE` itself",
        "ignores_after_failing",
        dead("ValueError"),
        args=("FAILURE",),
    ),
    row(
        "ignored-failed-stored",
        "the same with a result backend",
        "ignores_after_failing.stored",
        dead("ValueError"),
        args=("FAILURE",),
    ),
    row(
        "ignored-custom",
        "`Ignore` after the task stored a state of its own",
        "ignores_after_failing",
        SUCCEEDED,
        args=("HALFWAY",),
    ),
    row(
        "ignored-marked",
        "`Ignore` after `backend.mark_as_failure`",
        "ignores_after_marking",
        dead("ValueError"),
    ),
    row(
        "ignored-marked-stored",
        "the same with a result backend",
        "ignores_after_marking.stored",
        dead("ValueError"),
    ),
    row(
        "replaced",
        "`self.replace(signature)`",
        "replaces",
        succeeded(runs=2, says="unchanged: the replacement carries the membership on"),
    ),
)

ITS_PROCESS_WAS_LOST = (
    *(
        row(
            f"{how}-{variant}".lower().strip("-"),
            f"raised `{how}`{words}",
            f"exits.{variant}".strip("."),
            dead(error, "billiard.exceptions.WorkerLostError"),
            args=(how,),
            scene="lost",
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
    row(
        "systemexit-requeued",
        "raised `SystemExit`, late ack and `reject_on_worker_lost`",
        "exits.requeued",
        AGAIN,
        args=("SystemExit",),
        scene="lost",
        pools=dict.fromkeys(("threads", "solo", "gevent"), HELD),
        older={"prefork": dead("SystemExit")},
    ),
    *(
        row(
            f"killed-{variant or 'early'}",
            f"pool child killed{words}",
            f"kills_its_process.{variant}".strip("."),
            expect,
            scene="lost",
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
    row(
        "worker-killed",
        "whole worker killed, early ack",
        "naps",
        GONE,
        args=(60,),
        scene="SIGKILL",
        pools={"solo": AGAIN},
    ),
    row(
        "worker-killed-late", "whole worker killed, late ack", "naps.late", AGAIN, args=(60,), scene="SIGKILL"
    ),
    row(
        "cold-shutdown",
        "cold shutdown while it ran, early ack",
        "naps",
        GONE,
        args=(8,),
        scene="SIGQUIT",
        pools={"threads": AS_IT_ENDS, "solo": RAISED_IN_HANDLER, "gevent": KILLED_GREENLET},
    ),
    row(
        "cold-shutdown-late",
        "cold shutdown while it ran, late ack",
        "naps.late",
        AGAIN,
        args=(8,),
        scene="SIGQUIT",
        pools={"threads": AS_IT_ENDS, "solo": RAISED_IN_HANDLER, "gevent": KILLED_GREENLET},
    ),
    row("warm-shutdown", "warm shutdown while it ran", "naps", SUCCEEDED, args=(2,), scene="SIGTERM"),
)

DELIVERED_TWICE = (
    row(
        "twice",
        "delivered twice, returned twice",
        "returns",
        succeeded(runs=2, says="succeeded, once"),
        act="twice",
    ),
    row(
        "twice-dead",
        "delivered twice, raised twice",
        "raises",
        dead("ValueError", runs=2, says="dead, once"),
        act="twice",
    ),
    row(
        "twice-raised-returned",
        "delivered twice, raised and then returned",
        "raises_once",
        Expect(state="succeeded", tokens="-!+$", runs=2, died=True, says="dead, then succeeded"),
        act="twice",
    ),
    row(
        "twice-returned-raised",
        "delivered twice, returned and then raised",
        "returns_once",
        succeeded(runs=2, says="succeeded: a later failure changes nothing"),
        act="twice",
    ),
    row(
        "overtaken",
        "raised, and the retry's success overtakes the report of it",
        "overtaken",
        succeeded(runs=2, says="succeeded: the late report changes nothing"),
        args=(0,),
        pools={"solo": AFTER_RETRY},
    ),
)

GROUPS = {
    "It returned": IT_RETURNED,
    "It raised": IT_RAISED,
    "Time limits": TIME_LIMITS,
    "Revoked or expired": REVOKED_OR_EXPIRED,
    "Refused": REFUSED,
    "Ignored or replaced": IGNORED_OR_REPLACED,
    "Went on under its own id": WENT_ON_UNDER_ITS_ID,
    "Its process was lost": ITS_PROCESS_WAS_LOST,
    "Delivered twice, or out of order": DELIVERED_TWICE,
}

ROWS = tuple(row for rows in GROUPS.values() for row in rows)

if __name__ == "__main__":
    from tests.support.outcome_page import render, write_page

    if "--write" in sys.argv:
        write_page(render(GROUPS))
    else:
        print(render(GROUPS))
