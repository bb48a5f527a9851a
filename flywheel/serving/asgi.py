"""`uvicorn flywheel.serving.asgi:application`: the model-serving process."""

import os

os.environ["DJANGO_SETTINGS_MODULE"] = "flywheel.config.serving"

from django.core.asgi import get_asgi_application

application = get_asgi_application()
