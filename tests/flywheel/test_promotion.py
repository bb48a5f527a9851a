from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from flywheel.models import ModelStatus, ModelVersion, Snapshot, TrainingRun
from flywheel.services import promotion
from labeling.models import Event, Job, Prediction, Project, SchemaVersion, Task
from labeling.services import projects


def scored(ap50: float, trivial: float = 0.1) -> dict[str, Any]:
    return {"ap50": ap50, "pck": None, "trivial": {"ap50": trivial, "pck": None}, "split": "gold"}


@pytest.mark.parametrize(
    ("challenger", "champion", "gain", "promoted"),
    [
        (scored(0.5), None, None, True),
        (scored(0.1), None, None, False),
        (scored(0.6), scored(0.5), {"mean": 0.1, "low": 0.05, "high": 0.15}, True),
        (scored(0.5), scored(0.5), {"mean": 0.0, "low": -0.004, "high": 0.004}, True),
        (scored(0.5), scored(0.5), {"mean": 0.0, "low": -0.03, "high": 0.03}, False),
        (scored(0.4), scored(0.5), {"mean": -0.1, "low": -0.15, "high": -0.05}, False),
    ],
)
def test_the_gate_promotes_only_what_is_surely_not_worse(
    challenger: dict[str, Any],
    champion: dict[str, Any] | None,
    gain: dict[str, float] | None,
    promoted: bool,
) -> None:
    decision = promotion.decide(metric="ap50", challenger=challenger, champion=champion, gain=gain)
    assert decision.promote is promoted
    assert f"{challenger['ap50']:.3f}" in decision.reason


def test_a_metric_that_nothing_can_be_measured_in_promotes_nothing() -> None:
    decision = promotion.decide(metric="pck", challenger=scored(0.9), champion=None, gain=None)
    assert not decision.promote
    assert "PCK" in decision.reason


def test_a_project_of_poses_alone_is_judged_by_its_joints(project: Project) -> None:
    assert promotion.metric_of(project) == "ap50"
    version = projects.current_schema(project)
    poses = [item for item in version.definition["classes"] if item["kind"] == "keypoints"]
    SchemaVersion.objects.create(project=project, number=2, definition={"classes": poses})
    assert promotion.metric_of(project) == "pck"
    project.round_settings = {"metric": "ap"}
    assert promotion.metric_of(project) == "ap"


def model_of(project: Project, number: int) -> ModelVersion:
    snapshot, _ = Snapshot.objects.get_or_create(
        project=project,
        version="a" * 64,
        defaults={"labels_sha256": "b" * 64, "images": 1, "gold_images": 0, "objects_count": 1},
    )
    run = TrainingRun.objects.create(
        project=project, snapshot=snapshot, key=f"{project.pk}-{number}", config={}, code_version="0"
    )
    return ModelVersion.objects.create(
        project=project, number=number, run=run, weights_sha256="c" * 64, card={}
    )


def test_rolling_back_brings_the_previous_champions_suggestions_back(project: Project) -> None:
    owner = User.objects.get(username="owner")
    first, second = model_of(project, 1), model_of(project, 2)
    task = Task.objects.filter(project=project, slots__gt=0).first()
    assert task is not None
    for model in (first, second):
        Prediction.objects.create(task=task, model=model.name, shapes=[])
        promotion.promote(model=model, actor=owner, now=timezone.now())
    assert promotion.roll_back(project=project, actor=owner, now=timezone.now()) == first
    project.refresh_from_db()
    assert project.suggestions_from == first.name
    second.refresh_from_db()
    assert second.status == ModelStatus.REJECTED
    assert Event.objects.filter(project=project, verb="roll_back").count() == 1
    with pytest.raises(promotion.NothingToGoBackTo):
        promotion.roll_back(project=project, actor=owner, now=timezone.now())


def test_there_is_one_champion_at_a_time(project: Project) -> None:
    for number in (1, 2, 3):
        promotion.promote(model=model_of(project, number), actor=None, now=timezone.now())
    champions = ModelVersion.objects.filter(project=project, status=ModelStatus.CHAMPION)
    assert [model.number for model in champions] == [3]


def test_a_person_who_promotes_has_the_pictures_looked_at_again(
    project: Project, sent: list[tuple[str, list[int], str]]
) -> None:
    owner, model = User.objects.get(username="owner"), model_of(project, 1)
    promotion.promote(model=model, actor=owner, now=timezone.now())
    job = Job.objects.get(kind="predict")
    assert (job.params, job.queue) == ({"model": model.pk}, "gpu")
    assert sent == [("flywheel.gpu.run_job", [job.pk], "gpu")]
