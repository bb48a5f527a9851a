"""One shape for every refusal: `{"type", "code", "message", "param"}`."""

import logging
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import exception_handler

from labeling.schema import InvalidSchema
from labeling.services import annotations, cards, projects, queue, reviews, uploads
from labeling.services.pictures import BadPicture
from labeling.shapes import InvalidShape
from labeling.storage import StoreUnavailable

logger = logging.getLogger(__name__)


class Refused(exceptions.APIException):
    """A refusal with its code; `param` is the path of the field that is wrong."""

    def __init__(self, code: str, message: str, *, param: str | None = None, http_status: int = 400) -> None:
        super().__init__(message, code)
        self.code = code
        self.message = message
        self.param = param
        self.status_code = http_status


API: Final = "/api/"

TYPES: Final = {
    400: "invalid_request",
    401: "unauthenticated",
    403: "permission_denied",
    404: "not_found",
    405: "invalid_request",
    406: "invalid_request",
    409: "conflict",
    413: "invalid_request",
    415: "invalid_request",
    422: "conflict",
    429: "rate_limited",
    503: "unavailable",
}

REFUSALS: Final[dict[type[Exception], tuple[int, str]]] = {
    annotations.KeyReused: (422, "key_reused"),
    annotations.StaleRevision: (409, "stale_revision"),
    annotations.SchemaChanged: (409, "schema_changed"),
    annotations.NothingToWithdraw: (409, "nothing_to_withdraw"),
    queue.LostLease: (409, "lease_lost"),
    reviews.NotInReview: (409, "not_in_review"),
    reviews.StaleReview: (409, "stale_review"),
    reviews.HeldByAnother: (409, "held_by_another"),
    reviews.NothingToAccept: (409, "nothing_to_accept"),
    reviews.NoSuchObject: (409, "no_such_object"),
    reviews.AlreadyReturned: (409, "already_returned"),
    reviews.AuthorGone: (409, "author_gone"),
    reviews.GoldStays: (409, "gold_stays"),
    cards.OwnTask: (409, "own_task"),
    cards.VerdictGiven: (409, "verdict_given"),
    projects.StaleSchema: (409, "stale_schema"),
    projects.ClassInUse: (409, "class_in_use"),
    projects.LastOwner: (409, "last_owner"),
    projects.NoSuchPerson: (400, "no_such_person"),
    uploads.ImportBegan: (409, "import_began"),
    uploads.StillImporting: (409, "still_importing"),
    BadPicture: (400, "bad_picture"),
    StoreUnavailable: (503, "store_unavailable"),
}
"""The domain's named refusals, as HTTP tells them."""


def body(*, http_status: int, code: str, message: str, param: str | None = None) -> dict[str, Any]:
    return {
        "type": TYPES.get(http_status, "server_error"),
        "code": code,
        "message": _sendable(message),
        "param": None if param is None else _sendable(param),
    }


def path_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's hook for a path that leads nowhere."""
    if not request.path.startswith(API):
        return defaults.page_not_found(request, exception)
    told = "There is nothing at this path; /api/docs/ lists what there is."
    return JsonResponse(body(http_status=404, code="not_found", message=told), status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's hook for what nobody anticipated; it has been logged."""
    if not request.path.startswith(API):
        return defaults.server_error(request)
    told = "Something went wrong here; it was logged. Try again, and tell the administrator if it stays."
    return JsonResponse(body(http_status=500, code="server_error", message=told), status=500)


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's hook. What nobody anticipated travels on, becomes a 500 and is logged once."""
    translated = _translate(error)
    response = exception_handler(translated, context)
    if response is None:
        return None
    if isinstance(translated, Refused):
        response.data = body(
            http_status=translated.status_code,
            code=translated.code,
            message=translated.message,
            param=translated.param,
        )
    elif isinstance(translated, exceptions.ValidationError):
        param, message = _first_problem(translated.detail)
        response.data = body(http_status=400, code="invalid", message=message, param=param)
    elif isinstance(translated, exceptions.APIException):
        codes = translated.get_codes()
        response.data = body(
            http_status=translated.status_code,
            code=codes if isinstance(codes, str) else "invalid",
            message=str(translated.detail),
        )
    return response


def _translate(error: Exception) -> Exception:
    if isinstance(error, InvalidShape | InvalidSchema):
        return Refused("invalid", error.message, param=error.field)
    if isinstance(error, Http404):
        return Refused("not_found", "There is nothing here for you.", http_status=status.HTTP_404_NOT_FOUND)
    if isinstance(error, PermissionDenied):
        return Refused("forbidden", str(error) or "Your role may not do this.", http_status=403)
    if isinstance(error, RequestDataTooBig):
        return Refused("too_large", f"A body of JSON has at most {_limit()} bytes.", http_status=413)
    if isinstance(error, SuspiciousOperation):
        return Refused("suspicious", str(error))
    if isinstance(error, OperationalError | InterfaceError):
        logger.error("the database does not answer", exc_info=error)
        told = "The database does not answer; what you sent can be sent again in a moment."
        return Refused("database_unavailable", told, http_status=503)
    known = REFUSALS.get(type(error))
    if known is not None:
        return Refused(known[1], str(error), http_status=known[0])
    return error


def _limit() -> str:
    return f"{settings.DATA_UPLOAD_MAX_MEMORY_SIZE:,}"


def _sendable(text: str) -> str:
    """Text that may repeat what was sent, which UTF-8 cannot say if it has a lone surrogate."""
    return text.encode("utf-8", "replace").decode()


def _first_problem(detail: Any, path: str = "") -> tuple[str | None, str]:
    if isinstance(detail, dict):
        for key, value in detail.items():
            if isinstance(key, int):
                return _first_problem(value, f"{path}[{key}]")
            own = "" if key == "non_field_errors" else str(key)
            return _first_problem(value, f"{path}.{own}" if path and own else path or own)
    if isinstance(detail, list):
        for index, value in enumerate(detail):
            if value:
                nested = isinstance(value, dict | list)
                return _first_problem(value, f"{path}[{index}]" if nested else path)
    return path or None, str(detail)
