"""Writing a model as an ONNX file into the store."""

import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings

from flywheel.models import ModelVersion
from flywheel.services import model_exports, model_files
from labeling import storage
from labeling.services import jobs
from ml.checkpoint import BrokenModel, sha256_of
from ml.export import ExportRefused, export


@jobs.handler("export_model")
def export_model(running: jobs.Running) -> dict[str, Any]:
    """The file, and how far its answers are from torch's. One that disagrees is not handed out."""
    model = ModelVersion.objects.select_related("project").get(pk=running.params["model"])
    folder = model_files.unpack(model=model)
    settings.WORK_DIRECTORY.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="onnx-", dir=settings.WORK_DIRECTORY) as beside:
        path = Path(beside) / f"{model.name}.onnx"
        try:
            exported = export(folder, path, on_progress=lambda told: running.report(0.1, told))
        except (ExportRefused, BrokenModel) as error:
            raise jobs.CannotRun(str(error)) from error
        running.report(0.9, "putting the file into the store")
        stored_as = f"exports/{running.job.pk}-{running.token}"
        storage.store().put_file(stored_as, path)
        return {
            "object": stored_as,
            "sha256": sha256_of(path),
            "size_bytes": exported.bytes,
            "name": path.name,
            "content_type": model_exports.CONTENT_TYPE,
            "differences": dict(exported.parity.differences),
            "detections": exported.parity.detections,
        }
