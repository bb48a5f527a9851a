"""Settings of the serving process: the same service, its own few URLs, tokens instead of sessions."""

from flywheel.config.settings import *  # noqa: F403

ROOT_URLCONF = "flywheel.serving.urls"
DATABASES["default"]["CONN_MAX_AGE"] = 0  # noqa: F405  (threads come and go here, their connections with them)
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware"]
