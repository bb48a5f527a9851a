"""Searches: trials are runs, the rows alone are the record, and the weak ones stop on their rungs."""

import itertools
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from flywheel.models import ModelStatus, ModelVersion, Search, Snapshot, TrainingRun, Trial
from flywheel.services import searches, snapshots, training
from labeling.models import JobState, Project, Role, Task, TaskState
from tests.flywheel.conftest import TINY_TRAINING, Workers
from tests.flywheel.test_runs import another, post

pytest.importorskip("optuna", reason="Optuna (the group `search`) is not installed")


@pytest.fixture
def owner(project: Project) -> Client:
    client = Client()
    client.force_login(User.objects.get(username="owner"))
    return client


def validated_on(project: Project, pictures: int) -> None:
    """So many settled pictures go to the validation split; which ones else do is chance."""
    names = (f"scene {number}" for number in itertools.count())
    settled = project.tasks.filter(is_gold=False, state=TaskState.SETTLED).order_by("id")
    for number, task in enumerate(settled):
        wanted = "val" if number < pictures else "train"
        task.group = next(
            name for name in names if snapshots._split(Task(project=project, group=name)) == wanted
        )
        task.save()


@pytest.fixture
def snapshot(project: Project) -> Snapshot:
    validated_on(project, 2)
    project.round_settings = {"automatic": False, "training": {**TINY_TRAINING, "steps": 30}}
    project.save()
    return snapshots.freeze(project=project)


def made(search: Search, number: int, *, rate: float, value: float | None = None, **rungs: float) -> Trial:
    """A trial as it would be after a worker's work, without the work."""
    run = training.start(project=search.project, snapshot=search.snapshot, own={"learning_rate": rate})
    trial = Trial.objects.create(
        search=search,
        number=number,
        run=run,
        settings={"learning_rate": rate},
        rungs={name.removeprefix("at_"): figure for name, figure in rungs.items()},
    )
    if value is not None:
        ModelVersion.objects.create(
            project=search.project,
            number=number,
            run=run,
            weights_sha256="c" * 64,
            card={"metrics": {search.metric: value}},
        )
        assert run.job is not None
        run.job.state = JobState.DONE
        run.job.save()
    return trial


def started(snapshot: Snapshot, trials: int = 9, **options: Any) -> Search:
    return searches.start(
        project=snapshot.project, snapshot=snapshot, trials=trials, space={"learning_rate": {}}, **options
    )


def test_a_search_trains_its_trials_and_ends(
    project: Project, owner: Client, snapshot: Snapshot, workers: Workers
) -> None:
    answer = post(
        owner, f"projects/{project.pk}/searches", {"trials": 3, "space": ["learning_rate", "mosaic"]}
    )
    assert answer.status_code == 202
    workers.turn()

    search = owner.get(f"/api/v1/searches/{answer.json()['id']}").json()
    assert search["finished_at"] is not None
    assert search["reason"] == ""
    assert [trial["number"] for trial in search["trials"]] == [1, 2, 3]
    assert len({trial["settings"]["learning_rate"] for trial in search["trials"]}) == 3
    for trial in search["trials"]:
        run = owner.get(f"/api/v1/runs/{trial['run']}").json()
        assert run["config"]["learning_rate"] == trial["settings"]["learning_rate"]
        assert list(trial["rungs"]) == ["10"]
        assert trial["state"] in ("done", "stopped")
        assert (trial["value"] is None) == (trial["state"] == "stopped") == (run["model"] is None)
    finished = [trial for trial in search["trials"] if trial["value"] is not None]
    assert search["best"] == max(finished, key=lambda trial: (trial["value"], -trial["number"]))["id"]
    page = owner.get(f"/projects/{project.pk}/runs/").content.decode()
    assert "Use these settings" in page
    assert ModelVersion.objects.exclude(status=ModelStatus.CHALLENGER).count() == 0, "a search promotes none"


