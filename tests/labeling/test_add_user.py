"""`manage.py add_user`."""

import io

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from labeling.services import accounts

pytestmark = pytest.mark.django_db


def add(*arguments: str) -> dict[str, str]:
    out = io.StringIO()
    call_command("add_user", *arguments, stdout=out)
    return dict(line.split(": ", 1) for line in out.getvalue().splitlines())


def test_a_generated_password_logs_in() -> None:
    printed = add("ann", "--generate")
    assert authenticate(username="ann", password=printed["password"]) is not None
    assert not User.objects.get(username="ann").is_staff


def test_the_printed_token_belongs_to_the_account() -> None:
    printed = add("ann", "--generate", "--staff", "--token")
    owner = accounts.owner_of(printed["token"], now=timezone.now())
    assert owner == User.objects.get(username="ann", is_staff=True)


def test_a_password_comes_from_stdin_without_its_line_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\r\n"))
    printed = add("ann", "--password-from-stdin")
    assert printed == {"account": "ann"}
    assert authenticate(username="ann", password="correct horse battery") is not None


def test_a_weak_password_is_refused_and_no_account_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("12345\n"))
    with pytest.raises(CommandError, match="too short"):
        add("ann", "--password-from-stdin")
    assert not User.objects.exists()


def test_a_name_that_is_taken_is_refused() -> None:
    first = add("ann", "--generate")
    with pytest.raises(CommandError, match="--replace-password"):
        add("ann", "--generate")
    assert authenticate(username="ann", password=first["password"]) is not None


def test_a_replaced_password_ends_the_old_one_and_its_tokens() -> None:
    first = add("ann", "--generate", "--token")
    second = add("ann", "--generate", "--replace-password")
    assert authenticate(username="ann", password=first["password"]) is None
    assert authenticate(username="ann", password=second["password"]) is not None
    assert accounts.owner_of(first["token"], now=timezone.now()) is None
