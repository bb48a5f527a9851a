"""What the wheel's API gives."""

from typing import Any

from rest_framework import serializers

from flywheel import selectors
from flywheel.models import ModelStatus, ModelVersion, Round, RoundStatus
from flywheel.services import rounds
from labeling.api.serializers import JobSerializer


class SnapshotSerializer(serializers.Serializer[Any]):
    version = serializers.CharField()
    images = serializers.IntegerField()
    gold_images = serializers.IntegerField()
    objects = serializers.IntegerField(source="objects_count")
    created_at = serializers.DateTimeField()


class StepSerializer(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=RoundStatus.choices)
    at = serializers.DateTimeField()


class RoundSerializer(serializers.Serializer[Round]):
    id = serializers.IntegerField()
    number = serializers.IntegerField()
    status = serializers.ChoiceField(choices=RoundStatus.choices)
    trigger = serializers.CharField(
        help_text="What ended collecting: labels, schedule, drift, schema or person."
    )
    target_new_labels = serializers.IntegerField()
    new_labels = serializers.SerializerMethodField()
    snapshot = SnapshotSerializer(allow_null=True)
    job = JobSerializer(allow_null=True)
    model = serializers.CharField(source="model_version.name", default=None, allow_null=True)
    decision = serializers.CharField(
        help_text="promoted, rejected, or nothing yet. `metrics.better` tells better from not worse."
    )
    reason = serializers.CharField(
        help_text="Every reason of the gate's decision, or why the round ended without one."
    )
    metrics = serializers.DictField(
        help_text=(
            "Of the challenger: ap50, ap, oks_ap, pck (0 to 1), the 90 % `interval` of AP50; `gain` over the "
            "champion (mean, low, high, in the project's `metric`); `slices` by class, size and group, each with "
            "its own gain; `champion`, `control` (trained from scratch) and `human` (F1 of single answers) beside it."
        )
    )
    history = StepSerializer(many=True)
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)

    def get_new_labels(self, turn: Round) -> int:
        return rounds.new_labels(turn)


class ModelSerializer(serializers.Serializer[ModelVersion]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    number = serializers.IntegerField()
    status = serializers.ChoiceField(choices=ModelStatus.choices)
    snapshot = serializers.CharField(source="run.snapshot.version")
    code_version = serializers.CharField(source="run.code_version")
    config = serializers.DictField(source="run.config")
    weights_sha256 = serializers.CharField()
    metrics = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()
    promoted_at = serializers.DateTimeField(allow_null=True)

    def get_metrics(self, model: ModelVersion) -> dict[str, Any] | None:
        evaluation = selectors.latest_evaluation(model)
        return None if evaluation is None else evaluation.metrics


class RollBackSerializer(serializers.Serializer[Any]):
    champion = serializers.IntegerField(
        required=False, help_text="The champion that you see and want to be rid of."
    )


class CurvePointSerializer(serializers.Serializer[selectors.CurvePoint]):
    round = serializers.IntegerField()
    labelled = serializers.IntegerField()
    ap50 = serializers.FloatField()
    ap50_low = serializers.FloatField(allow_null=True)
    ap50_high = serializers.FloatField(allow_null=True)
    ap = serializers.FloatField(allow_null=True)
    pck = serializers.FloatField(allow_null=True)
    decision = serializers.CharField()
    random_f1 = serializers.FloatField(allow_null=True)
    random_pictures = serializers.IntegerField()
    accepted_share = serializers.FloatField(allow_null=True)
    seconds_per_answer = serializers.FloatField(allow_null=True)


class CurveSerializer(serializers.Serializer[Any]):
    points = CurvePointSerializer(many=True)
