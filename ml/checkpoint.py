"""Weights on disk: safetensors and JSON, never a pickle; written beside and renamed, so never half there."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ml.schema import canonical_json


class BrokenModel(ValueError):
    """A model folder that cannot be used; the message names the file and what is wrong."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
    """One file with the tensors and the notes (JSON), there in full or not at all."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(ready, beside, metadata={"notes": canonical_json(notes).decode()})
    _sync(beside)
    beside.replace(path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_tensors` wrote. Raises `BrokenModel`."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no dict)
            notes = json.loads((file.metadata() or {}).get("notes", "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise BrokenModel(f"{path}: {error}") from error
    return tensors, notes


def write_json(path: Path, value: object) -> None:
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    beside.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")
    _sync(beside)
    beside.replace(path)


def read_card(folder: Path) -> dict[str, Any]:
    """A model folder's `card.json`. Raises `BrokenModel`."""
    path = folder / "card.json"
    try:
        card = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BrokenModel(f"{path}: {error}") from error
    if not isinstance(card, dict) or card.get("format") != 1:
        raise BrokenModel(f"{path}: not the card of a model that this version can read")
    return card


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
