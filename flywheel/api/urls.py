from django.urls import path

from flywheel.api import views

urlpatterns = [
    path("api/v1/projects/<int:project_id>/rounds", views.round_list),
    path("api/v1/projects/<int:project_id>/rounds/start", views.round_start),
    path("api/v1/rounds/<int:round_id>/cancel", views.round_cancel),
    path("api/v1/projects/<int:project_id>/models", views.model_list),
    path("api/v1/models/<int:model_id>/promote", views.model_promote),
    path("api/v1/projects/<int:project_id>/roll-back", views.roll_back),
    path("api/v1/projects/<int:project_id>/curve", views.curve),
    path("projects/<int:project_id>/rounds/", views.rounds_page, name="rounds"),
]
