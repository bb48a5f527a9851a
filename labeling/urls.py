from django.contrib.auth import views as auth_views
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from labeling import views

urlpatterns = [
    path("", views.project_list, name="projects"),
    path("login/", auth_views.LoginView.as_view(template_name="labeling/login.html"), name="login"),
    path("logout/", auth_views.LogoutView.as_view(), name="logout"),
    path("projects/<int:project_id>/", views.project_page, name="project"),
    path("projects/<int:project_id>/annotate/", views.annotate_page, name="annotate"),
    path("projects/<int:project_id>/review/", views.review_page, name="review"),
    path("projects/<int:project_id>/quality/", views.quality_page, name="quality"),
    path("health/live", views.live),
    path("health/ready", views.ready),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
    path("api/v1/", include("labeling.api.urls")),
]