def test_a_search_with_nothing_to_validate_on_ends_and_says_so(
    project: Project, snapshot: Snapshot, workers: Workers
) -> None:
    validated_on(project, 0)
    search = started(snapshots.freeze(project=project))
    workers.turn()
    search.refresh_from_db()
    assert search.finished_at is not None
    assert search.reason == "A trial ended without a figure: there are no pictures to validate on yet."
    assert Trial.objects.count() == 1


def test_as_many_trials_as_wanted_go_on_at_once(snapshot: Snapshot) -> None:
    search = started(snapshot, trials=5, at_once=2)
    for _ in range(3):
        searches.tick(now=timezone.now())
    assert Trial.objects.count() == 2
    first = Trial.objects.get(number=1)
    assert first.run.job is not None
    first.run.job.state = JobState.FAILED
    first.run.job.save()
    searches.tick(now=timezone.now())
    assert [trial.number for trial in searches.trials_of(search) if searches.is_open(trial)] == [2, 3]


def test_only_the_better_third_goes_on_from_a_rung(snapshot: Snapshot) -> None:
    search = started(snapshot)
    for number in range(1, 6):
        made(search, number, rate=0.001 * number, value=0.1 * number, at_10=0.1 * number)
    weak, strong = made(search, 6, rate=0.006), made(search, 7, rate=0.007)
    assert not searches.goes_on(trial=weak, step=10, value=0.25)
    assert searches.goes_on(trial=strong, step=10, value=0.55)
    weak.refresh_from_db()
    assert weak.pruned
    assert weak.rungs == {"10": 0.25}
    assert searches.trial_of(weak.run) is None, "started again by a person it trains to its end"
    assert searches.trial_of(strong.run) == strong


def test_a_pruned_trial_ends_its_job_with_the_reason(snapshot: Snapshot, workers: Workers) -> None:
    search = started(snapshot)
    for number in range(1, 4):
        made(search, number, rate=0.001 * number, value=2.0, at_10=2.0)  # better than any can be
    workers.messages.clear()
    trial = made(search, 4, rate=0.004)
    workers.run()
    trial.refresh_from_db()
    run = TrainingRun.objects.select_related("job").get(pk=trial.run_id)
    assert run.job is not None
    assert trial.pruned
    assert run.job.state == JobState.CANCELLED
    assert run.job.error == "Stopped at step 10 of 30: others were better there."
    assert [point["step"] for point in run.curve] == [10]

    training.start(project=search.project, snapshot=snapshot, own={"learning_rate": 0.004})
    workers.run()
    assert ModelVersion.objects.filter(run=run).exists(), "asked for by a person, it trains to its end"


def test_later_trials_look_where_earlier_ones_were_good(snapshot: Snapshot) -> None:
    search = started(snapshot, trials=60)
    for number in range(1, 31):
        rate = 2e-4 * 40 ** (number / 31)
        made(search, number, rate=rate, value=1.0 if rate < 6e-4 else 0.1)
    found = []
    for number in range(31, 41):
        trials = searches.trials_of(search)
        settings = searches._proposed(search, trials)
        found.append(settings["learning_rate"])
        made(search, number, rate=settings["learning_rate"], value=1.0 if found[-1] < 6e-4 else 0.1)
    assert sum(rate < 6e-4 for rate in found) >= 7, "at random it were 3 of 10"


def test_a_search_in_which_nothing_trains_ends_with_a_reason(snapshot: Snapshot) -> None:
    search = started(snapshot, at_once=3)
    searches.tick(now=timezone.now())
    for trial in searches.trials_of(search):
        assert trial.run.job is not None
        trial.run.job.state = JobState.FAILED
        trial.run.job.save()
    searches.tick(now=timezone.now())
    search.refresh_from_db()
    assert search.finished_at is not None
    assert "None of the first trials" in search.reason


