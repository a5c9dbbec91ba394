"""Find out which worker has which task, from the workers' answers and from their records in the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

from celery import Celery

from celery_batches_notify.messages.broker import connect_for_callbacks
from celery_batches_notify.messages.headers import DELIVER_TASK
from celery_batches_notify.store.store import Store

Holding = Literal["running", "reserved", "scheduled", "lost"]
Answers = Sequence[tuple[str, Any]]
_HELD: tuple[Holding, ...] = ("scheduled", "reserved", "running")  # the order of the questions


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The worker that has a task, and since when it runs or when it is due; `lost` if the worker is gone."""

    worker: str
    held: Holding
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersReading:
    """The workers' answers.

    Attributes:
        workers: The workers that answered.
        holders: The worker that has each task, by task id.
        queues: The number of workers that consume each queue.
        silent: Live workers that did not answer, so their tasks are unknown.
        bare: Workers without this extension that consume this app's tasks, and do not report them.
        why: Why the workers could not be asked, or an empty text.
    """

    workers: tuple[str, ...] = ()
    holders: Mapping[str, Holder] = field(default_factory=dict)
    queues: Mapping[str, int] = field(default_factory=dict)
    silent: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()
    why: str = ""


def ask_workers(app: Celery, timeout_seconds: float) -> WorkersReading:
    """Ask all workers for their tasks. An unreachable broker raises nothing.

    The questions follow the order in which a task moves, so a task that moves meanwhile is still found.
    """
    try:
        with connect_for_callbacks(app) as connection:
            connection.ensure_connection(max_retries=1)
            ask = partial(_ask, app, connection, timeout_seconds)
            queues = ask("active_queues")
            if not queues:
                return WorkersReading()
            # The limit ends the wait with the last answer.
            answers = [ask(command, len(queues)) for command in ("scheduled", "reserved", "active")]
            registered = ask("registered", len(queues))
    except Exception as exc:  # noqa: BLE001 - every transport has errors of its own
        return WorkersReading(why=f"the workers cannot be asked ({type(exc).__name__})")
    holders: dict[str, Holder] = {}
    for answer, held in zip(answers, _HELD, strict=True):
        _note(holders, answer, held)
    expected = Counter(worker for worker, _ in queues)
    silent = {worker for answer in (*answers, registered) for worker in expected - _answering(answer)}
    read = [(worker, _names_of(answer)) for worker, answer in queues]
    return WorkersReading(
        workers=tuple(sorted(expected)),
        holders=holders,
        queues=Counter(name for _, names in read for name in names),
        silent=tuple(sorted(silent)),
        bare=tuple(sorted(_find_bare(app, read, registered))),
    )


def _names_of(queues: Any) -> set[str]:
    return {str(queue.get("name")) for queue in queues if isinstance(queue, dict)}


def _find_bare(app: Celery, read: Sequence[tuple[str, set[str]]], registered: Answers) -> set[str]:
    """Return the workers without this extension that consume the app's queues or know its tasks."""
    tasks: dict[str, set[str]] = {}
    for worker, answer in registered:
        if isinstance(answer, list):
            tasks.setdefault(worker, set()).update(str(name).partition(" [")[0] for name in answer)
    bare = {worker for worker, names in tasks.items() if DELIVER_TASK not in names}
    ours = set(app.amqp.queues).union(*(names for worker, names in read if worker in tasks.keys() - bare))
    own = {name for name in app.tasks if not name.startswith("celery.")} - {DELIVER_TASK}
    return {worker for worker, names in read if worker in bare and (names & ours or tasks[worker] & own)}


def _answering(answers: Answers) -> Counter[str]:
    """Count the workers whose answer is not an error."""
    return Counter(worker for worker, answer in answers if isinstance(answer, list))


def _ask(app: Celery, connection: Any, seconds: float, command: str, limit: int | None = None) -> Answers:
    """Ask all workers one question. Unlike `celery inspect`, this separates workers that share a name."""
    arguments = {"safe": True} if command == "active" else {}
    replies: Any = app.control.broadcast(
        command, arguments=arguments, reply=True, timeout=seconds, limit=limit, connection=connection
    )
    return [(worker, answer) for reply in replies or () for worker, answer in reply.items()]


def add_leases(workers: WorkersReading, store: Store, wanted: Callable[[str], bool]) -> WorkersReading:
    """Add the workers' records from the store: the tasks of silent and of lost workers.

    A worker is lost once its lease has expired. Raises `StoreUnavailable`.
    """
    lease_seconds = store.settings.worker_lease.total_seconds()
    living, lost, silent = dict(workers.holders), {}, set(workers.silent)
    for wid, seconds_ago, records in store.read_workers():
        name = wid.rpartition("/")[0]
        is_lost = seconds_ago > lease_seconds
        if not is_lost and name not in workers.workers:
            silent.add(name)
        for task_id in filter(wanted, records):
            if is_lost:
                lost[task_id] = Holder(worker=name, held="lost")
            else:
                living.setdefault(task_id, Holder(worker=name, held="running"))
    return replace(workers, holders={**lost, **living}, silent=tuple(sorted(silent)))


def _note(holders: dict[str, Holder], answers: Answers, held: Holding) -> None:
    for worker, tasks in answers:
        for task in tasks if isinstance(tasks, list) else ():
            request = task.get("request") or task
            at = _read_eta(task.get("eta")) if held == "scheduled" else _read_start(request.get("time_start"))
            holders[str(request.get("id"))] = Holder(worker=worker, held=held, at=at)


def _read_eta(eta: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(str(eta))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _read_start(seconds: object) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if isinstance(seconds, (int, float)) else None
