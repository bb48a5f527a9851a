"""What the API takes and gives about reviews, returned objects, cards and time spent."""

from typing import Any

from rest_framework import serializers

from labeling.api import serializers as s
from labeling.models import Annotation, Card, CardVerdict, Return, Skip, Task
from labeling.services import cards, pictures, projects, reviews

MAX_PASSED = 200


class ReviewNextSerializer(serializers.Serializer[Any]):
    passed = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**62),
        max_length=MAX_PASSED,
        default=list,
        help_text="Tasks to leave to another time; those held are released.",
    )
    with_disputed = serializers.BooleanField(
        default=False,
        help_text="Whether disputed tasks come too, after the others; their cards decide them else.",
    )


class BaseRevisionSerializer(serializers.Serializer[Any]):
    base_revision = serializers.IntegerField(
        min_value=0,
        max_value=2**30,
        help_text="The revision of the consensus that was looked at; 0 for none.",
    )


class AcceptSerializer(BaseRevisionSerializer):
    as_gold = serializers.BooleanField(default=False, help_text="Makes the task gold; takes a manager.")


class CorrectSerializer(AcceptSerializer):
    """The envelope; `shapes` is checked by the shapes' own parser."""


class CorrectBodySerializer(AcceptSerializer):
    shapes = s.ShapeSerializer(many=True)


class SendBackSerializer(BaseRevisionSerializer):
    annotation = serializers.UUIDField()
    shape_id = serializers.CharField(max_length=200, validators=[s.no_unstorable_text])
    comment = serializers.CharField(max_length=2000, validators=[s.no_unstorable_text])


class RejectSerializer(BaseRevisionSerializer):
    reason = serializers.CharField(
        max_length=500, allow_blank=True, default="", validators=[s.no_unstorable_text]
    )


class ReopenSerializer(BaseRevisionSerializer):
    to = serializers.ChoiceField(choices=["review", "queue"])
    more_answers = serializers.IntegerField(min_value=0, max_value=reviews.MAX_EXTRA_ANSWERS, default=0)


class SkipReasonSerializer(serializers.Serializer[Skip]):
    username = serializers.CharField(source="user.username")
    reason = serializers.CharField()
    created_at = serializers.DateTimeField()


class ReturnSerializer(serializers.Serializer[Return]):
    id = serializers.IntegerField()
    task_id = serializers.IntegerField()
    task_name = serializers.CharField(source="task.name")
    annotation = serializers.UUIDField(source="annotation_id")
    shape_id = serializers.CharField()
    comment = serializers.CharField()
    author = serializers.CharField(source="author.username")
    reviewer = serializers.CharField(source="reviewer.username", default=None, allow_null=True)
    created_at = serializers.DateTimeField()


class ReviewedCardSerializer(serializers.Serializer[Card]):
    """A card as reviewers see it."""

    id = serializers.IntegerField()
    shape = s.ShapeSerializer()
    confidence = serializers.FloatField()
    slots = serializers.IntegerField()
    keeps = serializers.IntegerField()
    drops = serializers.IntegerField()
    verdict = serializers.CharField()
    decided_at = serializers.DateTimeField(allow_null=True)


