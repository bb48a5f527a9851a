"""Label audits: who may ask for one, what it keeps, and what a person's word does to it."""

from collections.abc import Sequence
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from flywheel.models import Dismissal, DoubtfulPicture, LabelAudit, Round
from flywheel.services import audits, rounds
from labeling.models import ConsensusSource, Event, JobState, Project, Role, Task
from labeling.services import consensus, jobs, projects
from ml.findings import Doubtful, Finding
from tests.flywheel.conftest import Workers

MISSING = Finding("missing", 1, (10.0, 10.0, 30.0, 30.0), 0.9, "The model sees a ball that nobody labelled.")
FLAT = Finding("zero_area", 2, (5.0, 5.0, 5.0, 9.0), 1.0, "The box of this crate has no area.", 0)


def owner_of(project: Project) -> User:
    return project.memberships.get(role=Role.OWNER).user


def settled(project: Project) -> list[Task]:
    tasks = Task.objects.filter(project=project, state="settled", is_gold=False)
    return list(tasks.select_related("image", "consensus").order_by("id"))


def listed(project: Project, *findings: Sequence[Finding]) -> list[DoubtfulPicture]:
    """A finished audit that doubts the first pictures for these reasons, the first the most."""
    audit = LabelAudit.objects.create(project=project)
    tasks = settled(project)[: len(findings)]
    audits.keep(
        audit=audit,
        doubtful=[
            Doubtful(task.image.sha256, 9.0 - number, tuple(own))
            for number, (task, own) in enumerate(zip(tasks, findings, strict=True))
        ],
        revisions={task.image.sha256: task.consensus.revision for task in tasks if task.consensus},
        pictures=len(settled(project)),
    )
    return list(DoubtfulPicture.objects.filter(audit=audit).order_by("id"))


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_an_audit_that_was_asked_for_leaves_a_review_list(project: Project, workers: Workers) -> None:
    owner = owner_of(project)
    asked = audits.ask(project=project, actor=owner)
    workers.run()
    asked.refresh_from_db()
    assert asked.job is not None
    assert asked.job.state == JobState.DONE, asked.job.error
    assert asked.snapshot is not None
    assert asked.finished_at is not None
    assert asked.pictures == 14
    assert asked.job.result["doubtful"] == asked.doubtful
    assert Event.objects.filter(verb="audit_labels", actor=owner).count() == 1
    scores = [picture.score for picture in audits.review_list(project)]
    assert scores == sorted(scores, reverse=True)


def test_while_one_audit_waits_another_is_not_begun(project: Project, workers: Workers) -> None:
    first = audits.ask(project=project, actor=owner_of(project))
    assert audits.ask(project=project, actor=owner_of(project)) == first
    assert LabelAudit.objects.count() == 1
    with pytest.raises(IntegrityError), transaction.atomic():
        LabelAudit.objects.create(project=project)


def test_a_cancelled_audit_starts_anew_with_the_labels_of_then(project: Project, workers: Workers) -> None:
    owner = owner_of(project)
    asked = audits.ask(project=project, actor=owner)
    audits.cancel(project=project, actor=owner)
    workers.run()
    asked.refresh_from_db()
    assert asked.job is not None
    assert (asked.job.state, asked.snapshot) == (JobState.CANCELLED, None)
    assert audits.ask(project=project, actor=owner) == asked
    workers.run()
    asked.refresh_from_db()
    assert asked.finished_at is not None


def test_a_job_that_runs_twice_keeps_one_list(project: Project, workers: Workers) -> None:
    asked = audits.ask(project=project, actor=owner_of(project))
    workers.run()
    before = list(DoubtfulPicture.objects.order_by("id").values_list("pk", flat=True))
    assert asked.job is not None
    type(asked.job).objects.filter(pk=asked.job.pk).update(state=JobState.QUEUED, lease_expires_at=None)
    jobs.run(asked.job.pk)
    assert list(DoubtfulPicture.objects.order_by("id").values_list("pk", flat=True)) == before


def test_without_settled_labels_the_job_says_what_to_do(project: Project, workers: Workers) -> None:
    project.tasks.filter(is_gold=False).update(state="queued", consensus=None)
    asked = audits.ask(project=project, actor=owner_of(project))
    workers.run()
    asked.refresh_from_db()
    assert asked.job is not None
    assert (asked.job.state, asked.job.failures) == (JobState.FAILED, 0)
    assert "label some first" in asked.job.error
    page = client_of(owner_of(project)).get(f"/projects/{project.pk}/label-audit/").content.decode()
    assert "label some first" in page


def test_a_dismissed_picture_comes_again_only_with_other_labels(project: Project) -> None:
    owner = owner_of(project)
    first, second = listed(project, [MISSING], [FLAT])
    audits.dismiss(picture=first, actor=owner)
    audits.dismiss(picture=first, actor=owner)
    assert list(audits.review_list(project)) == [second]
    assert Event.objects.filter(verb="dismiss_doubt").count() == 1
    _, second = listed(project, [MISSING], [FLAT])
    assert list(audits.review_list(project)) == [second]
    consensus.set_answer(task=first.task, shapes=(), source=ConsensusSource.EXPERT, actor=owner)
    again = listed(project, [MISSING])
    assert list(audits.review_list(project)) == again


