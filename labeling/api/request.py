"""What every view does with a request first."""

from typing import Any

from rest_framework.request import Request


def person(request: Request) -> Any:
    """The logged-in user: every view here needs one (the default permission)."""
    return request.user


def checked(serializer: type[Any], request: Request, *, partial: bool = False) -> dict[str, Any]:
    checked = serializer(data=request.data, partial=partial)
    checked.is_valid(raise_exception=True)
    return dict(checked.validated_data)
