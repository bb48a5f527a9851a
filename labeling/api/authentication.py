"""`Authorization: Token lw_…` for programs."""

from django.contrib.auth.models import User
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from labeling.api.client import describe
from labeling.services import accounts, events


class HashedTokenAuthentication(BaseAuthentication):
    keyword = "Token"

    def authenticate(self, request: Request) -> tuple[User, str] | None:
        parts = get_authorization_header(request).split()
        if not parts or parts[0].lower() != self.keyword.lower().encode():
            return None
        try:
            secret = parts[1].decode("ascii")
        except (IndexError, UnicodeDecodeError):
            raise AuthenticationFailed("send the header as: Authorization: Token lw_…") from None
        user = accounts.owner_of(secret, now=timezone.now())
        if user is None:
            raise AuthenticationFailed(
                "this token is unknown, has expired, or its owner's password has changed"
            )
        events.name_client(describe(f"token {vars(user)['token_name']}", request))
        return user, "token"

    def authenticate_header(self, request: Request) -> str:
        return self.keyword


class HashedTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "labeling.api.authentication.HashedTokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "apiKey", "in": "header", "name": "Authorization", "description": "Token lw_…"}
