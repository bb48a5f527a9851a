from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from flywheel.models import Round, RoundStatus, Trigger
from flywheel.services import rounds
from labeling.models import Project, Role
from labeling.services import projects


def page(project: Project, user: User) -> str:
    client = Client()
    client.force_login(user)
    response = client.get(f"/projects/{project.pk}/rounds/")
    assert response.status_code == 200
    return response.content.decode()


def test_the_page_says_whether_training_waits_for_labels_or_a_person(project: Project) -> None:
    owner = User.objects.get(username="owner")
    rounds.open_next(project=project, now=timezone.now())
    assert "starts by itself" in page(project, owner)
    Project.objects.filter(pk=project.pk).update(round_settings={"automatic": False})
    told = page(project, owner)
    assert "waits for a person" in told
    assert "Train now" in told


def test_a_running_round_is_followed_and_can_be_cancelled_by_a_manager_alone(project: Project) -> None:
    owner = User.objects.get(username="owner")
    turn = rounds.open_next(project=project, now=timezone.now())
    rounds.tick(now=timezone.now())
    turn.refresh_from_db()
    assert turn.status == RoundStatus.SNAPSHOTTING
    assert f"rounds/{turn.pk}/cancel" in page(project, owner)
    viewer = User.objects.create_user("viewer", password="correct horse")
    projects.set_member(project=project, username="viewer", role=Role.VIEWER, actor=owner)
    assert f"rounds/{turn.pk}/cancel" not in page(project, viewer)


def test_each_round_says_what_began_it(project: Project) -> None:
    owner = User.objects.get(username="owner")
    turn = rounds.open_next(project=project, now=timezone.now())
    assert "begun:" not in page(project, owner)
    Round.objects.filter(pk=turn.pk).update(trigger=Trigger.SCHEMA)
    assert "begun: the classes changed" in page(project, owner)


def test_a_stranger_and_nobody_see_no_rounds(project: Project) -> None:
    client = Client()
    assert client.get(f"/projects/{project.pk}/rounds/").status_code == 302
    client.force_login(User.objects.create_user("stranger", password="correct horse"))
    assert client.get(f"/projects/{project.pk}/rounds/").status_code == 404
