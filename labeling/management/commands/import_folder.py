"""Imports a folder of pictures, with labels in COCO, VOC or DeepLabCut's CSV, into a project."""

import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

from labeling.formats import inspect
from labeling.models import Project, Role
from labeling.services import imports, projects


class Command(BaseCommand):
    help = "Import a folder of pictures and labels. Importing again adds nothing twice."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path)
        parser.add_argument(
            "--project",
            required=True,
            help="a project's number, the name of one that the user manages, or of a new one",
        )
        parser.add_argument("--user", required=True, help="who imports; owns the project if it is new")
        parser.add_argument(
            "--labels", choices=imports.LABELS_AS, default="settled", help="what labels become"
        )
        parser.add_argument("--test-as-gold", action="store_true", help="the test split's labels become gold")

    def handle(self, *args: Any, **options: Any) -> None:
        folder: Path = options["folder"]
        if not folder.is_dir():
            raise CommandError(f"{folder} is no folder")
        user = get_user_model().objects.filter(username=options["user"]).first()
        if user is None:
            raise CommandError(f"there is no account named {options['user']}")
        project = self._project(options["project"], folder, user)
        report = imports.import_folder(
            project=project,
            folder=folder,
            labels_as=options["labels"],
            test_as_gold=options["test_as_gold"],
            add_classes=True,
            actor=user,
            on_progress=_Bar(),
        )
        for problem in report.problems:
            self.stderr.write(str(problem))
        self.stdout.write(
            f"project {project.pk}: {report.created} pictures imported, {report.existing} were there, "
            f"{report.labelled} with labels ({report.gold} gold), {len(report.problems)} problems"
        )

    def _project(self, named: str, folder: Path, user: Any) -> Project:
        if named.isdecimal():
            project = Project.objects.filter(pk=int(named)).first()
            if project is None:
                raise CommandError(f"there is no project {named}")
            return project
        own = Project.objects.filter(
            name=named, memberships__user=user, memberships__role__in=[Role.OWNER, Role.MANAGER]
        )
        if own.count() > 1:
            numbers = ", ".join(str(project.pk) for project in own.order_by("pk"))
            raise CommandError(f"several projects have this name: give one of the numbers {numbers}")
        if own.exists():
            return own.get()
        schema = inspect(folder).schema
        if not schema.classes:
            raise CommandError("no label file here names a class: make the project first, then give its id")
        return projects.create(name=named, schema=schema, owner=user)


class _Bar:
    """A progress bar on standard error: a line that is drawn over on a terminal, else one in ten seconds."""

    def __init__(self) -> None:
        self.every = 0.2 if sys.stderr.isatty() else 10.0
        self.next = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now < self.next and done < total:
            return
        self.next = now + self.every
        filled = 30 * done // total
        end = "\r" if sys.stderr.isatty() and done < total else "\n"
        sys.stderr.write(f"[{'█' * filled}{'·' * (30 - filled)}] {done}/{total} pictures{end}")
        sys.stderr.flush()
