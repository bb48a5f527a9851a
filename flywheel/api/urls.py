from django.urls import path

from flywheel.api import audits, exports, runs, searches, views

urlpatterns = [
    path("api/v1/projects/<int:project_id>/rounds", views.round_list),
    path("api/v1/projects/<int:project_id>/rounds/start", views.round_start),
    path("api/v1/rounds/<int:round_id>/cancel", views.round_cancel),
    path("api/v1/projects/<int:project_id>/models", views.model_list),
    path("api/v1/models/<int:model_id>/promote", views.model_promote),
    path("api/v1/models/<int:model_id>/onnx", exports.model_onnx),
    path("api/v1/projects/<int:project_id>/roll-back", views.roll_back),
    path("api/v1/projects/<int:project_id>/curve", views.curve),
    path("api/v1/projects/<int:project_id>/audit", audits.project_audit),
    path("api/v1/projects/<int:project_id>/audit/cancel", audits.audit_cancel),
    path("api/v1/projects/<int:project_id>/audit/pictures", audits.audit_pictures),
    path("api/v1/audit-pictures/<int:picture_id>/dismiss", audits.picture_dismiss),
    path("api/v1/projects/<int:project_id>/runs", runs.run_list),
    path("api/v1/runs/<int:run_id>", runs.run_detail),
    path("api/v1/projects/<int:project_id>/searches", searches.search_list),
    path("api/v1/searches/<int:search_id>", searches.search_detail),
    path("api/v1/searches/<int:search_id>/cancel", searches.search_cancel),
    path("api/v1/trials/<int:trial_id>/use", searches.trial_use),
    path("api/v1/runs/<int:run_id>/curve", runs.run_curve),
    path("api/v1/runs/<int:run_id>/cancel", runs.run_cancel),
    path("projects/<int:project_id>/runs/", runs.runs_page, name="runs"),
    path("projects/<int:project_id>/runs/<int:run_id>/", runs.run_page, name="run"),
    path("projects/<int:project_id>/label-audit/", audits.audit_page, name="audit"),
    path("projects/<int:project_id>/rounds/", views.rounds_page, name="rounds"),
]
