"""Versions that do not fit are refused when the app is made, before anything is miscounted."""

from __future__ import annotations

import logging
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from packaging.requirements import Requirement
from packaging.version import Version

from celery_batches_notify import Batches, ConfigurationError, versions
from celery_batches_notify.versions import (
    INTERNALS,
    INTERNALS_OF_WORKERS,
    SUPPORTED,
    check_internals,
    check_version,
    check_versions,
    check_versions_of_worker,
)

ROOT = Path(__file__).parents[1]
EACH = [(place, name) for place, names, _ in (*INTERNALS, *INTERNALS_OF_WORKERS) for name in names.split()]


@pytest.fixture(autouse=True)
def _unchecked() -> None:
    """Let every test check anew, and later ones too."""
    check_versions.cache_clear()
    check_versions_of_worker.cache_clear()


def test_the_installed_versions_fit(caplog: pytest.LogCaptureFixture) -> None:
    check_versions()
    check_versions_of_worker()
    assert not caplog.records


@pytest.mark.parametrize(("place", "name"), EACH)
def test_a_version_without_one_of_its_internals_does_not_fit(
    place: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, what = place.partition(":")
    monkeypatch.setattr(import_module(module), what, _Without(getattr(import_module(module), what), name))
    package = module.partition(".")[0]
    with pytest.raises(ConfigurationError, match=f"^{package} .* does not fit .*pip install .{package}>="):
        check_internals([*INTERNALS, *INTERNALS_OF_WORKERS])


class _Without:
    """Stands for an object of another version, which lacks an attribute."""

    def __init__(self, real: Any, lacks: str) -> None:
        self._real, self._lacks = real, lacks

    def __getattr__(self, name: str) -> Any:
        if name == self._lacks:
            raise AttributeError(name)
        return getattr(self._real, name)


def test_a_version_without_one_of_its_modules_does_not_fit() -> None:
    with pytest.raises(ConfigurationError, match=r"^celery .* needs celery\.gone\.AMQP to send"):
        check_internals([("celery.gone:AMQP", "send", "to send")])


def test_batches_refuses_an_app_before_it_changes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Celery("tests", broker="memory://", set_as_current=False)
    own = app.amqp.send_task_message
    monkeypatch.setattr(versions, "INTERNALS", [("celery.app.amqp:AMQP", "gone", "to send task messages")])
    with pytest.raises(ConfigurationError, match=r"needs celery\.app\.amqp\.AMQP to send task messages"):
        Batches(app)
    assert app.amqp.send_task_message is own


@pytest.mark.parametrize(
    ("package", "installed"), [("celery", "5.4.0"), ("celery", "5.5.2"), ("kombu", "5.4"), ("redis", "5.1.1")]
)
def test_a_version_that_is_too_old_is_an_error_that_names_the_install(package: str, installed: str) -> None:
    with pytest.raises(ConfigurationError, match=f'{installed} is too old .*: pip install "{package}>='):
        check_version(package, installed)


@pytest.mark.parametrize(
    ("package", "installed"), [("celery", "5.8.0rc1"), ("kombu", "6.0"), ("redis", "99")]
)
def test_a_version_that_was_not_tested_is_a_warning(
    package: str, installed: str, caplog: pytest.LogCaptureFixture
) -> None:
    check_version(package, installed)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{package} {installed} was not tested" in record.getMessage()


@pytest.mark.parametrize("supported", SUPPORTED.values(), ids=str)
def test_the_first_and_the_last_version_pass_silently(
    supported: versions.Supported, caplog: pytest.LogCaptureFixture
) -> None:
    check_version(supported.package, supported.first)
    check_version(supported.package, f"{supported.tested}.99")
    assert not caplog.records


def test_the_versions_are_checked_once_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(versions, "check_version", lambda package, _: asked.append(package))
    for _ in range(2):
        Batches(Celery("tests", broker="memory://", set_as_current=False))
    assert asked == list(SUPPORTED)


def test_pip_installs_no_version_that_is_refused() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [Requirement(each) for each in project["dependencies"]]
    for supported in SUPPORTED.values():
        [requirement] = [each for each in declared if each.name == supported.package]
        assert requirement.specifier.contains(supported.first)
        assert [str(each) for each in requirement.specifier] == [f">={supported.first}"]


def test_every_requirement_is_a_version() -> None:
    for supported in SUPPORTED.values():
        assert Version(supported.first) <= Version(supported.tested)
        assert Requirement(supported.requirement).specifier.contains(f"{supported.tested}.9")
