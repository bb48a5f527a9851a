"""Freezes a project's settled labels and writes the snapshot as a folder, for `python -m ml.train`."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from flywheel.models import Snapshot
from flywheel.services import snapshots
from labeling.models import Project


class Command(BaseCommand):
    help = "Write a snapshot as a folder: the one with this hash, or a new one of what is settled now."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", type=int)
        parser.add_argument("folder", type=Path)
        parser.add_argument("--snapshot", default="", help="the beginning of its sha256")

    def handle(self, *args: Any, **options: Any) -> None:
        project = Project.objects.filter(pk=options["project"]).first()
        if project is None:
            raise CommandError(f"there is no project {options['project']}")
        wanted = options["snapshot"]
        try:
            snapshot = (
                Snapshot.objects.get(project=project, version__startswith=wanted)
                if wanted
                else snapshots.freeze(project=project)
            )
        except (Snapshot.DoesNotExist, Snapshot.MultipleObjectsReturned):
            raise CommandError(f"not exactly one snapshot's version begins with {wanted}") from None
        except snapshots.NothingToLearn as error:
            raise CommandError(str(error)) from error
        opened = snapshots.unpack(snapshot=snapshot, folder=options["folder"])
        self.stdout.write(f"{opened.version}: {len(opened.examples)} pictures in {options['folder']}")
