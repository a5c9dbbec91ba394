"""The page on the guarantees names tests that exist, and those under fire where they are."""

from __future__ import annotations

import re

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
