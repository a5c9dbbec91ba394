"""The status page of batches: an ASGI or WSGI application to mount beside your own. Needs the extra `web`."""

try:
    from celery_batches_notify.web.access import GRANTS, Access, basic_auth
    from celery_batches_notify.web.application import status_page
    from celery_batches_notify.web.progress_events import progress_events
    from celery_batches_notify.web.wsgi import wsgi_status_page
except ModuleNotFoundError as exc:
    if (exc.name or "").startswith(__name__.partition(".")[0]):
        raise
    raise ImportError(
        f"the page needs {exc.name}: pip install 'celery-batches-notify[web]'", name=exc.name
    ) from exc

__all__ = ["GRANTS", "Access", "basic_auth", "progress_events", "status_page", "wsgi_status_page"]
