"""What the API takes and gives. Shapes and schemas are checked by their own parsers, not here."""

import math
from collections.abc import Sequence
from typing import Any, Final

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from labeling import consensus, selectors
from labeling.models import (
    Annotation,
    ApiToken,
    Consensus,
    Draft,
    Event,
    Job,
    Lease,
    Membership,
    Overlap,
    Project,
    Role,
    SchemaVersion,
    Task,
    UploadedFile,
)
from labeling.services import imports, jobs, pictures, predictions, projects
from labeling.shapes import Json

MAX_SETTINGS_DEPTH: Final = 8
MAX_NEW_LABELS: Final = 1_000_000
MAX_TARGET_RISK: Final = 1_000


class ErrorSerializer(serializers.Serializer[Any]):
    type = serializers.CharField()
    code = serializers.CharField()
    message = serializers.CharField()
    param = serializers.CharField(allow_null=True)


class MeSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    username = serializers.CharField()
    is_staff = serializers.BooleanField()


class ShapeSerializer(serializers.Serializer[Any]):
    """One drawn thing; which fields it has depends on its kind."""

    id = serializers.CharField(max_length=200)
    kind = serializers.ChoiceField(choices=["box", "keypoints", "tag"])
    class_id = serializers.IntegerField(min_value=1)
    xyxy = serializers.ListField(child=serializers.FloatField(), min_length=4, max_length=4, required=False)
    points = serializers.ListField(
        child=serializers.ListField(child=serializers.FloatField(), min_length=3, max_length=3),
        required=False,
    )
    provenance = serializers.CharField(required=False)
    score = serializers.FloatField(required=False)
    attributes = serializers.DictField(required=False)


class SkeletonSerializer(serializers.Serializer[Any]):
    joints = serializers.ListField(child=serializers.CharField())
    edges = serializers.ListField(child=serializers.ListField(child=serializers.IntegerField()))
    pairs = serializers.ListField(child=serializers.ListField(child=serializers.IntegerField()))


class LabelClassSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    kind = serializers.ChoiceField(choices=["box", "keypoints", "tag"])
    color = serializers.CharField(required=False)
    key = serializers.CharField(required=False, allow_blank=True)
    skeleton = SkeletonSerializer(required=False)


class SchemaSerializer(serializers.Serializer[Any]):
    classes = LabelClassSerializer(many=True)


class ProgressSerializer(serializers.Serializer[Any]):
    tasks = serializers.IntegerField()
    gold = serializers.IntegerField()
    queued = serializers.IntegerField()
    in_progress = serializers.IntegerField()
    needs_review = serializers.IntegerField()
    disputed = serializers.IntegerField()
    settled = serializers.IntegerField()
    rejected = serializers.IntegerField()
    answers = serializers.IntegerField()


