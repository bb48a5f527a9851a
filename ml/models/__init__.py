"""Detectors, by name: `architecture(name)(layout)` builds one for a project's classes."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any, Final, Protocol, runtime_checkable

from ml.models.base import Build, Model, UnusableArchitecture
from ml.models.dense import DenseDetector
from ml.schema import Layout

ARCHITECTURES: Mapping[str, Build] = {
    "dense-small": DenseDetector,
}
PRETRAINED: Final = "transformers:"
"""Before the weights' folder or hub name, as in `transformers:PekingU/rtdetr_v2_r18vd`."""
MISSING_EXTRA: Final = ("transformers", "scipy")

__all__ = [
    "ARCHITECTURES",
    "PRETRAINED",
    "Build",
    "Model",
    "UnusableArchitecture",
    "architecture",
    "configuration_of",
    "restored",
]


@runtime_checkable
class _Configured(Protocol):
    """A model that is more than its name: what else rebuilds it, as JSON."""

    @property
    def configuration(self) -> Mapping[str, Any]: ...


def architecture(name: str) -> Build:
    """What builds the detector of this name; weights that the name points to are read when it is built.

    Raises `UnusableArchitecture`, here or when building.
    """
    if name.startswith(PRETRAINED):
        build: Build = _pretrained().from_weights(name.removeprefix(PRETRAINED))
        return build
    if name not in ARCHITECTURES:
        raise UnusableArchitecture(
            f"There is no architecture {name!r}; choose one of {', '.join(ARCHITECTURES)}, "
            f"or {PRETRAINED} and the folder or hub name of weights."
        )
    return ARCHITECTURES[name]


def configuration_of(model: Model) -> dict[str, Any]:
    """What a card must keep, beside the architecture's name, for `restored`; JSON."""
    return dict(model.configuration) if isinstance(model, _Configured) else {}


def restored(name: str, layout: Layout, configuration: Mapping[str, Any]) -> Model:
    """The model of a card, its weights still to be loaded; reads no file and asks no network.

    Raises `UnusableArchitecture`.
    """
    if name.startswith(PRETRAINED):
        model: Model = _pretrained().from_configuration(layout, configuration)
        return model
    return architecture(name)(layout)


def _pretrained() -> ModuleType:
    """Imported when asked for: the extra it needs is optional, and takes a second to load."""
    try:
        from ml.models import pretrained
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in MISSING_EXTRA:
            raise
        raise UnusableArchitecture(
            f"Architectures that begin with {PRETRAINED} need an optional extra that is not installed here: "
            "run `.venv/bin/pip install --group transformers -c constraints.txt`, then start again."
        ) from error
    return pretrained
