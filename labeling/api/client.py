"""From where a request comes, for the record of events: no address, only what the program says of itself."""

from collections.abc import Callable
from typing import Final

from django.http import HttpRequest, HttpResponse

from labeling.services import events

MAX_AGENT: Final = 120


def describe(who: str, request: HttpRequest) -> str:
    agent = request.META.get("HTTP_USER_AGENT", "")[:MAX_AGENT]
    return f"{who} · {agent}" if agent else who


class ClientMiddleware:
    """Names the browser; a program that shows its token is named by the token when that is checked."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        with events.client(describe("browser", request)):
            return self.get_response(request)
