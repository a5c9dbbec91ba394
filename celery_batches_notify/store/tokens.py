"""The tokens of batches as the channel carries them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from celery_batches_notify.store.errors import store_errors
from celery_batches_notify.store.keys import channel
from celery_batches_notify.store.store import Store

TOKENS = frozenset("+-!$")


def hear_tokens(store: Store, bids: Sequence[str], seconds: float) -> Iterator[tuple[str, str] | None]:
    """Yield bid and token of each token of these batches, or of all if none is named, as they arrive.

    Whatever else is sent on a channel is left out. The first value is None: the subscription stands.

    Args:
        store: The batches' store.
        bids: The batches.
        seconds: Yield None if no token came for so long.

    Raises:
        StoreUnavailable: The store is away.
    """
    client: Any = store.client
    with store_errors(store.settings), closing(client.pubsub()) as pubsub:
        if bids:
            pubsub.subscribe(*map(channel, bids))
        else:
            pubsub.psubscribe(channel("*"))
        unconfirmed = len(bids) or 1
        while True:
            message = pubsub.get_message(timeout=seconds)
            if message is None:
                yield None
            elif message["type"] in ("subscribe", "psubscribe"):  # one for each channel
                unconfirmed -= 1
                if not unconfirmed:  # safety: all-subscribed
                    yield None
            elif (token := _text(message["data"])) in TOKENS:
                yield _text(message["channel"]).removeprefix(channel("")), token


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
