"""Files in and out, and the jobs that carry them."""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import api_view, parser_classes
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from labeling.api import paging
from labeling.api import serializers as s
from labeling.api.errors import Refused
from labeling.api.permissions import job_for, project_for, upload_for
from labeling.api.request import checked, person
from labeling.models import Job, Role, Upload, UploadedFile
from labeling.services import exports, jobs, uploads


@extend_schema(request={"multipart/form-data": s.ImportSerializer}, responses={202: s.JobDetailSerializer})
@api_view(["POST"])
@parser_classes([MultiPartParser])
def import_files(request: Request, project_id: int) -> Response:
    """Pictures, and with them labels: an upload and the job that imports it, in one call.

    The same files twice add nothing. The job's `report` tells what came of it.
    """
    project = project_for(request, project_id, Role.MANAGER)
    files = _files(request)
    wanted = checked(s.ImportOptionsSerializer, request)
    upload = uploads.begin(project=project, actor=person(request))
    taken = uploads.add(upload=upload, files=files)
    problems = [[item.file, item.line, item.field, item.reason] for item in taken.problems]
    problems += [[path, None, "", "was sent twice, with different bytes"] for path in taken.conflicts]
    job = uploads.start_import(upload=upload, actor=person(request), params={**wanted, "problems": problems})
    return Response(s.JobDetailSerializer(job).data, status=status.HTTP_202_ACCEPTED)


@extend_schema(methods=["GET"], responses=s.UploadSerializer(many=True))
@extend_schema(methods=["POST"], request=None, responses={201: s.UploadSerializer})
@api_view(["GET", "POST"])
def project_uploads(request: Request, project_id: int) -> Response:
    """Your uploads whose import has not begun or not ended, the newest first; or a new one, to send files to."""
    project = project_for(request, project_id, Role.MANAGER)
    if request.method == "POST":
        upload = uploads.begin(project=project, actor=person(request))
        return Response(_upload(upload), status=status.HTTP_201_CREATED)
    return Response([_upload(upload) for upload in uploads.unfinished(project=project, user=person(request))])


@extend_schema(methods=["GET"], responses=s.UploadSerializer)
@extend_schema(methods=["DELETE"], responses={204: None})
@api_view(["GET", "DELETE"])
def upload_detail(request: Request, upload_id: UUID) -> Response:
    """What an upload holds and how its import goes; or forgets it with its files."""
    upload = upload_for(request, upload_id, Role.MANAGER)
    if request.method == "DELETE":
        uploads.remove(upload=upload)
        return Response(status=status.HTTP_204_NO_CONTENT)
    return Response(_upload(upload))


@extend_schema(
    methods=["GET"], responses=paging.page_of(s.UploadedFileSerializer), parameters=paging.PARAMETERS
)
@extend_schema(
    methods=["POST"], request={"multipart/form-data": s.FilesSerializer}, responses=s.TakenSerializer
)
@api_view(["GET", "POST"])
@parser_classes([MultiPartParser])
def upload_files(request: Request, upload_id: UUID) -> Response:
    """The files that are here; or more of them, in as many calls as you like. A file sent again is fine."""
    upload = upload_for(request, upload_id, Role.MANAGER)
    if request.method == "GET":
        return paging.respond(request, UploadedFile.objects.filter(upload=upload), s.UploadedFileSerializer)
    taken = uploads.add(upload=upload, files=_files(request))
    if taken.conflicts:
        told = f"{taken.conflicts[0]} is here already, with other bytes; begin another upload for this one"
        raise Refused("other_bytes", told, param="files", http_status=409)
    return Response(s.TakenSerializer(taken).data)


@extend_schema(request=s.ImportOptionsSerializer, responses={202: s.JobDetailSerializer})
@api_view(["POST"])
def upload_import(request: Request, upload_id: UUID) -> Response:
    """Starts the one job that imports all files of the upload. Asked again, the same job answers."""
    upload = upload_for(request, upload_id, Role.MANAGER)
    job = uploads.start_import(
        upload=upload, actor=person(request), params=checked(s.ImportOptionsSerializer, request)
    )
    return Response(s.JobDetailSerializer(job).data, status=status.HTTP_202_ACCEPTED)


