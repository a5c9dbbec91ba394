"""The settings: a database in a file, each request in a transaction."""

import os
from pathlib import Path

url = os.environ.get("BATCHES_EXAMPLE_URL", "redis://localhost:6379/0")
SECRET_KEY = "for this example only"  # noqa: S105
DEBUG = True
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = ["django.contrib.contenttypes", "shop"]
MIDDLEWARE = ["django.middleware.csrf.CsrfViewMiddleware"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": Path(os.environ.get("BATCHES_EXAMPLE_DIRECTORY", "."), "imports.sqlite3"),
        "ATOMIC_REQUESTS": True,
        "OPTIONS": {"timeout": 20},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

CELERY_BROKER_URL = url
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BATCHES_BACKEND_URL = url
