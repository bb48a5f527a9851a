"""Reads for the wheel's pages and API."""

from dataclasses import dataclass

from flywheel.models import Evaluation, ModelStatus, ModelVersion, Round
from labeling.models import Project


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A round's figures: quality of its model on gold against how many pictures it learnt from.

    AP50 and its 90 % interval are in 0–1; `random_f1` is the champion's agreement with people on the
    uniformly drawn pictures of the round, nothing where there were none.
    """

    round: int
    labelled: int
    ap50: float
    ap50_low: float | None
    ap50_high: float | None
    ap: float | None
    pck: float | None
    decision: str
    random_f1: float | None
    random_pictures: int
    accepted_share: float | None
    seconds_per_answer: float | None


def champion(project: Project) -> ModelVersion | None:
    return ModelVersion.objects.filter(project=project, status=ModelStatus.CHAMPION).first()


def previous_champion(project: Project) -> ModelVersion | None:
    """The model that a roll-back would bring back."""
    retired = ModelVersion.objects.filter(project=project, status=ModelStatus.RETIRED)
    return retired.exclude(promoted_at=None).order_by("-promoted_at").first()


def curve(project: Project) -> list[CurvePoint]:
    """One point a finished round, oldest first."""
    points = []
    rounds = Round.objects.filter(project=project).exclude(snapshot=None).select_related("snapshot")
    for turn in rounds.order_by("number"):
        figures = turn.metrics
        if figures.get("ap50") is None or turn.snapshot is None:
            continue
        low, high = figures.get("interval") or (None, None)
        collection = figures.get("collection", {})
        random_slice = collection.get("random_slice", {})
        points.append(
            CurvePoint(
                round=turn.number,
                labelled=turn.snapshot.images,
                ap50=figures["ap50"],
                ap50_low=low,
                ap50_high=high,
                ap=figures.get("ap"),
                pck=figures.get("pck"),
                decision=turn.decision,
                random_f1=random_slice.get("f1"),
                random_pictures=random_slice.get("pictures", 0),
                accepted_share=collection.get("accepted_share"),
                seconds_per_answer=collection.get("seconds_per_answer"),
            )
        )
    return points


def latest_evaluation(model: ModelVersion) -> Evaluation | None:
    return Evaluation.objects.filter(model_version=model).order_by("-id").first()
