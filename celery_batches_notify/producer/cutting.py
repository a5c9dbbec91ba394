"""Cutting what Celery and its broker's client write where one message differs from another. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import AnyStr


def cut(whole: AnyStr, places: Sequence[AnyStr]) -> tuple[list[AnyStr], list[int]]:
    """Cut a message at each occurrence of these places.

    Returns:
        The parts that all messages share, and the number of the place between each two of them.

    Raises:
        ValueError: Some place is missing.
    """
    shared: list[AnyStr] = []
    order: list[int] = []
    while found := [(at, number) for number, place in enumerate(places) if (at := whole.find(place)) >= 0]:
        at, number = min(found)
        shared.append(whole[:at])
        order.append(number)
        whole = whole[at + len(places[number]) :]
    if set(order) != set(range(len(places))):
        raise ValueError("a part is missing")
    shared.append(whole)
    return shared, order
