"""Lists by cursor."""

from typing import Any

from django.db import models
from drf_spectacular.utils import OpenApiParameter, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from labeling import selectors

DEFAULT_LIMIT = 50
MAX_LIMIT = 500

PARAMETERS = [
    OpenApiParameter("cursor", str, description="`next` of the page before."),
    OpenApiParameter("limit", int, description=f"1 to {MAX_LIMIT}, {DEFAULT_LIMIT} by default."),
]


def page_of(serializer: type[serializers.Serializer[Any]]) -> serializers.Serializer[Any]:
    """The schema of a page, for the API's documentation."""
    name = serializer.__name__.removesuffix("Serializer") + "Page"
    return inline_serializer(
        name,
        {
            "items": serializer(many=True),
            "next": serializers.CharField(allow_null=True),
        },
    )


def respond(
    request: Request,
    rows: models.QuerySet[Any],
    serializer: type[serializers.Serializer[Any]],
    *,
    newest_first: bool = False,
) -> Response:
    page = selectors.page(
        rows,
        cursor=request.query_params.get("cursor"),
        limit=_limit(request),
        newest_first=newest_first,
    )
    items = serializer(page.items, many=True, context={"request": request}).data
    return Response({"items": items, "next": page.next})


def _limit(request: Request) -> int:
    asked = request.query_params.get("limit", "")
    number = asked.isascii() and asked.isdecimal() and len(asked) < 10
    return min(max(int(asked), 1), MAX_LIMIT) if number else DEFAULT_LIMIT
