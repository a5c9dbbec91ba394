"""The requests that a worker holds: received, and not finished."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary, ref


class ReceivedRequests:
    """Requests by their task id, for signals that come without one. A message may arrive twice.

    It keeps no request alive, except that the first of two deliveries keeps the second: if the second ended
    first and took the entry away, nothing would answer for the first.
    """

    def __init__(self) -> None:
        self._latest: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self._later: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self._earlier: WeakKeyDictionary[Any, ref[Any]] = WeakKeyDictionary()

    def add(self, request: Any) -> None:
        """Remember a request until Celery has forgotten it."""
        if (earlier := self._latest.get(request.id)) is not None:
            self._later[earlier] = request
            self._earlier[request] = ref(earlier)  # safety: earlier-request
        self._latest[request.id] = request

    def get(self, task_id: str) -> Any:
        """Return the request that arrived last for a task, or None."""
        return self._latest.get(task_id)

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._latest

    def __iter__(self) -> Iterator[Any]:
        """Yield every request, both of a message that arrived twice; others may arrive meanwhile."""
        for latest in self._latest.valuerefs():
            request = latest()
            while request is not None:
                yield request
                earlier = self._earlier.get(request)
                request = earlier() if earlier is not None else None
