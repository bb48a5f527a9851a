from django.urls import path

from flywheel.serving import views

urlpatterns = [
    path("v2/health/live", views.live),
    path("v2/health/ready", views.ready),
    path("v1/<int:project_id>/predict", views.predict),
]
