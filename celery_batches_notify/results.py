"""What members returned or raised, read from the app's result backend. Counting never needs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, tzinfo
from typing import Any
from uuid import UUID

from celery import Celery, states
from celery.backends.base import BaseKeyValueStoreBackend, DisabledBackend
from celery.backends.rpc import RPCBackend

from celery_batches_notify.errors import ConfigurationError
from celery_batches_notify.membership import State
from celery_batches_notify.model import BatchStatus, MemberResult
from celery_batches_notify.store.packing import is_uuid
from celery_batches_notify.store.parsing import Member
from celery_batches_notify.store.store import Store

RESULTS_CHUNK = 100  # results may be large, ids are not

Meta = Mapping[str, Any]

_STATE_OF_CHILD = {
    State.WAITING: states.PENDING,
    State.FAILING: states.RETRY,
    State.DEAD: states.FAILURE,
    State.SUCCEEDED: states.SUCCESS,
}


class ResultReader:
    """Reads the results of a batch's members when somebody asks a status for them."""

    def __init__(self, app: Celery, store: Store) -> None:
        self._app = app
        self._store = store

    def __call__(self, status: BatchStatus) -> Iterator[MemberResult]:
        """Begin to read. Raises `ConfigurationError` at once if no results are kept."""
        backend = find_result_backend(self._app)
        return self._read(backend, status)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A status that is copied to another process leaves its reader behind."""
        return type(None), ()

    def _read(self, backend: Any, status: BatchStatus) -> Iterator[MemberResult]:
        for members in self._store.walk_members(status.bid, status.total):
            for start in range(0, len(members), RESULTS_CHUNK):
                chunk = members[start : start + RESULTS_CHUNK]
                metas = read_metas(backend, [member.id for member in chunk if not member.is_batch])
                for member in chunk:
                    yield _result_of(member, metas)


def find_result_backend(app: Celery) -> Any:
    """Return the app's result backend.

    Raises:
        ConfigurationError: It does not exist, or it does not keep results.
    """
    backend = app.backend
    if isinstance(backend, DisabledBackend):
        raise ConfigurationError(
            'results() needs a result backend, and this app has none: set result_backend = "redis://…", or '
            "do without, as counting and callbacks do"
        )
    if isinstance(backend, RPCBackend):
        raise ConfigurationError(
            "results() needs a result backend that keeps results, and rpc:// sends each to its caller once: "
            'set result_backend = "redis://…"'
        )
    return backend


def read_metas(backend: Any, task_ids: Sequence[str]) -> dict[str, Meta]:
    """Read what the backend holds of these tasks: in one go where it can, else one by one."""
    if not task_ids:
        return {}
    if isinstance(backend, BaseKeyValueStoreBackend):
        keys = [backend.get_key_for_task(task_id) for task_id in task_ids]
        try:
            found: Any = backend.mget(keys)
        except NotImplementedError:
            pass
        else:
            if isinstance(found, Mapping):  # memcached and its kin leave out what they do not have
                found = [found.get(key, found.get(_other_kind(key))) for key in keys]
            pairs = zip(task_ids, found, strict=True)
            return {task_id: backend.decode_result(value) for task_id, value in pairs if value}
    return {task_id: backend.get_task_meta(task_id, cache=False) for task_id in task_ids}


def read_metas_since(backend: Any, task_ids: Sequence[str], since: datetime) -> dict[str, Meta]:
    """Read as `read_metas`, but no result of a task that bore the same id before.

    A caller may give the same id every night, and backends keep results for a day. So only a random id is
    believed without a time.
    """
    zone = backend.app.timezone
    metas = read_metas(backend, task_ids)
    return {task_id: meta for task_id, meta in metas.items() if _is_since(task_id, meta, since, zone)}


def _is_since(task_id: str, meta: Meta, since: datetime, zone: tzinfo) -> bool:
    done = meta.get("date_done")
    if isinstance(done, str):
        with suppress(ValueError):
            done = datetime.fromisoformat(done)
    if not isinstance(done, datetime):
        return _is_random(task_id)
    # A database drops the time zone: then it is the app's, or UTC.
    times = [done] if done.tzinfo else [done.replace(tzinfo=each) for each in (UTC, zone)]
    return (max if _is_random(task_id) else min)(times) >= since  # safety: old-result


def _is_random(task_id: str) -> bool:
    return is_uuid(task_id) and UUID(task_id).version == 4


def _other_kind(key: bytes | str) -> bytes | str:
    return key.decode() if isinstance(key, bytes) else key.encode()


def _result_of(member: Member, metas: Mapping[str, Meta]) -> MemberResult:
    if member.is_batch:
        state = _STATE_OF_CHILD[member.state]
        return MemberResult(index=member.index, task_id=member.id, state=state, is_batch=True)
    meta = metas.get(member.id, {})
    return MemberResult(
        index=member.index,
        task_id=member.id,
        state=meta.get("status", states.PENDING),
        result=meta.get("result"),
        traceback=meta.get("traceback"),
    )
