"""The experiment record: what is kept of a training while it goes on, who may start and stop one, and its pages."""

from collections.abc import Sequence
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from flywheel.gpu import training as gpu
from flywheel.models import Snapshot, TrainingRun
from flywheel.services import rounds, snapshots, training
from labeling import schema as label_schema
from labeling.models import JobState, Project, Role
from labeling.services import projects
from tests.flywheel.conftest import TINY_TRAINING, Workers


@pytest.fixture
def owner(project: Project) -> Client:
    client = Client()
    client.force_login(User.objects.get(username="owner"))
    return client


@pytest.fixture
def snapshot(project: Project) -> Snapshot:
    return snapshots.freeze(project=project)


def another(project: Project) -> Project:
    """A second project of the same owner."""
    schema = label_schema.parse(projects.current_schema(project).definition)
    return projects.create(name="another", schema=schema, owner=User.objects.get(username="owner"))


def post(client: Client, path: str, body: dict[str, Any] | None = None) -> Any:
    return client.post(f"/api/v1/{path}", body or {}, content_type="application/json")


def test_a_run_is_started_with_its_own_settings_and_keeps_its_record(
    project: Project, owner: Client, snapshot: Snapshot, workers: Workers
) -> None:
    started = post(owner, f"projects/{project.pk}/runs", {"settings": {"steps": 12, "learning_rate": 0.001}})
    assert started.status_code == 202
    assert started.json()["config"]["steps"] == 12
    assert started.json()["config"]["side"] == TINY_TRAINING["side"]  # the project's own
    assert started.json()["begun_by"] == "owner"
    workers.run()

    run = owner.get(f"/api/v1/runs/{started.json()['id']}").json()
    assert run["state"] == JobState.DONE
    assert run["snapshot"]["version"] == snapshot.version
    assert run["model"] == f"p{project.pk}-v1"
    assert run["rounds"] == []
    assert run["seconds"] > 0
    curve = owner.get(f"/api/v1/runs/{run['id']}/curve").json()
    assert [point["step"] for point in curve["points"]] == [10, 12]
    assert {"loss", "lr"} <= curve["points"][0].keys()
    later = owner.get(f"/api/v1/runs/{run['id']}/curve", {"after": 10}).json()
    assert [point["step"] for point in later["points"]] == [12]


