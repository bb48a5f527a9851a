"""`POST` a picture, get what the champion sees. Decoding and the forward pass run beside the event loop."""

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import RequestDataTooBig
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from flywheel.serving.predictors import NoChampion, Predictors, Served
from labeling.models import Project
from labeling.services import accounts
from ml.data import BrokenPicture, open_picture
from ml.schema import Detection

MAX_BYTES: Final = 30 * 1024**2
DEFAULT_THRESHOLD: Final = 0.3

predictors = Predictors()
_forward = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forward")


class Refused(Exception):
    def __init__(
        self, http_status: int, kind: str, code: str, message: str, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.body = {"type": kind, "code": code, "message": message, "param": param}


@require_GET
async def live(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"live": True})


@require_GET
async def ready(request: HttpRequest) -> JsonResponse:
    await sync_to_async(connection.ensure_connection)()
    return JsonResponse({"ready": True})


@csrf_exempt
@require_POST
async def predict(request: HttpRequest, project_id: int) -> JsonResponse:
    """The champion's answer for one picture: the raw bytes, or the file `image` of a form.

    `?threshold=` (0 to 1, default 0.3) is the least share of such detections that were right on gold.
    """
    started = time.perf_counter()
    try:
        await sync_to_async(_check_access)(request.headers.get("Authorization", ""), project_id)
        threshold = _threshold(request)
        data = await sync_to_async(_picture_bytes)(request)
        served = await sync_to_async(_champion)(project_id)
        body = await sync_to_async(partial(_answer, served, data, threshold))()
    except Refused as refusal:
        return JsonResponse(refusal.body, status=refusal.http_status)
    body["timing_ms"] = round(1000 * (time.perf_counter() - started), 1)
    return JsonResponse(body)


def _check_access(header: str, project_id: int) -> User:
    kind, _, secret = header.partition(" ")
    user = accounts.owner_of(secret.strip(), now=timezone.now()) if kind.lower() == "token" else None
    if user is None:
        raise Refused(
            401, "unauthenticated", "not_authenticated", "Send the header Authorization: Token lw_…"
        )
    if not Project.objects.visible_to(user).filter(pk=project_id).exists():
        raise Refused(404, "not_found", "not_found", "There is nothing here for you.")
    return user


def _threshold(request: HttpRequest) -> float:
    asked = request.GET.get("threshold", str(DEFAULT_THRESHOLD))
    try:
        threshold = float(asked)
    except ValueError:
        threshold = -1.0
    if not 0.0 <= threshold <= 1.0:
        raise Refused(400, "invalid_request", "invalid", "must be a number from 0 to 1", "threshold")
    return threshold


def _picture_bytes(request: HttpRequest) -> bytes:
    if int(request.headers.get("Content-Length") or 0) > MAX_BYTES:
        raise Refused(413, "invalid_request", "too_large", f"at most {MAX_BYTES // 1024**2} MiB a picture")
    if request.content_type == "multipart/form-data":
        file = request.FILES.get("image")
        if file is None:
            raise Refused(
                400, "invalid_request", "no_picture", "send the picture in the field “image”", "image"
            )
        return _bounded(file.read(MAX_BYTES + 1))
    try:
        data = request.body
    except RequestDataTooBig:
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE // 1024**2
        raise Refused(413, "invalid_request", "too_large", f"at most {limit} MiB as a plain body") from None
    data = _bounded(data)
    if not data:
        raise Refused(400, "invalid_request", "no_picture", "the body is empty: send a picture's bytes")
    return data


def _bounded(data: bytes) -> bytes:
    """The data, if it is not too long; a body sent in chunks tells no length before."""
    if len(data) > MAX_BYTES:
        raise Refused(413, "invalid_request", "too_large", f"at most {MAX_BYTES // 1024**2} MiB a picture")
    return bytes(data)


def _champion(project_id: int) -> Served:
    try:
        return predictors.champion(project_id)
    except NoChampion as error:
        raise Refused(409, "conflict", "no_champion", str(error)) from None


def _answer(served: Served, data: bytes, threshold: float) -> dict[str, Any]:
    try:
        picture = open_picture(data)
    except BrokenPicture as error:
        raise Refused(400, "invalid_request", "bad_picture", str(error), "image") from None
    (found,) = _forward.submit(served.predict, [picture]).result()
    names = {item.id: item.name for item in served.predictor.classes}
    return {
        "model": served.name,
        "snapshot": served.snapshot,
        "objects": [_object(item, names) for item in found if item.score >= threshold],
    }


def _object(item: Detection, names: dict[int, str]) -> dict[str, Any]:
    return {
        "class_id": item.class_id,
        "class_name": names[item.class_id],
        "score": round(item.score, 6),
        "xyxy": [round(value, 3) for value in item.xyxy],
        "points": [[round(x, 3), round(y, 3), round(score, 6)] for x, y, score in item.points],
    }
