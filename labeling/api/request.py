"""What every view does with a request first."""

from collections.abc import Hashable
from functools import lru_cache
from typing import Any, cast

from rest_framework.request import Request


def person(request: Request) -> Any:
    """The logged-in user: every view here needs one (the default permission)."""
    return request.user


def checked(serializer: type[Any], request: Request, *, partial: bool = False) -> dict[str, Any]:
    """The body as this serializer understands it. Raises DRF's `ValidationError`."""
    return dict(_made(cast(Hashable, serializer), partial).run_validation(request.data))


@lru_cache
def _made(serializer: Any, partial: bool) -> Any:
    """One serializer for all requests: it keeps nothing of what it validates, and making it copies every field."""
    return serializer(data={}, partial=partial)
