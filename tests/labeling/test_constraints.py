"""Each constraint of the labeling service's tables, broken once: the database refuses, whoever writes."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.db import IntegrityError, models, transaction
from django.utils import timezone

from labeling.models import (
    Annotation,
    ApiToken,
    Card,
    CardAnswer,
    Consensus,
    ConsensusFit,
    Draft,
    Image,
    Job,
    Lease,
    Membership,
    Prediction,
    Project,
    Return,
    Role,
    SchemaVersion,
    Skill,
    Skip,
    Task,
    Upload,
    UploadedFile,
)
from labeling.services import projects
from tests.conftest import House

pytestmark = pytest.mark.django_db


def twice(model: type[models.Model], /, **fields: Any) -> None:
    for _ in range(2):
        model._default_manager.create(**fields)


def an_image(**fields: Any) -> Image:
    defaults = {"sha256": uuid4().hex * 2, "width": 4, "height": 3, "raw_width": 4, "raw_height": 3}
    return Image.objects.create(**(defaults | {"format": "PNG", "size_bytes": 9} | fields))


def an_annotation(house: House, task: Task, **fields: Any) -> Annotation:
    defaults = {"revision": 1, "key": uuid4(), "digest": "0" * 64, "response": {}, "shapes": []}
    return Annotation.objects.create(
        task=task,
        author=house.people[Role.ANNOTATOR],
        schema_version=projects.current_schema(house.project),
        **(defaults | fields),
    )


def a_consensus(house: House, task: Task, **fields: Any) -> Consensus:
    defaults = {"revision": 1, "method": "", "shapes": [], "digest": "0" * 64}
    return Consensus.objects.create(
        task=task, schema_version=projects.current_schema(house.project), **(defaults | fields)
    )


def a_fit(house: House, number: int = 1) -> ConsensusFit:
    return ConsensusFit.objects.create(
        project=house.project, number=number, method="", parameters={}, digest="0" * 64
    )


def a_skill(fit: ConsensusFit, **annotator: Any) -> None:
    figures = dict.fromkeys(
        ("recall", "recall_low", "recall_high", "precision", "precision_low", "precision_high"), 0.5
    )
    Skill.objects.create(project=fit.project, fit=fit, kind="box", answers=1, **annotator, **figures)


def change(row: models.Model, **fields: Any) -> None:
    type(row)._default_manager.filter(pk=row.pk).update(**fields)


def two_keys(house: House, task: Task) -> None:
    key = uuid4()
    an_annotation(house, task, key=key)
    an_annotation(house, house.add_picture(), key=key)


def two_revisions(house: House, task: Task) -> None:
    for is_current in (False, True):
        an_annotation(house, task, is_current=is_current)


def two_current(house: House, task: Task) -> None:
    for revision in (1, 2):
        an_annotation(house, task, revision=revision)


def two_skills(house: House, task: Task) -> None:
    fit = a_fit(house)
    for _ in range(2):
        a_skill(fit, user=house.people[Role.ANNOTATOR])


def two_skills_of_a_model(house: House, task: Task) -> None:
    fit = a_fit(house)
    for _ in range(2):
        a_skill(fit, model="v1")


def two_returns(house: House, task: Task) -> None:
    annotation = an_annotation(house, task)
    twice(Return, task=task, annotation=annotation, shape_id="a", comment="?", author=annotation.author)


def a_card(task: Task, **fields: Any) -> Card:
    defaults = {"shape": {}, "digest": "0" * 64, "confidence": 0.5, "slots": 1}
    return Card.objects.create(task=task, **(defaults | fields))


def two_files(house: House, task: Task) -> None:
    upload = Upload.objects.create(project=house.project, created_by=house.people[Role.MANAGER])
    twice(UploadedFile, upload=upload, path="a.png", sha256="0" * 64, size_bytes=1)


Violation = Callable[[House, Task], object]
VIOLATIONS: dict[str, list[Violation]] = {
    "project_answers_1_to_50": [
        lambda house, task: change(house.project, answers_per_task=0),
        lambda house, task: change(house.project, answers_per_task=51),
    ],
    "project_blind_share_0_to_1": [
        lambda house, task: change(house.project, blind_share=-0.1),
        lambda house, task: change(house.project, blind_share=1.1),
    ],
    "project_suggestion_threshold_0_to_1": [
        lambda house, task: change(house.project, suggestion_threshold=-0.1),
        lambda house, task: change(house.project, suggestion_threshold=1.1),
    ],
    "project_gold_share_0_to_half": [
        lambda house, task: change(house.project, gold_share=-0.1),
        lambda house, task: change(house.project, gold_share=0.6),
    ],
    "project_review_share_0_to_1": [
        lambda house, task: change(house.project, review_share=-0.1),
        lambda house, task: change(house.project, review_share=1.1),
    ],
    "project_review_risk_0_to_1": [
        lambda house, task: change(house.project, review_risk=-0.1),
        lambda house, task: change(house.project, review_risk=1.1),
    ],
    "project_overlap_known": [lambda house, task: change(house.project, overlap="whim")],
    "project_most_answers_2_to_50": [
        lambda house, task: change(house.project, most_answers=1),
        lambda house, task: change(house.project, most_answers=51),
    ],
    "project_target_risk_from_0": [lambda house, task: change(house.project, target_risk=-0.1)],
    "project_trusted_from_0_to_1": [
        lambda house, task: change(house.project, trusted_from=-0.1),
        lambda house, task: change(house.project, trusted_from=1.1),
    ],
    "project_skips_from_1": [lambda house, task: change(house.project, skips_to_review=0)],
    "schema_one_per_number": [
        lambda house, task: SchemaVersion.objects.create(project=house.project, number=1, definition={})
    ],
    "membership_one_per_person": [
        lambda house, task: Membership.objects.create(
            project=house.project, user=house.people[Role.OWNER], role=Role.VIEWER
        )
    ],
    "membership_role_known": [
        lambda house, task: Membership.objects.create(
            project=house.project, user=house.stranger, role="emperor"
        )
    ],
    "image_orientation_1_to_8": [
        lambda house, task: an_image(orientation=0),
        lambda house, task: an_image(orientation=9),
    ],
    "image_has_an_area": [
        lambda house, task: an_image(width=0),
        lambda house, task: an_image(height=0),
    ],
    "task_one_per_picture": [
        lambda house, task: Task.objects.create(project=house.project, image=task.image, name="again")
    ],
    "task_state_known": [lambda house, task: change(task, state="lost")],
    "task_reason_known": [lambda house, task: change(task, reason="whim")],
    "lease_one_per_person_and_task": [
        lambda house, task: twice(Lease, task=task, user=house.stranger, token=1, expires_at=timezone.now())
    ],
    "skip_one_per_person_and_task": [lambda house, task: twice(Skip, task=task, user=house.stranger)],
    "task_review_cause_known": [lambda house, task: change(task, review_cause="whim")],
    "draft_one_per_tab": [
        lambda house, task: twice(Draft, task=task, user=house.stranger, tab="t", shapes=[])
    ],
    "return_one_open_per_object": [two_returns],
    "card_one_per_object": [lambda house, task: [a_card(task) for _ in range(2)]],
    "card_verdict_known": [lambda house, task: a_card(task, verdict="perhaps")],
    "card_answer_one_per_person": [
        lambda house, task: twice(CardAnswer, card=a_card(task), user=house.stranger)
    ],
    "card_answer_verdict_known": [
        lambda house, task: CardAnswer.objects.create(
            card=a_card(task), user=house.stranger, verdict="perhaps"
        )
    ],
    "uploaded_file_one_per_path": [two_files],
    "annotation_once_per_key": [two_keys],
    "annotation_one_per_revision": [two_revisions],
    "annotation_one_current_per_person": [two_current],
    "annotation_revision_from_1": [lambda house, task: an_annotation(house, task, revision=0)],
    "consensus_one_per_revision": [lambda house, task: [a_consensus(house, task) for _ in range(2)]],
    "consensus_source_known": [lambda house, task: a_consensus(house, task, source="rumour")],
    "prediction_one_per_model": [lambda house, task: twice(Prediction, task=task, model="m", shapes=[])],
    "fit_one_per_number": [lambda house, task: [a_fit(house) for _ in range(2)]],
    "skill_one_per_person_and_kind": [two_skills],
    "skill_one_per_model_and_kind": [two_skills_of_a_model],
    "skill_of_a_person_or_a_model": [
        lambda house, task: a_skill(a_fit(house)),
        lambda house, task: a_skill(a_fit(house), user=house.stranger, model="v1"),
    ],
    "job_state_known": [lambda house, task: Job.objects.create(kind="x", key="k", state="lost")],
    "job_progress_0_to_1": [
        lambda house, task: Job.objects.create(kind="x", key="k", progress=-0.1),
        lambda house, task: Job.objects.create(kind="x", key="k", progress=1.1),
    ],
}
UNIQUE_FIELDS: dict[str, Violation] = {
    "Image.sha256": lambda house, task: an_image(sha256=task.image.sha256),
    "Job.key": lambda house, task: twice(Job, kind="x", key="k"),
    "ApiToken.digest": lambda house, task: twice(
        ApiToken, user=house.stranger, name="n", digest="d", password_mark="m"
    ),
}


@pytest.mark.parametrize(
    ("name", "violate"),
    [(name, violate) for name, ways in VIOLATIONS.items() for violate in ways],
    ids=[name for name, ways in VIOLATIONS.items() for _ in ways],
)
def test_the_database_refuses_what_breaks_a_constraint(house: House, name: str, violate: Violation) -> None:
    task = house.add_picture()

    with pytest.raises(IntegrityError) as refused, transaction.atomic():
        violate(house, task)

    assert name in str(refused.value) or "UNIQUE constraint failed" in str(refused.value)


@pytest.mark.parametrize("field", UNIQUE_FIELDS)
def test_the_database_refuses_a_second_row_with_a_unique_value(house: House, field: str) -> None:
    task = house.add_picture()

    with pytest.raises(IntegrityError), transaction.atomic():
        UNIQUE_FIELDS[field](house, task)


def test_a_negative_count_is_refused(house: House) -> None:
    task = house.add_picture()

    with pytest.raises(IntegrityError), transaction.atomic():
        change(task, slots=-1)


def test_every_constraint_is_violated_here() -> None:
    tables = apps.get_app_config("labeling").get_models()
    constraints = {item.name for table in tables for item in table._meta.constraints}
    unique = {
        f"{table.__name__}.{column.name}"
        for table in apps.get_app_config("labeling").get_models()
        for column in table._meta.get_fields()
        if isinstance(column, models.Field) and column.unique and not column.primary_key
    }

    assert constraints == set(VIOLATIONS)
    assert unique == set(UNIQUE_FIELDS)


def test_a_person_with_answers_cannot_be_deleted(house: House) -> None:
    an_annotation(house, house.add_picture())

    with pytest.raises(models.ProtectedError):
        house.people[Role.ANNOTATOR].delete()


def test_a_project_takes_its_tasks_with_it_and_leaves_the_picture(house: House) -> None:
    task = house.add_picture()
    Project.objects.filter(pk=house.project.pk).delete()

    assert not Task.objects.exists()
    assert Image.objects.filter(pk=task.image_id).exists()
