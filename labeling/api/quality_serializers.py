"""What the API tells of how reliable people are and how well they agree."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from labeling.models import ConsensusFit, Skill


class IntervalSerializer(serializers.Serializer[Any]):
    value = serializers.FloatField()
    low = serializers.FloatField(help_text="Of the 90 % interval.")
    high = serializers.FloatField()
    trials = serializers.FloatField(help_text="What it was measured on; may be fractions of an object.")


class SkillSerializer(serializers.Serializer[Skill]):
    """A person's or a model's reliability at one kind of shape, as the fit in force has it."""

    id = serializers.IntegerField()
    username = serializers.CharField(allow_null=True, help_text="Nothing for a model.")
    model = serializers.CharField(help_text="The model's name; empty for a person.")
    kind = serializers.CharField()
    recall = serializers.FloatField()
    recall_low = serializers.FloatField()
    recall_high = serializers.FloatField()
    precision = serializers.FloatField()
    precision_low = serializers.FloatField()
    precision_high = serializers.FloatField()
    spread_px = serializers.FloatField(allow_null=True)
    spread = serializers.FloatField(allow_null=True, help_text="In sizes of the object.")
    bias = serializers.ListField(
        child=serializers.FloatField(),
        allow_null=True,
        help_text="Boxes: of centre x, centre y, width, height, in shares of the size; joints: x, y.",
    )
    class_accuracy = IntervalSerializer(allow_null=True)
    swap_rate = IntervalSerializer(allow_null=True, help_text="How often left and right are exchanged.")
    visibility_accuracy = IntervalSerializer(allow_null=True)
    confusion = serializers.DictField(help_text="True class id to class id said to probability.")
    seconds_per_image = serializers.FloatField(allow_null=True)
    answers = serializers.IntegerField()
    preferred = serializers.BooleanField(help_text="Tasks that ask for one more answer go to them first.")

    def to_representation(self, instance: Skill) -> dict[str, Any]:
        """The instance comes with its user."""
        plain = (
            "id", "model", "kind", "recall", "recall_low", "recall_high", "precision", "precision_low",
            "precision_high", "spread_px", "spread", "seconds_per_image", "answers", "preferred",
        )  # fmt: skip
        told = {name: getattr(instance, name) for name in plain}
        for name in ("class_accuracy", "swap_rate", "visibility_accuracy"):
            told[name] = _interval(instance.details.get(name))
        return told | {
            "username": None if instance.user is None else instance.user.get_username(),
            "bias": instance.details.get("bias"),
            "confusion": instance.details.get("confusion", {}),
        }


def _interval(measured: Mapping[str, Any] | None) -> dict[str, float] | None:
    if measured is None:
        return None
    low, high = measured["interval"]
    return {"value": measured["value"], "low": low, "high": high, "trials": measured["trials"]}


class AlphaSerializer(serializers.Serializer[Any]):
    kind = serializers.CharField()
    value = serializers.FloatField(help_text="Krippendorff's alpha: 1 where people agree, 0 as by chance.")
    low = serializers.FloatField(help_text="Of the 90 % interval.")
    high = serializers.FloatField()
    images = serializers.IntegerField()


class ClassAgreementSerializer(serializers.Serializer[Any]):
    class_id = serializers.IntegerField()
    class_name = serializers.CharField(help_text="Empty for a class that was removed.")
    kind = serializers.CharField()
    alpha = serializers.FloatField(allow_null=True)
    f1 = serializers.FloatField(help_text="Of a mean pair of people.")
    images = serializers.IntegerField()


class PairSerializer(serializers.Serializer[Any]):
    one = serializers.CharField()
    other = serializers.CharField()
    f1 = serializers.FloatField(help_text="Of one's objects against the other's.")
    images = serializers.IntegerField(help_text="That both have answered.")


class AgreementSerializer(serializers.Serializer[Any]):
    fit = serializers.IntegerField(allow_null=True, help_text="The number of the fit in force.")
    images = serializers.IntegerField(help_text="That two people or more answered.")
    sampled = serializers.IntegerField(help_text="How many of them were compared.")
    left_out = serializers.IntegerField(
        help_text="Answers that are not independent: people's who were shown suggestions, and models'."
    )
    alpha = AlphaSerializer(many=True)
    by_class = ClassAgreementSerializer(many=True)
    pairs = PairSerializer(many=True)


class FitSerializer(serializers.Serializer[ConsensusFit]):
    id = serializers.IntegerField()
    number = serializers.IntegerField()
    in_force = serializers.SerializerMethodField()
    method = serializers.CharField()
    digest = serializers.CharField(help_text="The same answers make the same digest.")
    tasks = serializers.IntegerField(help_text="That it was learnt from.")
    answers = serializers.IntegerField()
    gold = serializers.IntegerField(help_text="Tasks of these that an expert had answered.")
    created_by = serializers.CharField(source="created_by.username", default=None, allow_null=True)
    created_at = serializers.DateTimeField()

    def get_in_force(self, fit: ConsensusFit) -> bool:
        return fit.project.consensus_fit_id == fit.pk
