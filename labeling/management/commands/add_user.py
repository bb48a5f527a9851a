"""Makes an account, so that somebody can log in or a program can call the API."""

import secrets
import sys
from argparse import ArgumentParser
from getpass import getpass
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from labeling.services import accounts


class Command(BaseCommand):
    help = "Make an account. Asks for its password unless an option says where it comes from."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        password = parser.add_mutually_exclusive_group()
        password.add_argument(
            "--password-from-stdin", action="store_true", help="read it from the first line"
        )
        password.add_argument("--generate", action="store_true", help="make one up and print it")
        parser.add_argument(
            "--staff",
            action="store_true",
            help="may open the admin pages; what they may there, a superuser says",
        )
        parser.add_argument("--superuser", action="store_true", help="may do everything in the admin pages")
        parser.add_argument("--token", action="store_true", help="print a token for programs, this once")
        parser.add_argument(
            "--replace-password",
            action="store_true",
            help="if the account is there, give it this password; tokens it had end",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        name, generate = options["name"], options["generate"]
        if generate:
            password = secrets.token_urlsafe(12)
        elif options["password_from_stdin"]:
            password = sys.stdin.readline().rstrip("\r\n")
        else:
            password = _asked()
        try:
            user = accounts.add(
                username=name,
                password=password,
                is_staff=options["staff"] or options["superuser"],
                is_superuser=options["superuser"],
                replace_password=options["replace_password"],
            )
        except accounts.NameTaken as error:
            raise CommandError(f"{error}; --replace-password gives it a new password") from None
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        self.stdout.write(f"account: {user.username}")
        if generate:
            self.stdout.write(f"password: {password}")
        if options["token"]:
            _, secret = accounts.make_token(user=user, name="add_user")
            self.stdout.write(f"token: {secret}")


def _asked() -> str:
    try:
        password, again = getpass("Password: "), getpass("Again: ")
    except EOFError:
        raise CommandError("Nobody is there to be asked: use --generate or --password-from-stdin.") from None
    if again != password:
        raise CommandError("The two passwords differ.")
    return password
