"""Code uses batches from any context: each call is a member of the right batch only, and leaves once."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.use.use_machine import Machine
from tests.use.use_watch import Around

EXAMPLES, STEPS = int(os.environ.get("BATCHES_TESTS_USE_EXAMPLES", "150")), 30


@pytest.mark.timeout(36_000)
def test_a_call_is_a_member_of_exactly_the_batch_whose_open_block_it_was_made_in(
    surroundings: Around,
) -> None:
    machine = type("Machine", (Machine,), {"surroundings": surroundings})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=STEPS, print_blob=True, report_multiple_bugs=False
        ),
    )
