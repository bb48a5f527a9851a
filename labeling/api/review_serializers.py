"""What the API takes and gives about reviews, returned objects, cards and time spent."""

from typing import Any

from rest_framework import serializers

from labeling.api import serializers as s
from labeling.models import Annotation, Card, CardVerdict, Return, ReviewCause, Skip, Task, TaskState
from labeling.services import cards, crowd, disputes, fits, overlap, pictures, projects, reviews

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


class CausesSerializer(serializers.Serializer[Any]):
    """Expected errors by cause; those that are left out are nought."""

    surplus = serializers.FloatField(required=False, help_text="An accepted object is not there.")
    missed = serializers.FloatField(required=False, help_text="A rejected object is there.")
    unseen = serializers.FloatField(required=False, help_text="There are objects that nobody drew.")
    joints = serializers.FloatField(required=False, help_text="Joints are off, swapped, or wrongly hidden.")
    place = serializers.FloatField(required=False, help_text="A box is off.")

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        wrong_class = serializers.FloatField(required=False, help_text="An object is of another class.")
        return super().get_fields() | {"class": wrong_class}


class ClassShareSerializer(serializers.Serializer[Any]):
    class_id = serializers.IntegerField()
    share = serializers.FloatField(help_text="How probable this class is.")


class ObjectEvidenceSerializer(serializers.Serializer[Any]):
    """What speaks for one object of the consensus, or for one that it rejected."""

    id = serializers.CharField(help_text="The shape's, in the consensus or among the rejected.")
    accepted = serializers.BooleanField()
    disputed = serializers.BooleanField(help_text="Whether the vote about it is too close to call.")
    existence = serializers.FloatField(help_text="How probably it is there at all.")
    confidence = serializers.FloatField(help_text="How probably it is there and of its class.")
    drawn_by = serializers.ListField(child=serializers.CharField(), help_text="People and models.")
    seen_by = serializers.IntegerField(help_text="How many looked at the picture.")
    classes = ClassShareSerializer(many=True)
    class_tie = serializers.BooleanField()
    risk = serializers.FloatField(help_text="Its part of the picture's risk.")
    causes = CausesSerializer()


class EvidenceSerializer(serializers.Serializer[Any]):
    empty = serializers.FloatField(help_text="How probably there is nothing to draw.")
    causes = CausesSerializer()
    objects = ObjectEvidenceSerializer(many=True, help_text="Disputed ones first, then by their risk.")


class NextStepSerializer(serializers.Serializer[Any]):
    """What comes next for a task, and why: a code each."""

    what = serializers.ChoiceField(choices=["answer", "cards", "reviewer", "nothing"])
    why = serializers.CharField()
    answers = serializers.IntegerField(help_text="That it has.")
    wanted = serializers.IntegerField(help_text="Answers that it wants by now.")
    target_risk = serializers.FloatField(
        allow_null=True, help_text="Where the overlap is adaptive: below this no more is asked for."
    )


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
    evidence = EvidenceSerializer(allow_null=True, help_text="Nothing for what a person settled.")
    next_step = NextStepSerializer()
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
            "evidence": evidence_of(instance),
            "next_step": next_step_of(instance),
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


def evidence_of(task: Task) -> dict[str, Any] | None:
    """What stands beside a consensus of answers, with people by their names."""
    settled = task.consensus
    if settled is None or "objects" not in settled.evidence:
        return None
    stored = settled.evidence
    accepted = {shape["id"] for shape in settled.shapes}
    names = fits.usernames({name for item in stored["objects"].values() for name, _ in item["members"]})
    found = [_object(key, item, key in accepted, names) for key, item in stored["objects"].items()]
    found.sort(key=lambda item: (not item["disputed"], -item["risk"], item["id"]))
    return {"empty": stored["empty"], "causes": stored["causes"], "objects": found}


def _object(key: str, item: dict[str, Any], accepted: bool, names: dict[str, str]) -> dict[str, Any]:
    confidence = item["confidence"]
    return {
        "id": key,
        "accepted": accepted,
        "disputed": disputes.is_close(accepted, confidence),
        "existence": item["existence"],
        "confidence": confidence,
        "drawn_by": _called({name for name, _ in item["members"]}, names),
        "seen_by": item["seen_by"],
        "classes": [{"class_id": class_id, "share": share} for class_id, share in item["classes"]],
        "class_tie": item["tie"],
        "risk": sum(item["causes"].values()) or (1 - confidence if accepted else confidence),
        "causes": item["causes"],
    }


def _called(annotators: set[str], names: dict[str, str]) -> list[str]:
    """What people and, behind them, models are called."""
    models = {crowd.model_name(name) for name in annotators} - {""}
    people = [names.get(name, name) for name in annotators if not crowd.model_name(name)]
    return sorted(people) + [f"the model {model}" for model in sorted(models)]


def next_step_of(task: Task) -> dict[str, Any]:
    what, why = _step(task)
    return {
        "what": what,
        "why": why,
        "answers": task.answers,
        "wanted": max(task.answers, overlap.needed(task)) if what == "answer" else task.answers,
        "target_risk": task.project.target_risk if overlap.is_adaptive(task.project) else None,
    }


def _step(task: Task) -> tuple[str, str]:
    stored = {} if task.consensus is None else task.consensus.evidence
    if task.state in (TaskState.QUEUED, TaskState.IN_PROGRESS):
        return "answer", "risk" if task.asked else "first_answers"
    if task.state == TaskState.DISPUTED:
        return "cards", "disputed"
    if task.state != TaskState.NEEDS_REVIEW:
        return "nothing", task.state
    if task.review_cause != ReviewCause.RISK:
        return "reviewer", task.review_cause
    if stored.get("tied"):
        return "reviewer", "cards_divided"
    why = stored.get("why", "risk")
    return "reviewer", why if why in ("most_answers", "nobody_free") else "risk"


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
