"""Results of calls that wait in an open block: asking for them there raises instead of waiting for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.result import AsyncResult

from celery_batches_notify.errors import WouldDeadlock
from celery_batches_notify.messages.block import open_frames

if TYPE_CHECKING:
    Result = AsyncResult[Any]
else:
    Result = AsyncResult


class BlockAwareResult(Result):
    """Celery's result, which knows whether its call has left."""

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """Wait for the result, as Celery's own `get`. Raises `WouldDeadlock` inside the call's own block."""
        self._refuse_inside_block()
        return super().get(*args, **kwargs)

    wait = get

    @property
    def supports_native_join(self) -> bool:
        """Whether the backend joins groups by itself; a group asks its first member before it waits."""
        self._refuse_inside_block()
        return bool(super().supports_native_join)

    def _refuse_inside_block(self) -> None:
        if any(frame.holds(self.id) for frame in open_frames()):
            raise WouldDeadlock(
                f"task {self.id} leaves only when its `with batch:` block ends: ask for its result after that"
            )


def watch_results(app: Celery) -> None:
    """Let the app make such results."""
    # A pickle of a result holds the name of the app's attribute that makes the result anew.
    # safety: result-attribute
    result = app.subclass_with_self(BlockAwareResult, name="AsyncResult", reverse="AsyncResult")
    app.AsyncResult = result  # type: ignore[misc]
    app.BlockAwareResult = result  # type: ignore[attr-defined]  # for pickles made before this