class ProjectSerializer(serializers.Serializer[Project]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    guide = serializers.CharField()
    role = serializers.ChoiceField(choices=Role.choices)
    schema_version = serializers.IntegerField()
    schema = SchemaSerializer()
    overlap = serializers.ChoiceField(choices=Overlap.choices)
    answers_per_task = serializers.IntegerField()
    most_answers = serializers.IntegerField()
    target_risk = serializers.FloatField()
    trusted_from = serializers.FloatField()
    model_counts = serializers.BooleanField()
    consensus_method = serializers.CharField()
    blind_share = serializers.FloatField()
    gold_share = serializers.FloatField()
    skips_to_review = serializers.IntegerField()
    review_share = serializers.FloatField()
    review_risk = serializers.FloatField(allow_null=True)
    cards_per_dispute = serializers.IntegerField()
    suggestions_from = serializers.CharField(allow_null=True)
    suggestion_threshold = serializers.FloatField()
    round_settings = serializers.DictField()
    progress = ProgressSerializer()

    def to_representation(self, instance: Project) -> dict[str, Any]:
        version = projects.current_schema(instance)
        role = projects.role_of(project=instance, user=self.context["request"].user)
        return {
            "id": instance.pk,
            "name": instance.name,
            "guide": instance.guide,
            "role": role,
            "schema_version": version.number,
            "schema": version.definition,
            "overlap": instance.overlap,
            "answers_per_task": instance.answers_per_task,
            "most_answers": instance.most_answers,
            "target_risk": instance.target_risk,
            "trusted_from": instance.trusted_from,
            "model_counts": instance.model_counts,
            "consensus_method": instance.consensus_method,
            "blind_share": instance.blind_share,
            "gold_share": instance.gold_share,
            "skips_to_review": instance.skips_to_review,
            "review_share": instance.review_share,
            "review_risk": instance.review_risk,
            "cards_per_dispute": instance.cards_per_dispute,
            "suggestions_from": instance.suggestions_from or None,
            "suggestion_threshold": instance.suggestion_threshold,
            "round_settings": instance.round_settings,
            "progress": selectors.progress(instance),
        }


def no_unstorable_text(value: str) -> None:
    """Refuses what PostgreSQL would refuse, so that SQLite does not take it either."""
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise serializers.ValidationError("has a character that cannot be stored")


def storable_json(value: object, depth: int = 0) -> None:
    """Refuses JSON with text or numbers that PostgreSQL would refuse, or nested without need."""
    if depth > MAX_SETTINGS_DEPTH:
        raise serializers.ValidationError("is nested too deeply")
    if isinstance(value, str):
        no_unstorable_text(value)
    elif isinstance(value, float | int) and not abs(value) < 2**53:  # also refuses NaN and infinities
        raise serializers.ValidationError("has a number that cannot be stored")
    elif isinstance(value, dict):
        for item in (*value.keys(), *value.values()):
            storable_json(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            storable_json(item, depth + 1)


class FiniteField(serializers.FloatField):
    """A number from `min_value` to `max_value`; the text "nan" is below neither and above neither."""

    def to_internal_value(self, data: Any) -> float:
        value = super().to_internal_value(data)
        if not math.isfinite(value):
            raise serializers.ValidationError("must be a finite number")
        return value


class ProjectSettingsSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=200, validators=[no_unstorable_text])
    guide = serializers.CharField(
        max_length=100_000, required=False, allow_blank=True, validators=[no_unstorable_text]
    )
    overlap = serializers.ChoiceField(
        choices=Overlap.choices,
        required=False,
        help_text="adaptive: one more answer at a time, while the risk is above the target. Choosing it turns "
        "audits and the model's voice on, unless the same request says otherwise.",
    )
    answers_per_task = serializers.IntegerField(
        min_value=1, max_value=50, required=False, help_text="Where the overlap is fixed."
    )
    most_answers = serializers.IntegerField(
        min_value=2, max_value=50, required=False, help_text="Where the overlap is adaptive."
    )
    target_risk = FiniteField(
        min_value=0,
        max_value=MAX_TARGET_RISK,
        required=False,
        help_text="Expected errors in a picture, above which one more answer is asked for.",
    )
    trusted_from = FiniteField(
        min_value=0,
        max_value=1,
        required=False,
        help_text="One answer will do from whoever's recall and precision surely are at least this.",
    )
    model_counts = serializers.BooleanField(
        required=False, help_text="Whether a model's earlier prediction is one more voice in the consensus."
    )
    consensus_method = serializers.CharField(
        required=False, help_text="How answers become one; a name that is not known is told all that are."
    )
    blind_share = FiniteField(min_value=0, max_value=1, required=False)
    lease_seconds = serializers.IntegerField(min_value=10, max_value=86_400, required=False)
    gold_share = FiniteField(min_value=0, max_value=0.5, required=False)
    skips_to_review = serializers.IntegerField(min_value=1, max_value=50, required=False)
    review_share = FiniteField(min_value=0, max_value=1, required=False)
    review_risk = FiniteField(min_value=0, max_value=1, required=False, allow_null=True)
    cards_per_dispute = serializers.IntegerField(min_value=0, max_value=20, required=False)
    round_settings = serializers.DictField(required=False, validators=[storable_json])

    def validate_consensus_method(self, value: str) -> str:
        if value not in consensus.METHODS:
            raise serializers.ValidationError(f"must be one of {', '.join(sorted(consensus.METHODS))}")
        return value

    def validate_round_settings(self, value: dict[str, Any]) -> dict[str, Any]:
        target = value.get("target_new_labels")
        if target is not None and (type(target) is not int or not 1 <= target <= MAX_NEW_LABELS):
            raise serializers.ValidationError(
                {"target_new_labels": f"must be a whole number from 1 to {MAX_NEW_LABELS}"}
            )
        if not isinstance(value.get("automatic", True), bool):
            raise serializers.ValidationError({"automatic": "must be true or false"})
        if not isinstance(value.get("strategy", ""), str):
            raise serializers.ValidationError({"strategy": "must be the name of a strategy"})
        if not isinstance(value.get("metric", ""), str):
            raise serializers.ValidationError({"metric": "must be the name of a metric"})
        for name in ("training", "thresholds"):
            if not isinstance(value.get(name, {}), dict):
                raise serializers.ValidationError({name: "must be an object"})
        if not isinstance(value.get("schedule"), dict | None):
            raise serializers.ValidationError({"schedule": "must be an object or null"})
        return value


class NewProjectSerializer(ProjectSettingsSerializer):
    schema = SchemaSerializer()


class SaveSchemaSerializer(serializers.Serializer[Any]):
    schema = SchemaSerializer()
    base_version = serializers.IntegerField(min_value=1)


class MemberSerializer(serializers.Serializer[Membership]):
    user_id = serializers.IntegerField(read_only=True)
    username = serializers.CharField(source="user.username")
    role = serializers.ChoiceField(choices=Role.choices)


class TaskSerializer(serializers.Serializer[Task]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    state = serializers.CharField()
    is_gold = serializers.BooleanField()
    reason = serializers.CharField()
    priority = serializers.FloatField()
    answers = serializers.IntegerField()
    slots = serializers.IntegerField()
    risk = serializers.FloatField(allow_null=True)
    width = serializers.IntegerField(source="image.width")
    height = serializers.IntegerField(source="image.height")
    sha256 = serializers.CharField(source="image.sha256")
    thumbnail_url = serializers.SerializerMethodField()

    def get_thumbnail_url(self, task: Task) -> str:
        return tier_url(task, "512")


class AnnotationSerializer(serializers.Serializer[Annotation]):
    id = serializers.UUIDField()
    author = serializers.CharField(source="author.username")
    revision = serializers.IntegerField()
    shapes = ShapeSerializer(many=True)
    suggestions_from = serializers.CharField()
    seconds_active = serializers.FloatField()
    late = serializers.BooleanField()
    created_at = serializers.DateTimeField()

    def to_representation(self, instance: Annotation) -> dict[str, Any]:
        return {
            "id": str(instance.pk),
            "author": instance.author.username,
            "revision": instance.revision,
            "shapes": instance.shapes,
            "suggestions_from": instance.suggestions_from,
            "seconds_active": instance.seconds_active,
            "late": instance.late,
            "created_at": instance.created_at.isoformat(),
        }


class ConsensusSerializer(serializers.Serializer[Consensus]):
    revision = serializers.IntegerField()
    source = serializers.CharField()  # type: ignore[assignment]  # the metaclass takes it as a field
    method = serializers.CharField()
    shapes = ShapeSerializer(many=True)
    rejected = ShapeSerializer(many=True)
    risk = serializers.FloatField()
    answers = serializers.IntegerField()
    created_at = serializers.DateTimeField()

    def to_representation(self, instance: Consensus) -> dict[str, Any]:
        return {
            "revision": instance.revision,
            "source": instance.source,
            "method": instance.method,
            "shapes": instance.shapes,
            "rejected": instance.rejected,
            "risk": instance.risk,
            "answers": instance.answers,
            "created_at": instance.created_at.isoformat(),
        }


class TaskDetailSerializer(TaskSerializer):
    annotations = AnnotationSerializer(many=True, help_text="One's own; all of them for a reviewer.")
    consensus = ConsensusSerializer(allow_null=True, help_text="For a reviewer.")


class NextSerializer(serializers.Serializer[Any]):
    count = serializers.IntegerField(min_value=1, max_value=10, default=1)


class LeaseTokenSerializer(serializers.Serializer[Any]):
    token = serializers.IntegerField(min_value=0, max_value=2**62)


class SkipSerializer(LeaseTokenSerializer):
    reason = serializers.CharField(
        max_length=500, allow_blank=True, default="", validators=[no_unstorable_text]
    )


class DraftEnvelopeSerializer(serializers.Serializer[Any]):
    tab = serializers.CharField(max_length=64, allow_blank=True, default="", validators=[no_unstorable_text])
    sequence = serializers.IntegerField(
        min_value=0,
        max_value=2**53,
        allow_null=True,
        default=None,
        help_text="Counts the tab's savings: a lower one than the last changes nothing.",
    )
    schema_version = serializers.IntegerField(min_value=1, max_value=2**30, required=False)


class DraftSerializer(DraftEnvelopeSerializer):
    shapes = ShapeSerializer(many=True)


class SubmitSerializer(serializers.Serializer[Any]):
    """The envelope of an answer; `shapes` is checked by the shapes' own parser for speed and field paths."""

    key = serializers.UUIDField()
    lease_token = serializers.IntegerField(min_value=0, max_value=2**62, allow_null=True, default=None)
    base_revision = serializers.IntegerField(min_value=0, max_value=2**30, default=0)
    schema_version = serializers.IntegerField(min_value=1, max_value=2**30, required=False)
    seconds_active = FiniteField(min_value=0, max_value=86_400 * 7, default=0)
    suggestions_from = serializers.CharField(
        max_length=100, allow_null=True, allow_blank=True, default="", validators=[no_unstorable_text]
    )
    tab = serializers.CharField(
        max_length=64,
        allow_null=True,
        allow_blank=True,
        default=None,
        validators=[no_unstorable_text],
        help_text="Whose draft ends with this answer; without it, all of the person's drafts of the task.",
    )


class SubmitBodySerializer(SubmitSerializer):
    shapes = ShapeSerializer(many=True)


class SubmittedSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    task_id = serializers.IntegerField()
    revision = serializers.IntegerField()
    state = serializers.CharField()
    late = serializers.BooleanField()


class WithdrawSerializer(serializers.Serializer[Any]):
    base_revision = serializers.IntegerField(min_value=1, max_value=2**30)


class WithdrawnSerializer(serializers.Serializer[Any]):
    task_id = serializers.IntegerField()
    revision = serializers.IntegerField()


class PrioritiseSerializer(serializers.Serializer[Any]):
    task_ids = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**63 - 1), min_length=1, max_length=10_000
    )
    priority = FiniteField(min_value=0, max_value=1_000, default=predictions.BY_HAND)


