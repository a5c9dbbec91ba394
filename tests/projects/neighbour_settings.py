"""Django's settings for the tests with django-celery-results and django-celery-beat."""

from __future__ import annotations

import os

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("BATCHES_TEST_DATABASE"),
        "OPTIONS": {"timeout": 60},
    }
}
INSTALLED_APPS = ["django.contrib.contenttypes", "django_celery_beat", "django_celery_results"]
SECRET_KEY = "tests"
USE_TZ = True
