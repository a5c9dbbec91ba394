"""The failpoints themselves: each is where it says, strikes when it should, and a wrong name is an error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from failpoints import POINTS, Trigger, find, parse
from servers import TESTS


def hits(trigger: Trigger, times: int) -> list[int]:
    return [n for n in range(1, times + 1) if trigger.strikes()]


@pytest.mark.parametrize("name", POINTS)
def test_every_point_is_at_a_method(name: str) -> None:
    owner, method = find(POINTS[name].target)
    assert callable(getattr(owner, method))


@pytest.mark.parametrize("wrong", ["P9", "P1#0", "P1:2", "P1:0", "P1@3", "p1", "W3-maim"])
def test_a_wrong_name_is_an_error(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"failpoint|probability"):
        parse(wrong)


def test_a_point_strikes_at_its_first_hit_or_at_the_one_that_is_named() -> None:
    assert hits(parse("P1"), 5) == [1]
    assert hits(parse("P4#3"), 5) == [3]


def test_a_seed_draws_the_same_again_and_another_one_something_else() -> None:
    assert hits(parse("W2:0.1@7"), 200) == hits(parse("W2:0.1@7"), 200) != hits(parse("W2:0.1@8"), 200)
    assert 5 < len(hits(parse("W2:0.1@7"), 200)) < 50


def test_the_children_of_a_pool_draw_for_themselves_and_the_same_in_the_next_run(tmp_path: Path) -> None:
    code = f"""
import os, sys
sys.path[:0] = [{str(TESTS)!r}, {str(TESTS.parent)!r}]
from failpoints import parse
trigger = parse("W2:0.5@7")
for _ in range(3):
    if (pid := os.fork()) == 0:
        os.write(1, "".join("01"[trigger.strikes()] for _ in range(40)).encode() + b"\\n")
        os._exit(0)
    os.waitpid(pid, 0)
"""
    first, second = (subprocess.check_output([sys.executable, "-c", code], text=True) for _ in range(2))
    assert first == second
    assert len(set(first.split())) == 3


def test_a_strike_kills_at_once_and_is_logged_before(tmp_path: Path) -> None:
    log = tmp_path / "strikes"
    environment = {
        "PYTHONPATH": f"{TESTS.parent}:{TESTS}",
        "BATCHES_TEST_FAILPOINTS": "P5",
        "BATCHES_TEST_FAILPOINTS_LOG": str(log),
    }
    code = "import failpoints; from celery_batches_notify.store.store import Store\n"
    code += "failpoints.arm(); Store.seal_batch(None, 'x')"
    died = subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment}, check=False)
    assert died.returncode == -signal.SIGKILL
    assert log.read_text().split()[-1] == "P5"
