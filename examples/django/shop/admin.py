"""The list of imports in the admin, each with its progress and a link to its batch."""

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html

from shop.models import Import


@admin.register(Import)
class ImportAdmin(admin.ModelAdmin):
    """Imports can be looked at."""

    list_display = ("pk", "rows", "progress", "batch")

    @admin.display
    def batch(self, started: Import) -> str:
        """Link to the batch's page."""
        return format_html('<a href="{}{}">{}</a>', reverse("batches"), started.bid, started.bid)
