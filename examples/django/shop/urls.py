"""A form that starts an import, a list that shows how the imports go, the admin, and the status page."""

from django import forms
from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template import Context, Engine
from django.template.context_processors import csrf
from django.urls import path, re_path
from django.views.decorators.http import require_GET, require_POST

from celery_batches_notify import Batch
from shop import batches
from shop.models import Import, Row
from shop.tasks import import_row

PAGE = """<!doctype html><meta charset=utf-8><title>Imports</title>
<form method=post action=/imports><input type=hidden name=csrfmiddlewaretoken value="{{ csrf_token }}">
{{ form }} <button>Import</button></form>
{% for each in imports %}<p>Import {{ each.pk }}: {{ each.progress }}
{% endfor %}
<p><a href="{% url 'batches' %}">All batches</a>, <a href="{% url 'admin:index' %}">the admin</a>"""


class ImportForm(forms.Form):
    """How many rows to import."""

    rows = forms.IntegerField(min_value=1, max_value=10_000, initial=100)


@require_GET
def show(request: HttpRequest) -> HttpResponse:
    """Show the form and the last imports."""
    imports = Import.objects.order_by("-pk")[:10]
    context = Context({"form": ImportForm(), "imports": imports, **csrf(request)})
    return HttpResponse(Engine().from_string(PAGE).render(context))


@require_POST
def start(request: HttpRequest) -> HttpResponse:
    """Save the rows and start their import, which leaves when the request's transaction commits."""
    form = ImportForm(request.POST)
    if not form.is_valid():
        return HttpResponse(form.errors.as_text(), status=400, content_type="text/plain")
    rows = form.cleaned_data["rows"]
    batch = Batch(f"Import {rows} rows", on_commit=transaction.on_commit)
    started = Import.objects.create(rows=rows, bid=batch.bid)
    saved = Row.objects.bulk_create(Row(of=started, number=number) for number in range(rows))
    batch.map(import_row, [row.pk for row in saved])
    if "fail" in request.POST:
        raise RuntimeError("the request fails after all: no rows, and no batch")
    return redirect("/")


urlpatterns = [
    path("", show),
    path("imports", start),
    path("admin/batches/", batches.show, name="batches"),
    re_path("^admin/batches/.", batches.show),
    path("admin/", admin.site.urls),
]