class PrioritisedSerializer(serializers.Serializer[Any]):
    moved = serializers.IntegerField(help_text="How many of them wait for answers.")


class HeldTaskSerializer(serializers.Serializer[Lease]):
    id = serializers.IntegerField()
    username = serializers.CharField(source="user.username")
    task_id = serializers.IntegerField()
    task_name = serializers.CharField(source="task.name")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()


class TiersSerializer(serializers.Serializer[Any]):
    full = serializers.CharField()

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {tier: serializers.CharField() for tier in pictures.TIERS}


class LeasedImageSerializer(serializers.Serializer[Any]):
    width = serializers.IntegerField()
    height = serializers.IntegerField()
    tiers = TiersSerializer()


class LeaseSerializer(serializers.Serializer[Any]):
    token = serializers.IntegerField()
    expires_at = serializers.DateTimeField()


class LeasedTaskNameSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    project_id = serializers.IntegerField()


class StoredDraftSerializer(serializers.Serializer[Any]):
    shapes = ShapeSerializer(many=True)
    saved_at = serializers.DateTimeField()


class NewerDraftSerializer(serializers.Serializer[Any]):
    tab = serializers.CharField()
    saved_at = serializers.DateTimeField()


class SavedDraftSerializer(StoredDraftSerializer):
    newer = NewerDraftSerializer(
        allow_null=True, help_text="What another tab of yours saved after this one's last saving."
    )


