"""Models as files for other programs."""

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from flywheel.models import ModelVersion
from flywheel.services import model_exports
from labeling.api.permissions import require
from labeling.api.request import person
from labeling.api.serializers import JobSerializer
from labeling.models import Project, Role


@extend_schema(request=None, responses={202: JobSerializer})
@api_view(["POST"])
def model_onnx(request: Request, model_id: int) -> Response:
    """A job that writes this model as an ONNX file and checks it against torch.

    When it is done, `GET /api/v1/jobs/{id}/file` gives the file; the job's result says how far its answers
    are from torch's.
    """
    model = get_object_or_404(
        ModelVersion.objects.select_related("project"),
        pk=model_id,
        project__in=Project.objects.visible_to(request.user),
    )
    require(request, model.project, Role.MANAGER)
    job = model_exports.start(model=model, actor=person(request))
    return Response(JobSerializer(job).data, status=status.HTTP_202_ACCEPTED)