class ReviewSerializer(serializers.Serializer[Task]):
    task = s.TaskSerializer()
    cause = serializers.CharField(source="review_cause")
    expires_at = serializers.DateTimeField(
        source="review_expires_at", allow_null=True, help_text="Until when the reviewer below holds it."
    )
    reviewer = serializers.CharField(allow_null=True)
    image = s.LeasedImageSerializer()
    schema = s.SchemaSerializer()
    base_revision = serializers.IntegerField()
    consensus = s.ConsensusSerializer(allow_null=True)
    annotations = s.AnnotationSerializer(many=True)
    skips = SkipReasonSerializer(many=True)
    returns = ReturnSerializer(many=True)
    cards = ReviewedCardSerializer(many=True)

    def to_representation(self, instance: Task) -> dict[str, Any]:
        """The instance comes with project, image and consensus."""
        answers = Annotation.objects.filter(task=instance, is_current=True).select_related("author")
        skips = instance.skips.select_related("user").order_by("id")
        returns = instance.returns.filter(answered_at=None).select_related("task", "author", "reviewer")
        expires_at = instance.review_expires_at
        return {
            "task": s.TaskSerializer(instance).data,
            "cause": instance.review_cause,
            "expires_at": None if expires_at is None else expires_at.isoformat(),
            "reviewer": None if instance.reviewer is None else instance.reviewer.username,
            "image": image_of(instance),
            "schema": projects.current_schema(instance.project).definition,
            "base_revision": 0 if instance.consensus is None else instance.consensus.revision,
            "consensus": (
                None if instance.consensus is None else s.ConsensusSerializer(instance.consensus).data
            ),
            "annotations": [s.AnnotationSerializer(answer).data for answer in answers.order_by("created_at")],
            "skips": [SkipReasonSerializer(skip).data for skip in skips],
            "returns": [ReturnSerializer(sent).data for sent in returns.order_by("id")],
            "cards": [ReviewedCardSerializer(card).data for card in instance.cards.order_by("id")],
        }


class ReviewingSerializer(serializers.Serializer[Any]):
    username = serializers.CharField()
    task_id = serializers.IntegerField()
    expires_at = serializers.DateTimeField()


class ReviewEmptinessSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()
    held = ReviewingSerializer(many=True)
    returned = serializers.IntegerField()
    disputed = serializers.IntegerField()


class NextReviewSerializer(serializers.Serializer[Any]):
    review = ReviewSerializer(allow_null=True)
    empty = ReviewEmptinessSerializer(allow_null=True)


class LeasedAgainSerializer(serializers.Serializer[Any]):
    task_id = serializers.IntegerField()
    shape_id = serializers.CharField()
    lease = s.LeaseSerializer()


class CardsNextSerializer(serializers.Serializer[Any]):
    count = serializers.IntegerField(min_value=1, max_value=cards.MAX_BATCH, default=cards.MAX_BATCH)


class CardSerializer(serializers.Serializer[Card]):
    """A card as the person who is asked sees it: nothing of who drew the object, or how many."""

    id = serializers.IntegerField()
    shape = s.ShapeSerializer()
    class_name = serializers.CharField()
    region = serializers.ListField(
        child=serializers.FloatField(),
        min_length=4,
        max_length=4,
        help_text="The part of the picture to show, xyxy: the object and what is around it.",
    )
    image = s.LeasedImageSerializer()


class CardsSerializer(serializers.Serializer[Any]):
    cards = CardSerializer(many=True)
    expires_at = serializers.DateTimeField(allow_null=True)


class CardVerdictSerializer(serializers.Serializer[Any]):
    verdict = serializers.ChoiceField(choices=CardVerdict.choices)
    seconds_active = serializers.FloatField(min_value=0, max_value=86_400 * 7, default=0)


class CardAnsweredSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    verdict = serializers.CharField()


class TimeSpentSerializer(serializers.Serializer[Any]):
    day = serializers.DateField()
    user_id = serializers.IntegerField()
    username = serializers.CharField()
    answers = serializers.IntegerField()
    cards = serializers.IntegerField()
    seconds_active = serializers.FloatField()


class TimeSerializer(serializers.Serializer[Any]):
    items = TimeSpentSerializer(many=True)
    next = serializers.DateField(allow_null=True, help_text="`until` of the days before these.")


def image_of(task: Task) -> dict[str, Any]:
    return {
        "width": task.image.width,
        "height": task.image.height,
        "tiers": {tier: s.tier_url(task, tier) for tier in pictures.TIERS},
    }


def card_as_asked(card: Card, class_names: dict[int, str]) -> dict[str, Any]:
    return {
        "id": card.pk,
        "shape": card.shape,
        "class_name": class_names.get(card.shape["class_id"], ""),
        "region": cards.region(card),
        "image": image_of(card.task),
    }
