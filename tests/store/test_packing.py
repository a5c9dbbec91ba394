"""Ids are packed into 16 bytes each; those that these bytes cannot give back are named."""

from __future__ import annotations

from uuid import UUID

import pytest

from celery_batches_notify.store.packing import pack_id, pack_ids

OURS = [str(UUID(int=0x0AF << 100 | number, version=4)) for number in range(5)]
NO_UUIDS = [
    "",
    "mine",
    "é" * 36,
    "x" * 36,
    OURS[0].upper(),
    OURS[0].replace("-", ""),
    OURS[0][:-1],
    OURS[0] + "0",
    "-" * 36,
    OURS[0].replace("-", "_"),
    OURS[0][1:] + "-",
    " " * 4 + OURS[0][4:],
    "\ud800" + OURS[0][1:],
]


def test_uuids_are_packed_as_their_bytes_and_not_named() -> None:
    assert pack_ids(OURS) == (b"".join(map(pack_id, OURS)), [])
    assert pack_ids([]) == (b"", [])


@pytest.mark.parametrize("other", NO_UUIDS, ids=range(len(NO_UUIDS)))
def test_other_ids_are_packed_as_their_hash_and_named(other: str) -> None:
    ids = [*OURS[:2], other, *OURS[2:]]
    assert pack_ids(ids) == (b"".join(map(pack_id, ids)), [(2, other)])


def test_ids_that_look_like_uuids_only_together_are_named_one_by_one() -> None:
    split = [OURS[0][:20], OURS[0][20:] + OURS[1]]
    assert pack_ids(split)[1] == [(0, split[0]), (1, split[1])]