class LeasedTaskSerializer(serializers.Serializer[Any]):
    task = LeasedTaskNameSerializer()
    lease = LeaseSerializer()
    image = LeasedImageSerializer()
    reason = serializers.CharField()
    base_revision = serializers.IntegerField()
    suggestions = ShapeSerializer(many=True)
    suggestions_from = serializers.CharField(allow_null=True)
    previous = ShapeSerializer(many=True)
    draft = StoredDraftSerializer(allow_null=True)


class HolderSerializer(serializers.Serializer[Any]):
    username = serializers.CharField()
    count = serializers.IntegerField()
    names = serializers.ListField(child=serializers.CharField(), help_text="Of some of the pictures.")
    expires_at = serializers.DateTimeField()


class EmptinessSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()
    held = HolderSerializer(many=True)


class LeasesSerializer(serializers.Serializer[Any]):
    leases = LeasedTaskSerializer(many=True)
    empty = EmptinessSerializer(allow_null=True)
    schema_version = serializers.IntegerField()
    schema = SchemaSerializer()


def leased(lease: Lease) -> dict[str, Any]:
    """A leased task as the annotator's page gets it."""
    return leased_all([lease], version=projects.current_schema(lease.task.project))[0]


def leased_all(leases: Sequence[Lease], *, version: SchemaVersion) -> list[dict[str, Any]]:
    """One person's leases in one project, with all that belongs to them asked for at once."""
    if not leases:
        return []
    user_id = leases[0].user_id
    tasks = [lease.task for lease in leases]
    task_ids = [task.pk for task in tasks]
    suggested = predictions.suggestions_for(tasks=tasks, version=version)
    answers = Annotation.objects.filter(task_id__in=task_ids, author_id=user_id).order_by("revision")
    previous = {answer.task_id: answer for answer in answers}  # the last revision, also a withdrawn one
    saved = Draft.objects.filter(task_id__in=task_ids, user_id=user_id).order_by("saved_at")
    drafts = {draft.task_id: draft for draft in saved}
    return [
        _leased(lease, suggested[lease.task_id], previous.get(lease.task_id), drafts.get(lease.task_id))
        for lease in leases
    ]


