"""The page on the guarantees names tests that exist, and those under fire where they are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, read_page

PAGE = "explanation/guarantees.md"
NAMED = sorted(set(re.findall(r"(⚡ )?`(test_\w+)`", read_page(PAGE))))


def find_tests(where: str) -> set[str]:
    """The names of all test functions below a directory of the tests."""
    files = (ROOT / "tests" / where).rglob("test_*.py")
    texts = [file.read_text("utf-8") for file in files]
    return {name for text in texts for name in re.findall(r"^def (test_\w+)\(", text, re.MULTILINE)}


@pytest.mark.parametrize(("under_fire", "name"), NAMED, ids=[name for _, name in NAMED])
def test_a_test_that_the_page_names_exists(under_fire: str, name: str) -> None:
    assert (name in find_tests("chaos")) == bool(under_fire)
    assert name in find_tests("")


def test_every_scenario_under_fire_is_on_the_page() -> None:
    assert find_tests("chaos") <= {name for _, name in NAMED}


@pytest.mark.timeout(600)  # it collects the whole suite
def test_pytest_finds_each_test_that_the_page_names_by_its_name() -> None:
    names = {name for _, name in NAMED}
    pytest_itself = Path(sys.executable).with_name("pytest")
    command = [pytest_itself, "--collect-only", "-q", "-p", "no:cacheprovider", "-k", " or ".join(names)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = set(re.findall(r"::(test_\w+)", done.stdout))
    assert names <= found, done.stdout[-2000:]


def test_the_name_of_a_test_has_at_most_80_characters() -> None:
    assert not [name for name in find_tests("") if len(name) > 80]
