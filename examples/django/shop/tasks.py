"""The task; it finds its row, because the batch leaves after the commit."""

from celery import shared_task

from shop.models import Row


@shared_task
def import_row(key: int) -> None:
    """Pretend to import a row; every 40th is broken."""
    row = Row.objects.get(pk=key)
    if row.number % 40 == 39:
        raise ValueError(f"row {row.number} is broken")
    Row.objects.filter(pk=key).update(is_done=True)
