"""Files in and out, and the jobs that carry them."""

from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import api_view, parser_classes
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from labeling import storage
from labeling.api import paging
from labeling.api import serializers as s
from labeling.api.errors import Refused
from labeling.api.permissions import job_for, project_for
from labeling.api.request import checked, person
from labeling.models import (
    Job,
    Role,
)
from labeling.services import (
    exports,
    imports,
    jobs,
)


@extend_schema(request={"multipart/form-data": s.ImportSerializer}, responses=s.ImportReportSerializer)
@api_view(["POST"])
@parser_classes([MultiPartParser])
def import_files(request: Request, project_id: int) -> Response:
    """Pictures, and with them labels in COCO, VOC or DeepLabCut's CSV; the same files twice add nothing."""
    project = project_for(request, project_id, Role.MANAGER)
    if int(request.headers.get("Content-Length") or 0) > settings.MAX_UPLOAD_BYTES:
        told = f"send at most {settings.MAX_UPLOAD_BYTES:,} bytes at once, the rest in another request"
        raise Refused("too_large", told, http_status=413)
    files = request.FILES.getlist("files")
    if not files:
        raise Refused("no_files", "Send at least one file in the field “files”.", param="files")
    paths = request.POST.getlist("paths") or [file.name or "" for file in files]
    if len(paths) != len(files):
        raise Refused("invalid", f"{len(files)} files came with {len(paths)} paths", param="paths")
    labels_as = request.data.get("labels_as", "settled")
    if labels_as not in imports.LABELS_AS:
        raise Refused("invalid", f"must be one of {', '.join(imports.LABELS_AS)}", param="labels_as")
    report = imports.import_uploads(
        project=project,
        files=list(zip(paths, files, strict=True)),
        labels_as=labels_as,
        add_classes=request.data.get("add_classes", "") in ("true", "1", "on"),
        actor=person(request),
    )
    return Response(s.ImportReportSerializer(report).data)


@extend_schema(request=s.ExportSerializer, responses={202: s.JobSerializer})
@api_view(["POST"])
def project_exports(request: Request, project_id: int) -> Response:
    """Starts an export of the settled labels; the job's file can be fetched when it is done."""
    project = project_for(request, project_id, Role.MANAGER)
    wanted = checked(s.ExportSerializer, request)
    job = exports.start(project=project, format_name=wanted["format"], actor=person(request))
    return Response(s.JobSerializer(job).data, status=status.HTTP_202_ACCEPTED)


@extend_schema(responses=paging.page_of(s.JobSerializer), parameters=paging.PARAMETERS)
@api_view(["GET"])
def project_jobs(request: Request, project_id: int) -> Response:
    project = project_for(request, project_id, Role.MANAGER)
    return paging.respond(request, Job.objects.filter(project=project), s.JobSerializer, newest_first=True)


@extend_schema(responses=s.JobSerializer)
@api_view(["GET"])
def job_detail(request: Request, job_id: int) -> Response:
    return Response(s.JobSerializer(job_for(request, job_id, Role.MANAGER)).data)


@extend_schema(request=None, responses=s.JobSerializer)
@api_view(["POST"])
def job_cancel(request: Request, job_id: int) -> Response:
    job = job_for(request, job_id, Role.MANAGER)
    jobs.cancel(job=job, actor=person(request))
    job.refresh_from_db()
    return Response(s.JobSerializer(job).data)


@extend_schema(request=None, responses=s.JobSerializer)
@api_view(["POST"])
def job_retry(request: Request, job_id: int) -> Response:
    job = job_for(request, job_id, Role.MANAGER)
    if not jobs.retry(job=job, actor=person(request)):
        raise Refused(
            "not_ended", "Only a job that failed, was cancelled or parked runs again.", http_status=409
        )
    job.refresh_from_db()
    return Response(s.JobSerializer(job).data)


@extend_schema(responses={(200, "application/json"): OpenApiTypes.BINARY})
@api_view(["GET"])
def job_file(request: Request, job_id: int) -> HttpResponse:
    """The file that an export wrote."""
    job = job_for(request, job_id, Role.MANAGER)
    if "sha256" not in job.result:
        raise Refused("no_file", "This job has no file (yet).", http_status=404)
    data = storage.get_blob(storage.store(), job.result["sha256"])
    response = HttpResponse(data, content_type=job.result["content_type"])
    response["Content-Disposition"] = f'attachment; filename="{job.result["name"]}"'
    return response
