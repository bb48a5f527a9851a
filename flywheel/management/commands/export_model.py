"""Writes a model version as an ONNX file that was checked against torch."""

import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from flywheel.models import ModelVersion
from flywheel.services import model_files


class Command(BaseCommand):
    help = "Write a model as an ONNX file: the one with this number, or the project's champion."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("project", type=int)
        parser.add_argument("file", type=Path)
        parser.add_argument("--number", type=int, help="the model's number in its project; else its champion")

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = {"status": "champion"} if options["number"] is None else {"number": options["number"]}
        model = ModelVersion.objects.filter(project=options["project"], **wanted).first()
        if model is None:
            told = "champion" if options["number"] is None else f"model {options['number']}"
            raise CommandError(f"project {options['project']} has no {told}")
        folder = model_files.unpack(model=model)
        # a process of its own: this one has no torch
        command = [
            sys.executable,
            "-m",
            "ml.export",
            "--model",
            str(folder),
            "--out",
            str(options["file"].absolute()),
        ]
        done = subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CommandError(done.stderr.strip().rpartition("\n")[2] or "the export ended without a word")
        self.stdout.write(done.stdout.strip())
