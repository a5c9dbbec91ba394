from __future__ import annotations

import pytest
from celery import Celery

from celery_batches_notify.store.store import Store


def nothing() -> None:
    """Do nothing."""


@pytest.fixture
def app(app: Celery) -> Celery:
    app.task(nothing, name="proj.ok", shared=False)
    return app


@pytest.fixture
def store(app: Celery) -> Store:
    return app._batches_extension.engine.store
