from django.contrib import admin
from django.urls import include, path

handler404 = "labeling.api.errors.path_not_found"
handler500 = "labeling.api.errors.server_error"

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("labeling.urls")),
    path("", include("flywheel.api.urls")),
]
