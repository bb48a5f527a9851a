"""How reliable the annotators are, how well they agree, and the fits that this was learnt in."""

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from labeling.api import paging
from labeling.api import quality_serializers as q
from labeling.api import serializers as s
from labeling.api.permissions import fit_for, may, project_for
from labeling.api.request import person
from labeling.models import ConsensusFit, Role
from labeling.services import fits, refits


@extend_schema(responses=paging.page_of(q.SkillSerializer), parameters=paging.PARAMETERS)
@api_view(["GET"])
def project_skills(request: Request, project_id: int) -> Response:
    """What the fit in force knows of everybody, for reviewers; of oneself, for annotators."""
    project = project_for(request, project_id, Role.ANNOTATOR)
    rows = fits.skills(project).select_related("user")
    if not may(request, project, Role.REVIEWER):
        rows = rows.filter(user=person(request))
    return paging.respond(request, rows, q.SkillSerializer)


@extend_schema(responses=q.AgreementSerializer)
@api_view(["GET"])
def project_agreement(request: Request, project_id: int) -> Response:
    """How well people agreed who answered the same pictures, as the fit in force found it."""
    return Response(fits.agreement(project_for(request, project_id, Role.REVIEWER)))


@extend_schema(methods=["GET"], responses=paging.page_of(q.FitSerializer), parameters=paging.PARAMETERS)
@extend_schema(methods=["POST"], request=None, responses={202: s.JobDetailSerializer})
@api_view(["GET", "POST"])
def project_fits(request: Request, project_id: int) -> Response:
    """What was learnt of the annotators and when, the newest first; or a job that learns anew from all answers."""
    if request.method == "POST":
        project = project_for(request, project_id, Role.MANAGER)
        job = refits.start(project=project, actor=person(request))
        return Response(s.JobDetailSerializer(job).data, status=status.HTTP_202_ACCEPTED)
    project = project_for(request, project_id, Role.REVIEWER)
    rows = ConsensusFit.objects.filter(project=project).defer("parameters", "agreement")
    rows = rows.select_related("created_by", "project")
    return paging.respond(request, rows, q.FitSerializer, newest_first=True)


@extend_schema(request=None, responses={202: s.JobDetailSerializer})
@api_view(["POST"])
def fit_put_in_force(request: Request, fit_id: int) -> Response:
    """A job that puts this fit in force and settles the project again with it: undoes the refits after it."""
    fit = fit_for(request, fit_id, Role.MANAGER)
    job = refits.start_with(fit=fit, actor=person(request))
    return Response(s.JobDetailSerializer(job).data, status=status.HTTP_202_ACCEPTED)
