"""The table of mutants fits the code as it is; `tox -e mutants` runs them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.mutants.mutant_table import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.safety)
def test_a_mutant_still_applies_and_its_test_exists(mutant: Mutant) -> None:
    assert (ROOT / "celery_batches_notify" / mutant.file).read_text("utf-8").count(mutant.old) == 1
    path, _, name = mutant.killer.partition("::")
    assert re.search(rf"^def {name}\(", (ROOT / path).read_text("utf-8"), re.MULTILINE)


def test_no_safety_is_named_twice() -> None:
    assert len({mutant.safety for mutant in MUTANTS}) == len(MUTANTS)
