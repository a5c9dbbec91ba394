"""The bodies of tasks, in a worker or where they are applied."""

from __future__ import annotations

from typing import Any

from celery_batches_notify import Batch, current_batch
from tests.use.use_example import Example
from tests.use.use_holder import Holder
from tests.use.use_model import Call
from tests.use.use_stage import Held, Player


class Tasks(Example):
    """Bodies of tasks. They begin outside all blocks, and leave no block open."""

    def make(self, player: Player, call: Call, how: str = "delay") -> None:
        celery, work = self.apps[call.app], self.apps[call.app].tasks["work"]
        steps = {
            "delay": lambda: work.delay(call.id),
            "apply_async": lambda: work.apply_async(task_id=call.id),
            "send_task": lambda: celery.send_task("work", task_id=call.id),
            "signature": lambda: work.si().set(task_id=call.id).delay(),
        }
        self.call(player, [call], steps[how])

    def run_body(self, app: str, task: Any) -> None:
        """Run a call's body in any context: it begins outside all blocks, and leaves no block open."""
        request, player = task.request, self.acting[-1]
        if not request.is_eager:
            self.watch.ran.append((request.id, getattr(request, "batches", None)))
        around, player.around = player.around, []
        try:
            body = next((call.body for call in self.calls if call.id == request.id), "")
            self.do(body, player, app, getattr(request, "batches", None))
        except BaseException as exc:
            self.errors_in_tasks.append(exc)
        finally:
            player.around = around

    def do(self, body: str, player: Player, app: str, mark: dict[str, Any] | None) -> None:
        if body == "call":
            self.make(player, self.new_call(app))
        elif body == "call another app":
            self.make(player, self.new_call("b" if app == "a" else "a"))
        elif body in ("leave open", "block"):
            held = self.new_batch(app)
            self.open_block(player, held)
            self.make(player, self.new_call(app))
            if body == "block":
                self.end_block(player, held)
        elif body:
            own = current_batch(app=self.apps[app])
            assert (own.bid if own else None) == (mark["bid"] if mark else None)
            if own is not None:
                self.do_as_member(body, player, app, own)

    def do_as_member(self, body: str, player: Player, app: str, own: Batch) -> None:
        held = Held(own, Holder(self.batches[own.bid], is_owner=False, is_members=True))
        self.open_block(player, held)
        if body == "child":
            child = self.new_batch(app)
            self.open_block(player, child)
            self.make(player, self.new_call(app))
            self.end_block(player, child)
        self.make(player, self.new_call(app))
        self.end_block(player, held)