def _leased(
    lease: Lease, suggested: list[Json], previous: Annotation | None, draft: Draft | None
) -> dict[str, Any]:
    task = lease.task
    if draft is not None and previous is not None and draft.saved_at <= previous.created_at:
        draft = None  # left behind by another tab: the answer came after it
    return {
        "task": {"id": task.pk, "name": task.name, "project_id": task.project_id},
        "lease": {"token": lease.token, "expires_at": lease.expires_at.isoformat()},
        "image": {
            "width": task.image.width,
            "height": task.image.height,
            "tiers": {tier: tier_url(task, tier) for tier in pictures.TIERS},
        },
        "reason": lease.reason,
        "base_revision": 0 if previous is None else previous.revision,
        "suggestions": suggested,
        "suggestions_from": (task.project.suggestions_from or None) if suggested else None,
        "previous": [] if previous is None else previous.shapes,
        "draft": None if draft is None else {"shapes": draft.shapes, "saved_at": draft.saved_at.isoformat()},
    }


def tier_url(task: Task, tier: str) -> str:
    return f"/api/v1/tasks/{task.pk}/image/{tier}"


@extend_schema_field(OpenApiTypes.BINARY)
class UploadField(serializers.FileField):
    """A file in a form, as the API's documentation shows it."""


class FilesSerializer(serializers.Serializer[Any]):
    files = serializers.ListField(child=UploadField())
    paths = serializers.ListField(
        child=serializers.CharField(),
        required=False,
        help_text="Each file's path inside the folder it came from, in the order of the files.",
    )


class ImportOptionsSerializer(serializers.Serializer[Any]):
    labels_as = serializers.ChoiceField(
        choices=["settled", "gold", "ignore"],
        default="settled",
        help_text="What labels among the files become: settled answers, gold, or nothing.",
    )
    add_classes = serializers.BooleanField(
        default=False, help_text="Whether classes that the project lacks are added to its schema."
    )
    test_as_gold = serializers.BooleanField(
        default=False, help_text="Whether the labels of the files' test split become gold."
    )


