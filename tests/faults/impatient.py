"""The service's Celery, with a Redis that hands out again what is not acknowledged within a second."""

from flywheel.config.celery import app

app.conf.broker_transport_options = {**app.conf.broker_transport_options, "visibility_timeout": 1}
