"""A shop that imports rows; its Celery app is loaded with it, so that `shared_task` finds it."""

from shop.celery import app

__all__ = ["app"]