class ImportSerializer(FilesSerializer, ImportOptionsSerializer):
    """Files, and what becomes of the labels among them."""


class ProblemSerializer(serializers.Serializer[Any]):
    file = serializers.CharField()
    line = serializers.IntegerField(allow_null=True)
    field = serializers.CharField(allow_blank=True)
    reason = serializers.CharField()


class ImportReportSerializer(serializers.Serializer[Any]):
    created = serializers.IntegerField()
    existing = serializers.IntegerField()
    labelled = serializers.IntegerField()
    gold = serializers.IntegerField()
    problems = ProblemSerializer(many=True)
    more_problems = serializers.IntegerField(
        source="problems.more", help_text="How many problems there are beyond those that are listed."
    )


class ExportSerializer(serializers.Serializer[Any]):
    format = serializers.ChoiceField(choices=["coco", "jsonl"])
    content = serializers.ChoiceField(
        choices=["settled", "answers"],
        default="settled",
        help_text="The settled labels, or everybody's current answers with their names (only as jsonl).",
    )


class JobSerializer(serializers.Serializer[Job]):
    id = serializers.IntegerField()
    kind = serializers.CharField()
    title = serializers.SerializerMethodField(help_text="What people call this work.")
    state = serializers.CharField()
    progress = serializers.FloatField()
    message = serializers.CharField()
    error = serializers.CharField()
    attempts = serializers.IntegerField()
    crashes = serializers.IntegerField()
    cancel_requested = serializers.BooleanField()
    has_file = serializers.SerializerMethodField(help_text="Whether `GET jobs/{id}/file` has a file.")
    result = serializers.SerializerMethodField(help_text="What came of it, by the kind of job.")
    created_by = serializers.CharField(source="created_by.username", default=None, allow_null=True)
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)

    def get_title(self, job: Job) -> str:
        return jobs.title(job)

    def get_has_file(self, job: Job) -> bool:
        return "sha256" in job.result

    def get_result(self, job: Job) -> dict[str, Any]:
        """Without an import's problems, which may be a thousand: `JobDetailSerializer` lists them."""
        return {name: value for name, value in job.result.items() if name != "problems"}


class JobDetailSerializer(JobSerializer):
    report = serializers.SerializerMethodField(help_text="What an import did, or has done so far.")

    @extend_schema_field(ImportReportSerializer(allow_null=True))
    def get_report(self, job: Job) -> dict[str, Any] | None:
        if job.kind != "import":
            return None
        raw = job.result or job.checkpoint.get("report")
        return ImportReportSerializer(imports.Report.parse(raw)).data if raw else None


class UploadSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    project_id = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    files = serializers.IntegerField(help_text="How many files are here.")
    size_bytes = serializers.IntegerField()
    job = JobDetailSerializer(allow_null=True)


class UploadedFileSerializer(serializers.Serializer[UploadedFile]):
    path = serializers.CharField()
    sha256 = serializers.CharField()
    size_bytes = serializers.IntegerField()


class TakenSerializer(serializers.Serializer[Any]):
    files = serializers.IntegerField(help_text="How many of the request's files are kept now.")
    size_bytes = serializers.IntegerField()
    problems = ProblemSerializer(many=True)


class EventSerializer(serializers.Serializer[Event]):
    id = serializers.IntegerField()
    actor = serializers.CharField(source="actor.username", default=None, allow_null=True)
    verb = serializers.CharField()
    object_type = serializers.CharField()
    object_id = serializers.CharField()
    data = serializers.DictField()  # type: ignore[assignment]  # the metaclass takes it as a field
    client = serializers.CharField(help_text="The browser, program, job or command that did it.")
    at = serializers.DateTimeField()


class NewTokenSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=100, validators=[no_unstorable_text])


class TokenSerializer(serializers.Serializer[ApiToken]):
    id = serializers.IntegerField()
    name = serializers.CharField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)


class MadeTokenSerializer(TokenSerializer):
    token = serializers.CharField(help_text="Shown this once.")
