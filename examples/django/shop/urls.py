"""A form that starts an import, and a list that shows how the imports go."""

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template import Context, Engine
from django.template.context_processors import csrf
from django.urls import path
from django.views.decorators.http import require_GET, require_POST

from celery_batches_notify import Batch
from shop.models import Import, Row
from shop.tasks import import_row

PAGE = """<!doctype html><meta charset=utf-8><title>Imports</title>
<form method=post action=/imports><input type=hidden name=csrfmiddlewaretoken value="{{ csrf_token }}">
<input name=rows type=number value=100> <button>Import</button></form>
{% for each in imports %}{% with each.status as status %}
<p>Import {{ each.pk }} <progress value="{{ status.progress|stringformat:'f' }}"></progress>
{{ status.state }}: {{ status.succeeded }} of {{ status.total }}, {{ status.dead }} failed
{% endwith %}{% endfor %}"""


@require_GET
def show(request: HttpRequest) -> HttpResponse:
    """Show the form and the last imports."""
    imports = Import.objects.order_by("-pk")[:10]
    page = Engine().from_string(PAGE).render(Context({"imports": imports, **csrf(request)}))
    return HttpResponse(page)


@require_POST
def start(request: HttpRequest) -> HttpResponse:
    """Save the rows and start their import, which leaves when the request's transaction commits."""
    rows = min(int(request.POST["rows"]), 10_000)
    batch = Batch(f"Import {rows} rows", on_commit=transaction.on_commit)
    started = Import.objects.create(rows=rows, bid=batch.bid)
    saved = Row.objects.bulk_create(Row(of=started, number=number) for number in range(rows))
    batch.map(import_row, [row.pk for row in saved])
    if "fail" in request.POST:
        raise RuntimeError("the request fails after all: no rows, and no batch")
    return redirect("/")


urlpatterns = [path("", show), path("imports", start)]
