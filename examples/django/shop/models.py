"""An import carries the id of its batch, and so shows its progress."""

from django.db import models

from celery_batches_notify import Batch, BatchStatus, NoSuchBatch


class Import(models.Model):
    """One import of rows."""

    rows = models.IntegerField()
    bid = models.CharField(max_length=64)

    def status(self) -> BatchStatus | None:
        """Read how the batch goes; None once it has expired."""
        try:
            return Batch.get(self.bid).status()
        except NoSuchBatch:
            return None

    def progress(self) -> str:
        """Say how the batch goes."""
        if status := self.status():
            return f"{status.state}: {status.succeeded} of {status.total}, {status.dead} failed"
        return "expired"


class Row(models.Model):
    """One row, which its task marks as done."""

    of = models.ForeignKey(Import, on_delete=models.CASCADE)
    number = models.IntegerField()
    is_done = models.BooleanField(default=False)
