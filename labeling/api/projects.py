"""Projects: what they label, who is in them, what happened there."""

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from labeling import schema as label_schema
from labeling import selectors
from labeling.api import paging
from labeling.api import serializers as s
from labeling.api.errors import Refused
from labeling.api.permissions import may, project_for
from labeling.api.request import checked, person
from labeling.models import (
    Event,
    Membership,
    Project,
    Role,
)
from labeling.services import projects


@extend_schema(
    methods=["GET"],
    responses=paging.page_of(s.ProjectSerializer),
    parameters=paging.PARAMETERS,
    operation_id="projects_list",
)
@extend_schema(methods=["POST"], request=s.NewProjectSerializer, responses={201: s.ProjectSerializer})
@api_view(["GET", "POST"])
def project_list(request: Request) -> Response:
    """The projects one is a member of; a new one belongs to whoever makes it."""
    if request.method == "GET":
        return paging.respond(request, Project.objects.visible_to(request.user), s.ProjectSerializer)
    wanted = checked(s.NewProjectSerializer, request)
    wanted.pop("schema")
    schema = label_schema.parse(request.data["schema"])
    project = projects.create(schema=schema, owner=person(request), **wanted)
    body = s.ProjectSerializer(project, context={"request": request}).data
    return Response(body, status=status.HTTP_201_CREATED)


@extend_schema(methods=["GET"], responses=s.ProjectSerializer)
@extend_schema(methods=["PATCH"], request=s.ProjectSettingsSerializer, responses=s.ProjectSerializer)
@api_view(["GET", "PATCH"])
def project_detail(request: Request, project_id: int) -> Response:
    project = project_for(request, project_id, Role.VIEWER if request.method == "GET" else Role.MANAGER)
    if request.method == "PATCH":
        changes = checked(s.ProjectSettingsSerializer, request, partial=True)
        project = projects.change(project=project, changes=changes, actor=person(request))
    return Response(s.ProjectSerializer(project, context={"request": request}).data)


@extend_schema(request=s.SaveSchemaSerializer, responses=s.ProjectSerializer)
@api_view(["PUT"])
def project_schema(request: Request, project_id: int) -> Response:
    """Saves the next version of what the project labels."""
    project = project_for(request, project_id, Role.MANAGER)
    wanted = checked(s.SaveSchemaSerializer, request)
    projects.save_schema(
        project=project,
        schema=label_schema.parse(request.data["schema"]),
        base_version=wanted["base_version"],
        actor=person(request),
    )
    return Response(s.ProjectSerializer(project, context={"request": request}).data)


@extend_schema(methods=["GET"], responses=paging.page_of(s.MemberSerializer), parameters=paging.PARAMETERS)
@extend_schema(methods=["POST"], request=s.MemberSerializer, responses={201: s.MemberSerializer})
@api_view(["GET", "POST"])
def members(request: Request, project_id: int) -> Response:
    project = project_for(request, project_id, Role.VIEWER if request.method == "GET" else Role.MANAGER)
    if request.method == "GET":
        rows = Membership.objects.filter(project=project).select_related("user")
        return paging.respond(request, rows, s.MemberSerializer)
    wanted = checked(s.MemberSerializer, request)
    role = Role(wanted["role"])
    if not may(request, project, Role.OWNER):
        if role == Role.OWNER:
            raise Refused("forbidden", "Only an owner makes owners.", param="role", http_status=403)
        username = wanted["user"]["username"]
        if Membership.objects.filter(project=project, user__username=username, role=Role.OWNER).exists():
            raise Refused("forbidden", "Only an owner changes an owner's role.", http_status=403)
    member = projects.set_member(
        project=project, username=wanted["user"]["username"], role=role, actor=person(request)
    )
    return Response(s.MemberSerializer(member).data, status=status.HTTP_201_CREATED)


@extend_schema(responses={204: None})
@api_view(["DELETE"])
def member(request: Request, project_id: int, user_id: int) -> Response:
    project = project_for(request, project_id, Role.MANAGER)
    membership = get_object_or_404(Membership, project=project, user__id=user_id)
    if membership.role == Role.OWNER and not may(request, project, Role.OWNER):
        raise Refused("forbidden", "Only an owner removes owners.", http_status=403)
    projects.remove_member(member=membership, actor=person(request))
    return Response(status=status.HTTP_204_NO_CONTENT)


@extend_schema(responses=paging.page_of(s.EventSerializer), parameters=paging.PARAMETERS)
@api_view(["GET"])
def project_events(request: Request, project_id: int) -> Response:
    project = project_for(request, project_id, Role.MANAGER)
    rows = Event.objects.filter(project=project).select_related("actor")
    return paging.respond(request, rows, s.EventSerializer, newest_first=True)


@extend_schema(responses=s.ProgressSerializer)
@api_view(["GET"])
def project_progress(request: Request, project_id: int) -> Response:
    project = project_for(request, project_id, Role.VIEWER)
    return Response(selectors.progress(project))
