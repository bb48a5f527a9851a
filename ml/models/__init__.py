"""Detectors, by name: `ARCHITECTURES[name](layout)` builds one with fresh weights."""

from collections.abc import Mapping

from ml.models.base import Build, Model
from ml.models.dense import DenseDetector

ARCHITECTURES: Mapping[str, Build] = {
    "dense-small": DenseDetector,
}

__all__ = ["ARCHITECTURES", "Build", "Model"]
