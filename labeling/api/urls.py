from django.urls import path

from labeling.api import views

urlpatterns = [
    path("me", views.me),
    path("tokens", views.tokens),
    path("tokens/<int:token_id>", views.token),
    path("projects", views.project_list),
    path("projects/<int:project_id>", views.project_detail),
    path("projects/<int:project_id>/schema", views.project_schema),
    path("projects/<int:project_id>/members", views.members),
    path("projects/<int:project_id>/members/<int:user_id>", views.member),
    path("projects/<int:project_id>/images", views.import_files),
    path("projects/<int:project_id>/tasks", views.task_list),
    path("projects/<int:project_id>/progress", views.project_progress),
    path("projects/<int:project_id>/queue/next", views.queue_next),
    path("projects/<int:project_id>/exports", views.project_exports),
    path("projects/<int:project_id>/jobs", views.project_jobs),
    path("projects/<int:project_id>/skills", views.project_skills),
    path("projects/<int:project_id>/events", views.project_events),
    path("tasks/<int:task_id>", views.task_detail),
    path("tasks/<int:task_id>/annotations", views.task_annotations),
    path("tasks/<int:task_id>/consensus", views.task_consensus),
    path("tasks/<int:task_id>/heartbeat", views.task_heartbeat),
    path("tasks/<int:task_id>/release", views.task_release),
    path("tasks/<int:task_id>/skip", views.task_skip),
    path("tasks/<int:task_id>/draft", views.task_draft),
    path("tasks/<int:task_id>/image/<str:tier>", views.task_image),
    path("jobs/<int:job_id>", views.job_detail),
    path("jobs/<int:job_id>/cancel", views.job_cancel),
    path("jobs/<int:job_id>/retry", views.job_retry),
    path("jobs/<int:job_id>/file", views.job_file),
]
