"""The invariants of a batch, one function each: what must hold of any store, whatever a model says.

Each gets what the store held before a step (None at a batch's first sight), what it holds after it, and all
tokens heard so far. Some of I-1 to I-21 are seen elsewhere: I-5 (what is no execution) by the tests of the
receivers; I-11 (fixed ids) and I-14 (nothing is left of a batch that is gone) by the machine itself; I-13 (a
denied channel) in test_scripts; I-19 (one channel's failure harms no other) by the tests of deliveries. I-20
(every prefix of the scripts) is why a step is a single script wherever a process can die between two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Held: TypeAlias = dict[str, str]
Invariant: TypeAlias = Callable[[Held | None, Held, str], bool]

WAITING, FAILING, DEAD, SUCCEEDED = "0123"
EVENTS = ("death", "complete", "finish", "success")


def number(held: Held, name: str) -> int:
    return int(held.get(name, 0))


def i1_counted_once(before: Held | None, after: Held, tokens: str) -> bool:
    """I-1: counts are the states', never fall, and never pass the total."""
    states = after["states"]
    counted = {"succeeded": SUCCEEDED, "failing": FAILING, "dead": DEAD}
    right = all(number(after, name) == states.count(state) for name, state in counted.items())
    pairs = zip(before["states"], states, strict=False) if before else ()
    kept = all(
        new == SUCCEEDED if old == SUCCEEDED else old == WAITING or new != WAITING for old, new in pairs
    )
    return right and kept and len(states) == number(after, "total")


def i2_success_leaves_no_failure(before: Held | None, after: Held, tokens: str) -> bool:
    """I-2: who succeeded has run, and has no record of a failure, nor a call to send again."""
    kept = [int(pair.partition("=")[0]) for pair in (after["failures"] + " " + after["resend"]).split()]
    return all(after["states"][index] not in (WAITING, SUCCEEDED) for index in kept)


def i3_success_means_all_succeeded(before: Held | None, after: Held, tokens: str) -> bool:
    """I-3: success has fired: the batch is sealed, not cut short, and every member succeeded."""
    sealed = "sealed_at" in after and "cut_short" not in after
    all_succeeded = sealed and set(after["states"]) <= {SUCCEEDED}
    return ("success_at" in after) == all_succeeded


def i4_complete_means_all_ran(before: Held | None, after: Held, tokens: str) -> bool:
    """I-4: complete fires when the batch is sealed and every member has run; finish, when every one ended."""
    ran = "sealed_at" in after and WAITING not in after["states"]
    ended = ran and FAILING not in after["states"]
    for event, true in (("complete", ran), ("finish", ended)):
        fires_now = f"{event}_at" in after and not (before and f"{event}_at" in before)
        if (fires_now and not true) or (true and f"{event}_at" not in after):
            return False
    return True


def i6_never_before_the_seal(before: Held | None, after: Held, tokens: str) -> bool:
    """I-6: nothing that follows from the counts fires before the seal."""
    fired = any(f"{event}_at" in after for event in (*EVENTS, "progress"))
    return "sealed_at" in after or not (fired or "!" in tokens or "$" in tokens)


def i7_members_are_fixed_by_the_seal(before: Held | None, after: Held, tokens: str) -> bool:
    """I-7, I-15: nobody leaves or moves; after the seal they grow only while one of them has not ended."""
    if before is None:
        return True
    alive = WAITING in before["states"] or FAILING in before["states"]
    grew = after["members"] != before["members"]
    may_grow = "sealed_at" not in before or alive
    return after["members"].startswith(before["members"]) and (may_grow or not grew)


def i8_complete_comes_before_success(before: Held | None, after: Held, tokens: str) -> bool:
    """I-8: where success has fired, complete has; `!` comes before `$`."""
    order = "complete_at" in after or "success_at" not in after
    return order and ("$" not in tokens or -1 < tokens.find("!") < tokens.find("$"))


def i9_each_event_fires_once(before: Held | None, after: Held, tokens: str) -> bool:
    """I-9: what has fired keeps its time for ever."""
    times = {n: v for n, v in (before or {}).items() if n.endswith("_at")}
    moving = ("reported_at", "resend_at", "watch_at", "abandon_at")
    return all(after.get(name) == value for name, value in times.items() if name not in moving)


def i10_nothing_is_lost(before: Held | None, after: Held, tokens: str) -> bool:
    """I-10: each callback of what has fired is in the outbox, and what is open is on the sweeper's list."""
    entries = {pair.partition("=")[0] for pair in after["outbox"].split()}
    for event in (*EVENTS, "cancel"):
        due = {f"{event}:{n}" for n in range(number(after, f"callbacks:{event}"))}
        if f"{event}_at" in after and not due <= entries:
            return False
    over = (
        "sealed_at" in after and not ({WAITING, FAILING} & set(after["states"])) and not number(after, "open")
    )
    return after["live"] == "1" or over


def i12_tokens_tell_the_counts(before: Held | None, after: Held, tokens: str) -> bool:
    """I-12: one `+` per success, at most one `!` and `$`, and every failed member's `-` before the `!`."""
    counts = [tokens.count(token) for token in "+!$"]
    fired = [int(f"{event}_at" in after) for event in ("complete", "success")]
    failed = FAILING in after["states"] or DEAD in after["states"]
    return counts == [number(after, "succeeded"), *fired] and ("-" in tokens or not failed)


def i16_all_keys_expire_together(before: Held | None, after: Held, tokens: str) -> bool:
    """I-16: every key has a time to live, the same for all."""
    ttls = [int(ttl) for ttl in after["ttls"].split()]
    return min(ttls) > 0 and max(ttls) - min(ttls) < 1000


def i17_an_empty_batch_succeeds_at_its_seal(before: Held | None, after: Held, tokens: str) -> bool:
    """I-17: sealed without members, it is complete, finished and successful, unless it was cut short."""
    empty = "sealed_at" in after and after["states"] == ""
    events = ("complete", "finish", *(() if "cut_short" in after else ("success",)))
    return not empty or all(f"{event}_at" in after for event in events)


def i18_death_is_told_apart(before: Held | None, after: Held, tokens: str) -> bool:
    """I-18: death has fired exactly where a sealed batch has had a dead member of its own or below it."""
    return ("death_at" in after) == ("sealed_at" in after and after.get("had_death") == "1")


def i21_times_are_in_order(before: Held | None, after: Held, tokens: str) -> bool:
    """I-21: one reading is consistent: sealed, then complete, then finish, then success."""
    names = ("created_at", "sealed_at", "complete_at", "finish_at", "success_at")
    times = [int(after[name]) for name in names if name in after]
    return times == sorted(times)


INVARIANTS: tuple[Invariant, ...] = (
    i1_counted_once,
    i2_success_leaves_no_failure,
    i3_success_means_all_succeeded,
    i4_complete_means_all_ran,
    i6_never_before_the_seal,
    i7_members_are_fixed_by_the_seal,
    i8_complete_comes_before_success,
    i9_each_event_fires_once,
    i10_nothing_is_lost,
    i12_tokens_tell_the_counts,
    i16_all_keys_expire_together,
    i17_an_empty_batch_succeeds_at_its_seal,
    i18_death_is_told_apart,
    i21_times_are_in_order,
)


def broken(before: Held | None, after: Held, tokens: str) -> list[str]:
    """The invariants that do not hold."""
    return [invariant.__name__ for invariant in INVARIANTS if not invariant(before, after, tokens)]
