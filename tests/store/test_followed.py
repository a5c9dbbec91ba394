"""When a followed batch is read, and whom a reading reaches: decided without I/O, at the test's own times."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from celery_batches_notify import CorruptBatch, NoSuchBatch, Progress, StoreUnavailable
from celery_batches_notify.store import followed as module
from celery_batches_notify.store.followed import Followed
from celery_batches_notify.store.followers import LoopFollower, ThreadFollower
from celery_batches_notify.store.parsing import Reading

BID = "a" * 22
AWAY = StoreUnavailable("away")


def reading(bid: str = BID, succeeded: int = 0) -> Reading:
    counts = {"total": 9, "pending": 9 - succeeded, "succeeded": succeeded, "failures": 0, "dead": 0}
    progress = Progress(bid=bid, state="running", finished=False, **counts)
    return Reading(progress=progress, fired=frozenset())


def followed_by(*followers: ThreadFollower, now: float = 0.0) -> Followed:
    """Batches that are followed and have been read once."""
    followed = Followed()
    for follower in followers:
        followed.add(follower, now)
    followed.stir_unread()
    while page := followed.next_page(now):
        followed.hand_out({bid: reading(bid) for bid in page}, now)
    return followed


def test_a_batch_is_first_read_when_its_subscription_stands() -> None:
    followed = Followed()
    followed.add(ThreadFollower(BID), 0.0)
    assert followed.take_changes() == ({BID}, set())
    assert followed.next_page(0.0) == []
    followed.stir([BID])
    assert followed.next_page(0.0) == [BID]


def test_a_batch_is_read_after_five_seconds_without_a_token() -> None:
    followed = followed_by(ThreadFollower(BID))
    assert followed.next_at == 5.0
    assert followed.next_page(4.9) == []
    assert followed.next_page(5.0) == [BID]


def test_a_batch_whose_subscription_never_stands_is_read_after_five_seconds() -> None:
    followed = Followed()
    followed.add(ThreadFollower(BID), 0.0)
    assert (followed.next_at, followed.next_page(5.0)) == (5.0, [BID])


def test_tokens_that_come_at_once_give_one_reading() -> None:
    followed = followed_by(ThreadFollower(BID))
    followed.hand_out({BID: reading(succeeded=1)}, 1.0)
    for _ in range(100):
        followed.stir([BID])
    assert followed.next_page(1.0) == []
    assert followed.next_at == pytest.approx(1.05)
    assert followed.next_page(1.06) == [BID]


def test_each_batch_has_its_turn_before_any_has_a_second_one() -> None:
    followers = [ThreadFollower(f"{n:022d}") for n in range(1000)]
    followed, read, now = followed_by(*followers), Counter(), 1.0
    for round_ in range(1, 6):
        for _ in range(1000 // module.PAGE):
            followed.stir(follower.bid for follower in followers)
            page = followed.next_page(now)
            assert len(page) == module.PAGE
            followed.hand_out({bid: reading(bid, round_) for bid in page}, now)
            read.update(page)
            now = followed.next_at
        assert set(read.values()) == {round_} and len(read) == 1000


def test_rereadings_of_a_thousand_idle_batches_are_spread() -> None:
    followed, at = followed_by(*(ThreadFollower(f"{n:022d}") for n in range(1000))), {}
    while len(at) < 1000:
        now = followed.next_at
        page = followed.next_page(now)
        assert 0 < len(page) <= module.PAGE
        followed.hand_out({bid: reading(bid) for bid in page}, now)
        at |= dict.fromkeys(page, now)
    assert len(set(at.values())) == 1000 // module.PAGE
    assert 5.0 <= min(at.values()) < max(at.values()) < 6.0


def test_a_new_follower_is_not_held_up_by_busy_batches() -> None:
    followed = followed_by(*(ThreadFollower(f"{n:022d}") for n in range(300)))
    followed.hand_out({f"{n:022d}": reading(f"{n:022d}", 1) for n in range(200)}, 1.0)
    followed.stir(f"{n:022d}" for n in range(300))
    assert followed.is_paced
    followed.add(ThreadFollower(BID), 1.0)
    assert not followed.is_paced
    followed.stir([BID])
    assert followed.next_page(1.0) == [BID]


def test_new_followers_without_end_do_not_hold_up_busy_batches() -> None:
    followed, now = followed_by(ThreadFollower(BID)), 1.0
    followed.hand_out({BID: reading(succeeded=1)}, now)
    followed.stir([BID])
    for n in range(20):
        now += 0.01
        followed.add(ThreadFollower(f"{n:022d}"), now)
        followed.stir_unread()
        page = followed.next_page(now)
        followed.hand_out({bid: reading(bid, 2) for bid in page}, now)
        if BID in page:
            return
    pytest.fail("it was never read")


def test_the_more_followers_a_reading_wakes_the_longer_is_the_pause() -> None:
    followed = followed_by(*(ThreadFollower(BID) for _ in range(1000)))
    assert len(followed.hand_out({BID: reading(succeeded=1)}, 1.0)) == 1000
    followed.stir([BID])
    assert followed.next_at == pytest.approx(1.2)


def test_a_reading_that_shows_nothing_new_wakes_nobody() -> None:
    follower = ThreadFollower(BID)
    followed = followed_by(follower)
    assert followed.hand_out({BID: reading()}, 5.0) == []
    late = ThreadFollower(BID)
    followed.add(late, 5.0)
    assert followed.hand_out({BID: reading()}, 6.0) == [late]


def test_a_slow_follower_finds_the_latest_reading_only() -> None:
    follower = ThreadFollower(BID)
    followed = followed_by(follower)
    for succeeded in range(1, 4):
        followed.hand_out({BID: reading(succeeded=succeeded)}, 1.0)
    follower.wake()
    assert follower.wait(0) == reading(succeeded=3)
    assert follower.wait(0) is None


def test_a_follower_outlives_a_short_absence_of_the_store_and_no_long_one() -> None:
    follower, late = ThreadFollower(BID), ThreadFollower(BID)
    followed = followed_by(follower)
    assert followed.hand_out({BID: AWAY}, 29.9) == []
    followed.add(late, 29.9)
    assert followed.hand_out({BID: AWAY}, 29.9) == [late], "who has no reading yet learns of it at once"
    assert followed.bids
    assert followed.hand_out({BID: AWAY}, 30.0) == [follower]
    assert follower.latest is AWAY and not followed.bids


def test_an_absence_is_counted_from_the_last_good_reading() -> None:
    follower = ThreadFollower(BID)
    followed = followed_by(follower)
    followed.hand_out({BID: AWAY}, 20.0)
    followed.hand_out({BID: reading()}, 25.0)
    assert followed.hand_out({BID: AWAY}, 50.0) == []
    assert followed.hand_out({BID: AWAY}, 55.0) == [follower]


@pytest.mark.parametrize("error", [NoSuchBatch("gone"), CorruptBatch("broken")])
def test_an_error_of_one_batch_ends_its_followers_alone(error: Exception) -> None:
    follower, other = ThreadFollower(BID), ThreadFollower("b" * 22)
    followed = followed_by(follower, other)
    followed.take_changes()
    assert followed.hand_out({BID: error}, 1.0) == [follower]
    assert follower.latest is error and isinstance(other.latest, Reading)
    assert followed.take_changes() == (set(), {BID})
    assert list(followed.bids) == [other.bid]


def test_a_batch_that_left_and_came_back_is_subscribed_to_anew() -> None:
    follower = ThreadFollower(BID)
    followed = followed_by(follower)
    followed.take_changes()
    followed.remove(follower)
    followed.add(ThreadFollower(BID), 1.0)
    assert followed.take_changes() == ({BID}, {BID})
    assert followed.next_page(1.0) == []


def test_a_batch_that_came_and_left_is_not_subscribed_to() -> None:
    followed, follower = Followed(), ThreadFollower(BID)
    followed.add(follower, 0.0)
    followed.remove(follower)
    followed.remove(follower)
    new, _ = followed.take_changes()
    assert not new and not followed.bids


def test_the_followers_of_an_event_loop_that_has_ended_are_forgotten() -> None:
    async def make() -> LoopFollower:
        return LoopFollower(BID)

    follower = asyncio.run(make())
    followed = Followed()
    followed.add(follower, 0.0)
    assert followed.hand_out({BID: reading()}, 0.0) == []
    assert not followed.bids
