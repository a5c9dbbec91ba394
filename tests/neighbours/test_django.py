"""Batches beside django-celery-results and django-celery-beat."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from celery_batches_notify import Batch
from tests.support.neighbours import Beside, beside, migrate
from tests.support.servers import wait_until

pytestmark = pytest.mark.timeout(180)

PACKAGES = "django django_celery_results django_celery_beat"
READ_RESULTS = """
import json, django
django.setup()
from django_celery_results.models import TaskResult
print(json.dumps(list(TaskResult.objects.values_list("task_id", "status"))))
"""
START_EVERY_SECOND = """
import django
django.setup()
from django_celery_beat.models import IntervalSchedule, PeriodicTask
every, _ = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.SECONDS)
PeriodicTask.objects.create(name="start", task="start", interval=every)
"""


@pytest.fixture(scope="module")
def django(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.projects.neighbour_settings",
        "BATCHES_TEST_DATABASE": str(tmp_path_factory.mktemp("django") / "db.sqlite3"),
    }
    migrate(PACKAGES, environment)
    schedule = ("-B", "--scheduler", "django_celery_beat.schedulers:DatabaseScheduler")
    with beside(server_url, "django", *schedule, needs=PACKAGES, **environment) as batches:
        yield batches


def test_each_members_and_callbacks_result_is_a_row(django: Beside) -> None:
    django.produce()
    django.check_counts()
    succeeded = {run["id"]: "SUCCESS" for run in django.runs() if run["task"] != "fail"}
    failed = {run["id"]: "FAILURE" for run in django.runs() if run["task"] == "fail"}

    def rows() -> dict[str, str]:
        return dict(json.loads(django.run("-c", READ_RESULTS)))

    wait_until(lambda: rows() == succeeded | failed, what="all rows")  # a report comes before its row


def test_a_periodic_task_of_the_database_starts_batches(django: Beside) -> None:
    django.run("-c", START_EVERY_SECOND)
    wait_until(lambda: django.kept("callbacks").count(["by beat", "success"]) >= 2, seconds=60)
    with django.app() as app:
        found = [batch.status() for batch in Batch.all(app=app) if batch.description == "by beat"]
    assert {(each.total, each.succeeded) for each in found if each.success_at} == {(3, 3)}
