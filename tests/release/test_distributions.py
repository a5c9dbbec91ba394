"""What is uploaded: complete, small, the same from each build, and right on PyPI's page."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

import celery_batches_notify
from tests.release.conftest import ROOT, build

LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """Return the wheel's metadata, whose text is the README."""
    with zipfile.ZipFile(wheel) as files:
        [name] = [name for name in files.namelist() if name.endswith("/METADATA")]
        return message_from_bytes(files.read(name))


def test_two_builds_are_equal_byte_for_byte(dist: Path, tmp_path: Path) -> None:
    again = build(tmp_path)
    assert {path.name: path.read_bytes() for path in dist.iterdir()} == {
        path.name: path.read_bytes() for path in again.iterdir()
    }


def test_twine_finds_nothing_wrong(dist: Path) -> None:
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, dist.iterdir())]
    subprocess.run(command, check=True)


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        names = files.namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"celery_batches_notify"}
    package = ROOT / "celery_batches_notify"
    ours = {
        str(path.relative_to(ROOT)) for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"
    }
    assert {name for name in names if ".dist-info/" not in name} == ours
    assert not [name for name in names if "test_" in name or "conftest" in name]


def test_the_documentation_says_how_large_the_wheel_is(wheel: Path) -> None:
    page = (ROOT / "docs" / "reference" / "versions.md").read_text()
    [said] = re.findall(r"wheel has about (\d+) KB", page)
    assert abs(wheel.stat().st_size / 1000 - int(said)) <= 0.1 * int(said)


def test_the_sdist_builds_the_same_wheel_without_the_repository(
    dist: Path, wheel: Path, tmp_path: Path
) -> None:
    [sdist] = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as files:
        names = {name.partition("/")[2] for name in files.getnames()}
    assert {"README.md", "LICENSE", "CHANGELOG.md", "tests/conftest.py", "docs/index.md", "tox.ini"} <= names
    # `python -m build` has made the wheel from the sdist, in a directory of its own.
    assert wheel.name == f"{sdist.name.removesuffix('.tar.gz')}-py3-none-any.whl"


def test_the_version_stands_in_one_place(metadata: Message, wheel: Path) -> None:
    version = celery_batches_notify.__version__
    assert metadata["Version"] == version
    assert f'"{version}"' not in (ROOT / "pyproject.toml").read_text()
    found = subprocess.run(
        ["git", "grep", "-lF", version, "--", "celery_batches_notify"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert found.stdout.split() == ["celery_batches_notify/__init__.py"]


def test_every_link_of_the_page_on_pypi_leads_to_a_file_of_that_version(metadata: Message) -> None:
    links = LINK.findall(metadata.get_payload())
    [source] = [
        url.partition(", ")[2] for url in metadata.get_all("Project-URL") if url.startswith("Source, ")
    ]
    raw = source.replace("https://github.com/", "https://raw.githubusercontent.com/")
    of_repository = re.compile(f"(?:{source}/blob|{raw})/v{metadata['Version']}/([^#]+)")
    assert not [link for link in links if not link.startswith("https://")]
    files = [found[1] for link in links if (found := of_repository.match(link))]
    assert len(files) == len(
        LINK.findall(re.sub(r"\]\(https?:[^)]*\)", "", (ROOT / "README.md").read_text()))
    )
    assert not [name for name in files if not (ROOT / name).is_file()]


def test_the_metadata_names_pages_and_versions(metadata: Message) -> None:
    urls = [url.partition(",")[0] for url in metadata.get_all("Project-URL")]
    assert urls == ["Documentation", "Changelog", "Source", "Issues"]
    page = (ROOT / "docs" / "reference" / "versions.md").read_text()
    [tested] = re.findall(r"^\| Python[^|]* \| 3.11 \| ([^|]*) \|$", page, re.MULTILINE)
    pythons = [each.rpartition(" ")[2] for each in metadata.get_all("Classifier") if ":: 3." in each]
    assert pythons == tested.split(", ")
