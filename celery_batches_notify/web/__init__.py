"""The status page of batches: an ASGI or WSGI application to mount beside your own. Needs the extra `web`."""

try:
    from celery_batches_notify.web.access import GRANTS, Access, basic_auth
    from celery_batches_notify.web.application import status_page
    from celery_batches_notify.web.progress_events import progress_events
    from celery_batches_notify.web.wsgi import wsgi_status_page
except ModuleNotFoundError as exc:
    package = (exc.name or "").partition(".")[0]
    if package == "celery_batches_notify":
        raise
    words = f"the page needs {package}: pip install 'celery-batches-notify[web]'"
    raise ImportError(words, name=exc.name) from exc

__all__ = ["GRANTS", "Access", "basic_auth", "progress_events", "status_page", "wsgi_status_page"]
