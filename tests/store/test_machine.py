"""Everything that can be done to batches, in any order: the store does what the model does."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.store.compared import Surroundings
from tests.store.machine import Machine

EXAMPLES = 4000 if os.environ.get("BATCHES_CHAOS_SCALE") == "full" else 1000
STEPS = 60


@pytest.mark.timeout(3600)
def test_whatever_is_done_to_batches_the_store_does_what_the_model_does(around: Surroundings) -> None:
    machine = type("Machine", (Machine,), {"around": around})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
