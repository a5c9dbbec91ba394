"""One Django for all tests of a process, because Django can be configured only once."""

from __future__ import annotations

import django
from django.conf import settings

urlpatterns: list[object] = []


def set_up_django() -> None:
    """Configure Django with a database in memory and no pages, unless a test before did."""
    if settings.configured:
        return
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        ROOT_URLCONF=__name__,
        SECRET_KEY="x" * 50,
    )
    django.setup()