def test_a_picture_that_was_labelled_anew_leaves_the_list(project: Project) -> None:
    first, second = listed(project, [MISSING], [FLAT])
    consensus.set_answer(task=first.task, shapes=(), source=ConsensusSource.EXPERT, actor=owner_of(project))
    assert list(audits.review_list(project)) == [second]


def test_a_dismissal_is_kept_once_per_revision(project: Project) -> None:
    (first,) = listed(project, [MISSING])
    audits.dismiss(picture=first, actor=owner_of(project))
    with pytest.raises(IntegrityError), transaction.atomic():
        Dismissal.objects.create(task=first.task, revision=first.revision)
    with pytest.raises(IntegrityError), transaction.atomic():
        DoubtfulPicture.objects.create(audit=first.audit, task=first.task, revision=1, score=1.0, findings=[])


def test_a_fold_trains_for_less_than_a_round_and_from_nothing(project: Project) -> None:
    project.round_settings = {}
    config = audits.config_of(project, images=1000)
    assert config["steps"] == 1500
    assert "warm_start" not in config
    project.round_settings = {"training": {"steps": 4}}
    assert audits.config_of(project, images=1000)["steps"] == 4


@pytest.mark.parametrize("wanted", ["yes", 1, None])
def test_a_setting_that_is_no_truth_value_is_named(project: Project, wanted: object) -> None:
    project.round_settings = {"audit": wanted}
    with pytest.raises(audits.BadAuditSetting, match=r"round_settings\.audit"):
        audits.is_wanted_after_rounds(project)


@pytest.mark.parametrize(("asked_for", "found"), [({}, 0), ({"audit": True}, 1)])
def test_a_round_is_followed_by_an_audit_where_the_project_wants_it(
    project: Project, workers: Workers, asked_for: dict[str, Any], found: int
) -> None:
    Project.objects.filter(pk=project.pk).update(round_settings=project.round_settings | asked_for)
    rounds.tick(now=timezone.now())
    workers.run()
    assert Round.objects.get(project=project, number=1).status == "done"
    assert LabelAudit.objects.exclude(finished_at=None).count() == found


def test_a_reviewer_lists_and_dismisses_over_http(project: Project) -> None:
    owner = owner_of(project)
    first, second = listed(project, [MISSING, FLAT], [FLAT])
    reviewer = User.objects.create_user("reviewer")
    projects.set_member(project=project, username="reviewer", role=Role.REVIEWER, actor=owner)
    client = client_of(reviewer)
    rows = client.get(f"/api/v1/projects/{project.pk}/audit/pictures").json()["items"]
    assert [row["id"] for row in rows] == [first.pk, second.pk]
    assert rows[0]["task_id"] == first.task_id
    assert rows[0]["findings"][0]["kind"] == "missing"
    assert rows[0]["findings"][0]["xyxy"] == [10.0, 10.0, 30.0, 30.0]
    assert client.post(f"/api/v1/audit-pictures/{first.pk}/dismiss").status_code == 204
    rows = client.get(f"/api/v1/projects/{project.pk}/audit/pictures").json()["items"]
    assert [row["id"] for row in rows] == [second.pk]
    told = client.get(f"/api/v1/projects/{project.pk}/audit").json()["audit"]
    assert (told["doubtful"], told["pictures"]) == (2, 8)


def test_bad_training_settings_are_named_when_an_audit_is_asked_for(project: Project) -> None:
    Project.objects.filter(pk=project.pk).update(round_settings={"training": {"colour": 3}})
    answer = client_of(owner_of(project)).post(f"/api/v1/projects/{project.pk}/audit")
    assert answer.status_code == 400
    assert "round_settings.training.colour" in answer.json()["message"]
    assert not LabelAudit.objects.exists()


def test_the_page_shows_what_is_in_doubt_and_links_to_its_review(project: Project) -> None:
    first, _ = listed(project, [MISSING, FLAT], [FLAT])
    page = client_of(owner_of(project)).get(f"/projects/{project.pk}/label-audit/").content.decode()
    assert "8 settled pictures were looked at" in page
    assert "The model sees a ball that nobody labelled." in page
    assert f"/projects/{project.pk}/review/?task={first.task_id}" in page
    assert f"audit-pictures/{first.pk}/dismiss" in page


def test_annotators_and_strangers_see_no_audit(project: Project) -> None:
    owner = owner_of(project)
    (first,) = listed(project, [MISSING])
    annotator = User.objects.create_user("annotator")
    projects.set_member(project=project, username="annotator", role=Role.ANNOTATOR, actor=owner)
    stranger = User.objects.create_user("stranger")
    for user, expected in ((annotator, 403), (stranger, 404)):
        client = client_of(user)
        assert client.get(f"/projects/{project.pk}/label-audit/").status_code == expected
        assert client.get(f"/api/v1/projects/{project.pk}/audit/pictures").status_code == expected
        assert client.post(f"/api/v1/projects/{project.pk}/audit").status_code == expected
        assert client.post(f"/api/v1/audit-pictures/{first.pk}/dismiss").status_code == expected
    assert not Dismissal.objects.exists()
    assert Client().get(f"/projects/{project.pk}/label-audit/").status_code == 302
