"""The wheel's half of the admin: what it shows, and what its actions do and refuse."""

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.db import connection, models
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from flywheel.admin import loss_curve
from flywheel.models import (
    Evaluation,
    ModelStatus,
    ModelVersion,
    Round,
    RoundStatus,
    Snapshot,
    TrainingRun,
)
from flywheel.services import promotion, rounds
from labeling.models import Event, Job, JobState, Prediction, Project
from tests.conftest import House

SHOWN = [Round, ModelVersion, TrainingRun, Snapshot]
METRICS = {
    "pictures": 12, "split": "gold", "ap": 0.41, "ap50": 0.7321, "oks_ap": None, "pck": None, "ece": 0.04,
    "per_class": {"1": {"name": "cell", "objects": 80, "ap": 0.41, "ap50": 0.73, "oks_ap": None}},
    "calibration": {"1": [[0.0, 0.5, 1.0], [0.0, 0.4, 0.9]]},
}  # fmt: skip
CURVE = [{"step": 10, "lr": 0.1, "loss": 4.0}, {"step": 20, "lr": 0.1, "loss": 1.0}]


def url(model: type[models.Model], page: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def login(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def told(response: Any) -> list[tuple[str, str]]:
    """What an action said: (level, message)."""
    return [(message.level_tag, str(message)) for message in get_messages(response.wsgi_request)]


def run_action(client: Client, model: type[models.Model], action: str, *rows: models.Model) -> Any:
    data = {"action": action, "_selected_action": [str(row.pk) for row in rows]}
    return client.post(url(model, "changelist"), data)


@pytest.fixture
def root(house: House) -> User:
    return User.objects.create_superuser("root", password="correct horse")


def add_model(project: Project, number: int) -> ModelVersion:
    """A trained and measured model with its ended round."""
    name = f"{project.pk:032}{number:032}"
    snapshot = Snapshot.objects.create(
        project=project,
        version=name,
        labels_sha256="b" * 64,
        images=10 * number,
        gold_images=1,
        objects_count=1,
    )
    job = Job.objects.create(
        kind="train", key=f"train:{name}", project=project, state=JobState.DONE, progress=1
    )
    run = TrainingRun.objects.create(
        project=project,
        snapshot=snapshot,
        key=name,
        config={"side": 320},
        code_version="0",
        job=job,
        curve=CURVE,
    )
    model = ModelVersion.objects.create(
        project=project, number=number, run=run, weights_sha256="c" * 64, card={"parameters": 1234567}
    )
    Evaluation.objects.create(
        model_version=model, snapshot=snapshot, metrics=METRICS, per_image_sha256="d" * 64
    )
    Round.objects.create(
        project=project, number=number, status=RoundStatus.DONE, target_new_labels=50, snapshot=snapshot, run=run,
        model_version=model, job=job, decision="promoted", reason="Better.", metrics={"ap50": 0.7321},
        history=[{"status": "collecting", "at": "2026-11-23T10:00:00+00:00"}], finished_at=timezone.now(),
    )  # fmt: skip
    return model


def promoted(model: ModelVersion) -> ModelVersion:
    promotion.promote(model=model, actor=None, now=timezone.now())
    model.refresh_from_db()
    return model


def status_of(model: ModelVersion) -> str:
    return ModelVersion.objects.get(pk=model.pk).status


def test_every_model_of_the_wheel_that_the_admin_shows_is_tested_here() -> None:
    shown = {model for model in admin.site._registry if model._meta.app_label == "flywheel"}
    assert shown == set(SHOWN)


@pytest.mark.parametrize("model", SHOWN)
def test_each_list_and_each_page_opens_and_is_only_read(
    house: House, root: User, model: type[models.Model]
) -> None:
    add_model(house.project, 1)
    row = model._default_manager.get()
    before = model._default_manager.values().get()
    client = login(root)
    assert client.get(url(model, "changelist")).status_code == 200
    assert client.get(url(model, "change", row.pk)).status_code == 200
    assert client.post(url(model, "change", row.pk), {"number": 9, "status": "champion"}).status_code == 403
    assert client.get(url(model, "add")).status_code == 403
    assert client.post(url(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    run_action(client, model, "delete_selected", row)
    assert model._default_manager.values().get() == before


@pytest.mark.parametrize("model", SHOWN)
def test_a_list_takes_as_many_queries_for_many_rows_as_for_few(
    house: House, root: User, model: type[models.Model]
) -> None:
    client = login(root)
    add_model(house.project, 1)
    add_model(house.project, 2)
    client.get(url(model, "changelist"))
    with CaptureQueriesContext(connection) as few:
        client.get(url(model, "changelist"))
    for number in range(3, 15):
        add_model(house.project, number)
    with CaptureQueriesContext(connection) as many:
        client.get(url(model, "changelist"))
    assert len(many) == len(few)


def test_a_models_page_shows_its_figures_its_classes_and_its_calibration(house: House, root: User) -> None:
    model = add_model(house.project, 1)
    page = login(root).get(url(ModelVersion, "change", model.pk)).content.decode()
    assert "0.732" in page
    assert "12 pictures (gold)" in page
    assert "cell: precision (0 to 1)" in page
    assert "1234567" in page
    assert url(TrainingRun, "change", model.run_id) in page


def test_a_runs_page_leads_to_its_job_and_draws_its_loss(house: House, root: User) -> None:
    run = add_model(house.project, 1).run
    page = login(root).get(url(TrainingRun, "change", run.pk)).content.decode()
    assert url(Job, "change", run.job_id) in page
    assert "<polyline" in page
    assert "4.000 at step 10, 1.000 at 20" in page


def test_the_loss_curve_falls_from_the_top_to_a_quarter() -> None:
    chart = str(loss_curve(CURVE))
    points = chart.split('points="')[1].split('"')[0].split()
    (left, high), (right, low) = ([float(value) for value in point.split(",")] for point in points)
    bottom = 180.0
    assert left < right
    assert bottom - low == pytest.approx((bottom - high) / 4)


@pytest.mark.parametrize("curve", [[], CURVE[:1]])
def test_there_is_no_loss_curve_before_there_is_a_line_to_draw(curve: list[dict[str, float]]) -> None:
    assert "<svg" not in loss_curve(curve)


def test_starting_a_round_ends_its_collecting_and_asks_for_a_tick(
    house: House, root: User, sent: list[Any]
) -> None:
    turn = rounds.open_next(project=house.project, now=timezone.now())
    response = run_action(login(root), Round, "start", turn)
    assert told(response) == [("success", f"{turn}: started.")]
    assert Round.objects.get(pk=turn.pk).start_requested
    assert Event.objects.get(verb="start_round").actor == root
    assert sent == [("flywheel.tasks.tick", [], "default")]


def test_a_round_that_has_ended_is_neither_started_nor_cancelled(house: House, root: User) -> None:
    add_model(house.project, 1)
    turn = Round.objects.get()
    client = login(root)
    assert told(run_action(client, Round, "start", turn)) == [
        ("error", f"{turn}: is done; only a round that is collecting can be started")
    ]
    assert ("error", f"{turn}: this round has ended already") in told(
        run_action(client, Round, "cancel", turn)
    )
    assert Round.objects.get().status == RoundStatus.DONE


def test_cancelling_a_round_ends_it_and_leaves_an_event(house: House, root: User) -> None:
    turn = rounds.open_next(project=house.project, now=timezone.now())
    run_action(login(root), Round, "cancel", turn)
    assert Round.objects.get(pk=turn.pk).status == RoundStatus.CANCELLED
    assert Event.objects.get(verb="cancel_round").actor == root


def test_promoting_makes_a_model_champion_and_retires_the_one_before(house: House, root: User) -> None:
    first, second = promoted(add_model(house.project, 1)), add_model(house.project, 2)
    Prediction.objects.create(task=house.add_picture(), model=second.name, shapes=[])
    response = run_action(login(root), ModelVersion, "promote", second)
    assert told(response) == [("success", f"{second}: champion now.")]
    assert (status_of(first), status_of(second)) == (ModelStatus.RETIRED, ModelStatus.CHAMPION)
    assert Project.objects.get(pk=house.project.pk).suggestions_from == second.name
    assert Event.objects.filter(verb="promote", actor=root, object_id=str(second.pk)).exists()


def test_two_models_of_one_project_are_not_promoted_together(house: House, root: User) -> None:
    pair = [add_model(house.project, 1), add_model(house.project, 2)]
    response = run_action(login(root), ModelVersion, "promote", *pair)
    assert [level for level, _ in told(response)] == ["error"]
    assert {status_of(model) for model in pair} == {ModelStatus.CHALLENGER}


def test_the_champion_is_not_promoted_again(house: House, root: User) -> None:
    model = promoted(add_model(house.project, 1))
    response = run_action(login(root), ModelVersion, "promote", model)
    assert told(response) == [("error", f"{model}: is the champion already")]
    assert Event.objects.filter(verb="promote").count() == 1


def test_rolling_the_champion_back_returns_the_one_before(house: House, root: User) -> None:
    first, second = promoted(add_model(house.project, 1)), promoted(add_model(house.project, 2))
    response = run_action(login(root), ModelVersion, "roll_back", second)
    assert ("info", f"{first} is the champion again.") in told(response)
    assert (status_of(first), status_of(second)) == (ModelStatus.CHAMPION, ModelStatus.REJECTED)


def test_a_refusal_of_the_service_is_shown_as_an_error(house: House, root: User) -> None:
    only = promoted(add_model(house.project, 1))
    response = run_action(login(root), ModelVersion, "roll_back", only)
    assert response.status_code == 302
    assert told(response) == [("error", f"{only}: there is no earlier champion to go back to")]
    assert status_of(only) == ModelStatus.CHAMPION


def test_only_the_champion_is_rolled_back(house: House, root: User) -> None:
    model = add_model(house.project, 1)
    [(level, message)] = told(run_action(login(root), ModelVersion, "roll_back", model))
    assert level == "error"
    assert "select the champion" in message


def test_who_may_only_look_steers_nothing(house: House) -> None:
    staff = User.objects.create_user("staff", password="correct horse", is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(codename__in=["view_round", "view_modelversion"]))
    model = add_model(house.project, 1)
    turn = rounds.open_next(project=house.project, now=timezone.now())
    client = login(staff)
    assert client.get(url(ModelVersion, "changelist")).status_code == 200
    for action in ("promote", "roll_back"):
        run_action(client, ModelVersion, action, model)
    for action in ("start", "cancel"):
        run_action(client, Round, action, turn)
    assert status_of(model) == ModelStatus.CHALLENGER
    turn.refresh_from_db()
    assert (turn.status, turn.start_requested) == (RoundStatus.COLLECTING, False)
