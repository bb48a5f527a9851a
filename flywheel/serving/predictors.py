"""The models that this process holds: one `Predictor` a version, the least recently used one goes first."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image

from flywheel import selectors
from flywheel.models import ModelStatus, ModelVersion
from flywheel.services import model_files, prediction
from ml.predict import Predictor
from ml.schema import Detection

MAX_MODELS: Final = 4


class NoChampion(LookupError):
    """The project has no model that could answer yet."""


@dataclass(frozen=True, slots=True)
class Served:
    """A loaded model version and what its answers name."""

    name: str
    snapshot: str
    predictor: Predictor
    calibration: dict[str, Any]

    def predict(self, pictures: list[Image.Image]) -> list[list[Detection]]:
        """Per picture its detections with calibrated scores, best first."""
        return [prediction.calibrated(found, self.calibration) for found in self.predictor.predict(pictures)]


class Predictors:
    """Loads each version once, whoever asks at the same time; its calibration is the newest at each asking."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: OrderedDict[int, Predictor] = OrderedDict()

    def champion(self, project_id: int) -> Served:
        """The project's champion as it is now. Raises `NoChampion`."""
        model = (
            ModelVersion.objects.filter(project_id=project_id, status=ModelStatus.CHAMPION)
            .select_related("run__snapshot")
            .first()
        )
        if model is None:
            raise NoChampion("this project has no champion yet; train a model first")
        evaluation = selectors.latest_evaluation(model)
        return Served(
            name=model.name,
            snapshot=model.run.snapshot.version,
            predictor=self._predictor(model),
            calibration={} if evaluation is None else evaluation.metrics["calibration"],
        )

    def _predictor(self, model: ModelVersion) -> Predictor:
        with self._lock:
            predictor = self._loaded.get(model.pk)
            if predictor is None:
                predictor = self._loaded[model.pk] = Predictor.load(model_files.unpack(model=model))
                while len(self._loaded) > MAX_MODELS:
                    self._loaded.popitem(last=False)
            self._loaded.move_to_end(model.pk)
            return predictor
