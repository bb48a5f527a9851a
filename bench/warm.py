"""The service's WSGI application, its views loaded before the web processes part: a new one is ready at once."""

from django.urls import get_resolver

from flywheel.config.wsgi import application

__all__ = ["application"]

for pattern in get_resolver().url_patterns:
    getattr(pattern, "url_patterns", None)