def test_cancelling_stops_the_trials_and_begins_no_more(
    project: Project, owner: Client, snapshot: Snapshot
) -> None:
    search = started(snapshot, at_once=2)
    searches.tick(now=timezone.now())
    assert post(owner, f"searches/{search.pk}/cancel").status_code == 200
    assert {trial.run.job.state for trial in searches.trials_of(search) if trial.run.job} == {"cancelled"}
    searches.tick(now=timezone.now())
    assert Trial.objects.count() == 2
    search.refresh_from_db()
    assert search.reason == "Cancelled by a person."


def test_using_a_trial_makes_its_settings_the_projects(
    project: Project, owner: Client, snapshot: Snapshot
) -> None:
    trial = made(started(snapshot), 1, rate=0.0031, value=0.8)
    assert post(owner, f"trials/{trial.pk}/use").status_code == 200
    project.refresh_from_db()
    assert project.round_settings["training"] == {**TINY_TRAINING, "steps": 30, "learning_rate": 0.0031}
    assert project.round_settings["automatic"] is False, "the rest of the settings stays"
    again = training.start(project=project, snapshot=snapshot)
    assert again == trial.run, "a round on the same labels judges the very model of the trial"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"trials": 0}, "trials"),
        ({"trials": 3, "at_once": 0}, "at_once"),
        ({"trials": 3, "space": ["stepz"]}, "stepz"),
        ({"trials": 3, "space": []}, "Name a setting"),
        ({"trials": 3, "space": "mosaic"}, "list of settings"),
        ({"trials": 3, "space": {"mosaic": {"choices": [1]}}}, "mosaic"),
        ({"trials": 3, "space": {"mosaic": {"low": 0.5, "high": 0.1}}}, "mosaic"),
        ({"trials": 3, "space": {"mosaic": {"low": 0.5, "high": 2}}}, "mosaic"),
        ({"trials": 3, "space": {"learning_rate": {"low": 0, "high": 1}}}, "learning_rate"),
        ({"trials": 3, "space": {"batch": {"choices": []}}}, "batch"),
        ({"trials": 3, "space": {"batch": {"choices": ["many"]}}}, "batch"),
        ({"trials": 3, "space": {"batch": {"choices": [[1]]}}}, "batch"),
        ({"trials": 3, "snapshot": "0" * 64}, "snapshot"),
    ],
)
def test_a_search_that_cannot_be_is_refused_by_name(
    project: Project, owner: Client, snapshot: Snapshot, body: dict[str, Any], named: str
) -> None:
    answer = post(owner, f"projects/{project.pk}/searches", body)
    assert answer.status_code == 400
    assert named in str(answer.json())
    assert not Search.objects.exists()


def test_one_search_of_a_project_at_a_time(project: Project, owner: Client, snapshot: Snapshot) -> None:
    started(snapshot)
    answer = post(owner, f"projects/{project.pk}/searches", {"trials": 3})
    assert answer.status_code == 400
    assert "goes on already" in answer.json()["message"]
    with pytest.raises(IntegrityError), transaction.atomic():
        Search.objects.create(project=project, snapshot=snapshot, space={}, metric="ap", wanted=1)
    trial = made(Search.objects.get(), 1, rate=0.001)
    with pytest.raises(IntegrityError), transaction.atomic():
        Trial.objects.create(search=trial.search, number=1, run=trial.run, settings={})


def test_strangers_and_viewers_cannot_search(project: Project, snapshot: Snapshot) -> None:
    search = started(snapshot)
    trial = made(search, 1, rate=0.001, value=0.5)
    viewer, stranger = (User.objects.create_user(name) for name in ("viewer", "stranger"))
    project.memberships.create(user=viewer, role=Role.VIEWER)
    another(project)
    for user, refused in ((viewer, 403), (stranger, 404)):
        client = Client()
        client.force_login(user)
        for path in (f"searches/{search.pk}/cancel", f"trials/{trial.pk}/use"):
            assert post(client, path).status_code == refused
        assert post(client, f"projects/{project.pk}/searches", {"trials": 2}).status_code == refused
    search.refresh_from_db()
    assert search.finished_at is None