def test_the_same_run_asked_for_twice_is_one(project: Project, owner: Client, snapshot: Snapshot) -> None:
    body = {"snapshot": snapshot.version, "settings": {"seed": 3}}
    first, second = (post(owner, f"projects/{project.pk}/runs", body).json() for _ in range(2))
    assert first["id"] == second["id"]
    assert TrainingRun.objects.count() == 1


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ({"stepz": 5}, "stepz"),
        ({"steps": 0}, "steps"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"learning_rate": 5}, "learning_rate"),
        ({"learning_rate": True}, "learning_rate"),
        ({"mosaic": -0.1}, "mosaic"),
        ({"symmetry": "round"}, "symmetry"),
        ({"precision": ["auto"]}, "precision"),
        ({"warm_start": "yes"}, "warm_start"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(
    project: Project, owner: Client, snapshot: Snapshot, wanted: dict[str, Any], named: str
) -> None:
    answer = post(owner, f"projects/{project.pk}/runs", {"settings": wanted})
    assert answer.status_code == 400
    assert named in answer.content.decode()
    assert not TrainingRun.objects.exists()


def test_without_a_snapshot_nothing_starts(project: Project, owner: Client) -> None:
    assert post(owner, f"projects/{project.pk}/runs").status_code == 400
    assert post(owner, f"projects/{project.pk}/runs", {"snapshot": "f" * 64}).status_code == 400
    assert not TrainingRun.objects.exists()


def test_the_snapshot_of_another_project_is_not_there(
    project: Project, owner: Client, snapshot: Snapshot
) -> None:
    own = another(project)
    assert post(owner, f"projects/{own.pk}/runs", {"snapshot": snapshot.version}).status_code == 400


def test_a_cancelled_run_ends_and_can_be_started_again(
    project: Project, owner: Client, snapshot: Snapshot, workers: Workers
) -> None:
    run = post(owner, f"projects/{project.pk}/runs").json()
    assert post(owner, f"runs/{run['id']}/cancel").json()["state"] == JobState.CANCELLED
    workers.run()
    assert owner.get(f"/api/v1/runs/{run['id']}").json()["model"] is None
    assert post(owner, f"projects/{project.pk}/runs").json()["state"] == JobState.QUEUED


def test_the_curve_grows_while_the_training_goes_on(
    project: Project, owner: Client, snapshot: Snapshot, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "CURVE_SECONDS", 0.0)
    whole = training.write_curve
    seen: dict[int, list[list[int]]] = {}

    def watched(*, run: TrainingRun, curve: Sequence[dict[str, Any]]) -> None:
        whole(run=run, curve=curve)
        kept = TrainingRun.objects.get(pk=run.pk).curve
        seen.setdefault(run.pk, []).append([point["step"] for point in kept])

    monkeypatch.setattr(training, "write_curve", watched)
    run = post(owner, f"projects/{project.pk}/runs", {"settings": {"steps": 30}}).json()
    workers.run()
    assert seen[run["id"]] == [[10], [10, 20], [10, 20, 30]]


def test_a_curve_is_thinned_on_a_grid_that_only_doubles() -> None:
    points = [{"step": 10 * (row + 1)} for row in range(6000)]
    before: set[int] = set()
    for count in range(1, 6000, 37):
        kept = [point["step"] for point in training.thinned(points[:count])]
        assert len(kept) <= training.CURVE_POINTS + 1
        assert kept[-1] == 10 * count
        every = kept[1] - kept[0] if len(kept) > 2 else 10
        assert set(kept[:-1]) <= set(range(0, 10 * count, every))
        assert {step for step in before if step % every == 0} <= {*kept}
        before = set(kept[:-1])


def test_the_pages_show_the_curves_of_the_chosen_runs(
    project: Project, owner: Client, snapshot: Snapshot, workers: Workers
) -> None:
    Project.objects.update(round_settings={**project.round_settings, "automatic": False})
    for seed in (1, 2):
        post(owner, f"projects/{project.pk}/runs", {"settings": {"steps": 20, "seed": seed}})
    workers.run()
    first, second = TrainingRun.objects.order_by("pk")
    both = owner.get(f"/projects/{project.pk}/runs/").content.decode()
    assert both.count("<polyline") == 2
    one = owner.get(f"/projects/{project.pk}/runs/?compare={second.pk}&compare=x").content.decode()
    assert one.count("<polyline") == 1
    assert f"run {second.pk}: " in one
    told = owner.get(f"/projects/{project.pk}/runs/{first.pk}/").content.decode()
    assert "Begun by owner" in told
    assert first.model_version.name in told
    assert "Cancel this run" not in told


def test_a_waiting_run_can_be_cancelled_by_a_manager_alone(
    project: Project, owner: Client, snapshot: Snapshot
) -> None:
    run = post(owner, f"projects/{project.pk}/runs").json()
    path = f"/projects/{project.pk}/runs/{run['id']}/"
    assert f"runs/{run['id']}/cancel" in owner.get(path).content.decode()
    viewer = User.objects.create_user("viewer")
    project.memberships.create(user=viewer, role=Role.VIEWER)
    client = Client()
    client.force_login(viewer)
    assert f"runs/{run['id']}/cancel" not in client.get(path).content.decode()
    stranger = Client()
    stranger.force_login(User.objects.create_user("stranger"))
    assert stranger.get(path).status_code == 404


def test_a_run_of_another_project_has_no_page_in_this_one(
    project: Project, owner: Client, snapshot: Snapshot
) -> None:
    run = post(owner, f"projects/{project.pk}/runs").json()
    own = another(project)
    assert owner.get(f"/projects/{own.pk}/runs/{run['id']}/").status_code == 404


def test_a_rounds_run_names_its_round(project: Project, owner: Client, workers: Workers) -> None:
    workers.turn()
    rounds.start(project=project, actor=User.objects.get(username="owner"), now=timezone.now())
    workers.turn()
    listed = owner.get(f"/api/v1/projects/{project.pk}/runs").json()["items"]
    assert 1 in listed[-1]["rounds"]  # the oldest


def test_a_worker_trains_in_as_many_processes_as_its_setting_says(
    project: Project, owner: Client, snapshot: Snapshot, workers: Workers, settings: LazySettings
) -> None:
    settings.TRAIN_PROCESSES = 2
    Project.objects.update(round_settings={**project.round_settings, "automatic": False})
    started = post(owner, f"projects/{project.pk}/runs", {"settings": {"steps": 12}}).json()
    workers.run()
    run = owner.get(f"/api/v1/runs/{started['id']}").json()
    assert run["state"] == JobState.DONE
    out = settings.WORK_DIRECTORY / "runs" / TrainingRun.objects.get(pk=run["id"]).key
    assert {path.name for path in out.glob("ended-*.json")} == {"ended-0.json", "ended-1.json"}
    assert [point["step"] for point in owner.get(f"/api/v1/runs/{run['id']}/curve").json()["points"]] == [
        10,
        12,
    ]
