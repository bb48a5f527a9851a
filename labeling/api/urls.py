from django.urls import path

from labeling.api import accounts, projects, transfer, work

urlpatterns = [
    path("me", accounts.me),
    path("tokens", accounts.tokens),
    path("tokens/<int:token_id>", accounts.token),
    path("projects", projects.project_list),
    path("projects/<int:project_id>", projects.project_detail),
    path("projects/<int:project_id>/schema", projects.project_schema),
    path("projects/<int:project_id>/members", projects.members),
    path("projects/<int:project_id>/members/<int:user_id>", projects.member),
    path("projects/<int:project_id>/images", transfer.import_files),
    path("projects/<int:project_id>/tasks", work.task_list),
    path("projects/<int:project_id>/progress", projects.project_progress),
    path("projects/<int:project_id>/queue/next", work.queue_next),
    path("projects/<int:project_id>/exports", transfer.project_exports),
    path("projects/<int:project_id>/jobs", transfer.project_jobs),
    path("projects/<int:project_id>/skills", projects.project_skills),
    path("projects/<int:project_id>/events", projects.project_events),
    path("tasks/<int:task_id>", work.task_detail),
    path("tasks/<int:task_id>/annotations", work.task_annotations),
    path("tasks/<int:task_id>/consensus", work.task_consensus),
    path("tasks/<int:task_id>/heartbeat", work.task_heartbeat),
    path("tasks/<int:task_id>/release", work.task_release),
    path("tasks/<int:task_id>/skip", work.task_skip),
    path("tasks/<int:task_id>/draft", work.task_draft),
    path("tasks/<int:task_id>/image/<str:tier>", work.task_image),
    path("jobs/<int:job_id>", transfer.job_detail),
    path("jobs/<int:job_id>/cancel", transfer.job_cancel),
    path("jobs/<int:job_id>/retry", transfer.job_retry),
    path("jobs/<int:job_id>/file", transfer.job_file),
]