def _upload(upload: Upload) -> dict[str, Any]:
    files, size_bytes = uploads.totals(upload)
    shown = {
        "id": upload.pk,
        "project_id": upload.project_id,
        "created_at": upload.created_at,
        "files": files,
        "size_bytes": size_bytes,
        "job": upload.job,
    }
    return dict(s.UploadSerializer(shown).data)


def _files(request: Request) -> list[tuple[str, Any]]:
    """The request's files, each with its path."""
    if int(request.headers.get("Content-Length") or 0) > settings.MAX_UPLOAD_BYTES:
        told = f"send at most {settings.MAX_UPLOAD_BYTES:,} bytes at once, the rest in another request"
        raise Refused("too_large", told, http_status=413)
    files = request.FILES.getlist("files")
    if not files:
        raise Refused("no_files", "Send at least one file in the field “files”.", param="files")
    paths = request.POST.getlist("paths") or [file.name or "" for file in files]
    if len(paths) != len(files):
        raise Refused("invalid", f"{len(files)} files came with {len(paths)} paths", param="paths")
    return list(zip(paths, files, strict=True))


@extend_schema(request=s.ExportSerializer, responses={202: s.JobDetailSerializer})
@api_view(["POST"])
def project_exports(request: Request, project_id: int) -> Response:
    """Starts an export of the settled labels, or of everybody's answers; the job has the file when it is done."""
    project = project_for(request, project_id, Role.MANAGER)
    wanted = checked(s.ExportSerializer, request)
    try:
        job = exports.start(
            project=project,
            format_name=wanted["format"],
            content=wanted["content"],
            actor=person(request),
        )
    except exports.NotOffered as error:
        raise Refused("invalid", str(error), param="format") from error
    return Response(s.JobDetailSerializer(job).data, status=status.HTTP_202_ACCEPTED)


@extend_schema(responses=paging.page_of(s.JobSerializer), parameters=paging.PARAMETERS)
@api_view(["GET"])
def project_jobs(request: Request, project_id: int) -> Response:
    project = project_for(request, project_id, Role.MANAGER)
    return paging.respond(
        request,
        Job.objects.filter(project=project).select_related("created_by"),
        s.JobSerializer,
        newest_first=True,
    )


@extend_schema(responses=s.JobDetailSerializer)
@api_view(["GET"])
def job_detail(request: Request, job_id: int) -> Response:
    return Response(s.JobDetailSerializer(job_for(request, job_id, Role.MANAGER)).data)


@extend_schema(request=None, responses=s.JobDetailSerializer)
@api_view(["POST"])
def job_cancel(request: Request, job_id: int) -> Response:
    job = job_for(request, job_id, Role.MANAGER)
    jobs.cancel(job=job, actor=person(request))
    job.refresh_from_db()
    return Response(s.JobDetailSerializer(job).data)


@extend_schema(request=None, responses=s.JobDetailSerializer)
@api_view(["POST"])
def job_retry(request: Request, job_id: int) -> Response:
    job = job_for(request, job_id, Role.MANAGER)
    if not jobs.retry(job=job, actor=person(request)):
        raise Refused(
            "not_ended", "Only a job that failed, was cancelled or parked runs again.", http_status=409
        )
    job.refresh_from_db()
    return Response(s.JobDetailSerializer(job).data)


@extend_schema(responses={(200, "application/json"): OpenApiTypes.BINARY})
@api_view(["GET"])
def job_file(request: Request, job_id: int) -> StreamingHttpResponse:
    """The file that an export wrote."""
    job = job_for(request, job_id, Role.MANAGER)
    if "sha256" not in job.result:
        raise Refused("no_file", "This job has no file (yet).", http_status=404)
    response = StreamingHttpResponse(exports.file_of(job), content_type=job.result["content_type"])
    if "size_bytes" in job.result:
        response["Content-Length"] = job.result["size_bytes"]
    response["Content-Disposition"] = f'attachment; filename="{job.result["name"]}"'
    return response
