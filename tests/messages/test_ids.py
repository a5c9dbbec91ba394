"""Ids that are made together are random UUIDs, each for itself."""

from __future__ import annotations

from uuid import RFC_4122, UUID

import pytest

from celery_batches_notify.messages.ids import new_ids


@pytest.mark.parametrize("number", [0, 1, 2, 3, 1000])
def test_ids_made_together_are_random_uuids_as_uuid4_writes_them(number: int) -> None:
    ids = new_ids(number)
    assert len(set(ids)) == number
    for task_id in ids:
        uuid = UUID(task_id)
        assert (str(uuid), uuid.version, uuid.variant) == (task_id, 4, RFC_4122)


def test_every_bit_that_is_not_fixed_varies() -> None:
    numbers = [UUID(task_id).int for task_id in new_ids(200)]
    ever, always = 0, -1
    for number in numbers:
        ever |= number
        always &= number
    fixed = 0xF << 76 | 0x3 << 62
    assert ever ^ always == (1 << 128) - 1 - fixed
