"""One's own account."""

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from labeling.api import paging
from labeling.api import serializers as s
from labeling.api.request import checked, person
from labeling.models import ApiToken
from labeling.services import accounts


@extend_schema(responses=s.MeSerializer)
@api_view(["GET"])
def me(request: Request) -> Response:
    user = request.user
    return Response({"id": user.pk, "username": user.get_username(), "is_staff": user.is_staff})


@extend_schema(methods=["GET"], responses=paging.page_of(s.TokenSerializer), parameters=paging.PARAMETERS)
@extend_schema(methods=["POST"], request=s.NewTokenSerializer, responses={201: s.MadeTokenSerializer})
@api_view(["GET", "POST"])
def tokens(request: Request) -> Response:
    """One's own programs' tokens."""
    if request.method == "GET":
        return paging.respond(request, ApiToken.objects.filter(user=person(request)), s.TokenSerializer)
    wanted = checked(s.NewTokenSerializer, request)
    token, secret = accounts.make_token(user=person(request), name=wanted["name"])
    body = {**s.TokenSerializer(token).data, "token": secret}
    return Response(body, status=status.HTTP_201_CREATED)


@extend_schema(responses={204: None})
@api_view(["DELETE"])
def token(request: Request, token_id: int) -> Response:
    get_object_or_404(ApiToken, pk=token_id, user_id=request.user.pk).delete()
    return Response(status=status.HTTP_204_NO_CONTENT)
