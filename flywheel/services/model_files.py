"""A model version's files, unpacked from the store into a folder that `ml` reads."""

import json
from pathlib import Path

from django.conf import settings

from flywheel.models import ModelVersion
from flywheel.services.snapshots import write_beside
from labeling import storage


def unpack(*, model: ModelVersion) -> Path:
    """The folder with this version's `model.safetensors` and `card.json`; what is there already is kept."""
    folder: Path = settings.WORK_DIRECTORY / "models" / model.weights_sha256
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "model.safetensors").exists():
        write_beside(folder / "model.safetensors", storage.get_blob(storage.store(), model.weights_sha256))
    if not (folder / "card.json").exists():
        write_beside(folder / "card.json", json.dumps(model.card).encode())
    return folder
