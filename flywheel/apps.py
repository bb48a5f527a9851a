from django.apps import AppConfig


class FlywheelConfig(AppConfig):
    name = "flywheel"
    default_auto_field = "django.db.models.BigAutoField"
