"""The status page as a view of Django, behind the admin's login."""

from io import BytesIO

from django.contrib.admin.views.decorators import staff_member_required
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt

from celery_batches_notify.web import GRANTS, Access, wsgi_status_page


def decide(request):
    """Let superusers act, and the rest of the staff read."""
    user = request.scope["wsgi.environ"]["django.user"]
    return Access(user=user.get_username(), grants=frozenset(GRANTS if user.is_superuser else ["read"]))


page = wsgi_status_page(access=decide)


@csrf_exempt  # the page's forms carry a token of its own
@staff_member_required
def show(request: HttpRequest) -> HttpResponse:
    """Answer with the page, or send users who have not logged in to the admin's login."""
    prefix = reverse("batches").removesuffix("/")
    environ = {
        **request.META,
        "SCRIPT_NAME": prefix,
        "PATH_INFO": request.path.removeprefix(prefix).encode().decode("latin-1"),
        "wsgi.input": BytesIO(request.body),
        "django.user": request.user,
    }
    answer = HttpResponse()

    def start_response(status: str, headers: list[tuple[str, str]]) -> None:
        answer.status_code = int(status[:3])
        answer.headers = dict(headers)

    answer.content = b"".join(page(environ, start_response))
    return answer
