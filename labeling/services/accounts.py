"""Accounts, and programs' tokens: shown once, kept only as a hash, ended by a change of password."""

import hashlib
import secrets
from datetime import datetime

from django.contrib.auth.models import AbstractBaseUser, User
from django.contrib.auth.password_validation import validate_password
from django.db import connection, transaction

from labeling import rows
from labeling.models import ApiToken

PREFIX = "lw_"


class NameTaken(Exception):
    """There is an account of this name already."""


@transaction.atomic
def add(
    *,
    username: str,
    password: str,
    is_staff: bool = False,
    is_superuser: bool = False,
    replace_password: bool = False,
) -> User:
    """A new account; with `replace_password`, one that is there gets the password, and its tokens end.

    Raises `NameTaken`, and Django's `ValidationError` for a name or password that its rules refuse.
    """
    user = User.objects.filter(username=username).first()
    if user is not None and not replace_password:
        raise NameTaken(f"there is an account named {username} already")
    user = user or User(username=username)
    user.is_staff = user.is_staff or is_staff
    user.is_superuser = user.is_superuser or is_superuser
    validate_password(password, user)
    user.set_password(password)
    user.full_clean()
    user.save()
    return user


def make_token(
    *, user: AbstractBaseUser, name: str, expires_at: datetime | None = None
) -> tuple[ApiToken, str]:
    """A new token for a program of this person: the row, and the secret that is never shown again."""
    secret = PREFIX + secrets.token_urlsafe(32)
    token = ApiToken.objects.create(
        user_id=user.pk,
        name=name,
        digest=_digest(secret),
        password_mark=_digest(user.password),
        expires_at=expires_at,
    )
    return token, secret


def owner_of(secret: str, *, now: datetime) -> User | None:
    """Whose token this is; nobody's if it is unknown, has expired, or is older than its owner's password.

    The person has the token's name as `token_name`.
    """
    # Asked by every request of a program: written out, because the ORM takes longer to make it than to run it.
    found = rows.read(
        User,
        f"""SELECT {rows.columns(User, "person")}, token.password_mark, token.name
            FROM labeling_apitoken token JOIN auth_user person ON person.id = token.user_id
            WHERE token.digest = %s AND person.is_active
              AND (token.expires_at IS NULL OR token.expires_at >= %s)""",  # noqa: S608 (names of columns)
        [_digest(secret), connection.ops.adapt_datetimefield_value(now)],
    )
    for owner, (mark, name) in found:
        if secrets.compare_digest(mark, _digest(owner.password)):
            vars(owner)["token_name"] = name
            return owner
    return None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
