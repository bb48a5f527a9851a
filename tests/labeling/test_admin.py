"""The admin as its users meet it: through the browser's requests, as a superuser and as staff with few rights."""

from typing import Any
from uuid import uuid4

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.contrib.messages import get_messages
from django.db import connection, models
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from labeling import shapes
from labeling.admin import base
from labeling.models import (
    Annotation,
    ApiToken,
    Consensus,
    ConsensusFit,
    ConsensusSource,
    Event,
    Job,
    JobState,
    Lease,
    Membership,
    Prediction,
    Project,
    Role,
    SchemaVersion,
    Skill,
    Task,
)
from labeling.services import accounts, consensus, jobs, projects, queue
from tests.conftest import House, box

READ_ONLY = [Annotation, Consensus, ConsensusFit, Event, Job, Lease, Prediction, SchemaVersion, Skill, Task]
WITH_ROWS = [*READ_ONLY, ApiToken, Project, User, Group]


def url(model: type[models.Model], page: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def login(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def make_staff(*permissions: str) -> User:
    """Staff, no superuser, with permissions like `change_user`."""
    user = User.objects.create_user("staff", password="correct horse", is_staff=True)
    found = Permission.objects.filter(codename__in=permissions)
    assert found.count() == len(permissions)
    user.user_permissions.set(found)
    return user


@pytest.fixture
def root(house: House) -> User:
    return User.objects.create_superuser("root", password="correct horse")


def fill(house: House, number: int) -> None:
    """So many rows of each kind."""
    version = projects.current_schema(house.project)
    shared: dict[str, Any] = {"schema_version": version, "shapes": [box()]}
    for index in range(number):
        task = house.add_picture()
        key = uuid4().hex
        person = User.objects.create_user(f"person {key}", password=None)
        Annotation.objects.create(
            task=task, author=person, revision=1, key=uuid4(), digest=key, response={}, **shared
        )
        Consensus.objects.create(task=task, revision=1, method="majority", digest=key, **shared)
        Prediction.objects.create(task=task, model="m", shapes=[box(score=0.5)])
        Lease.objects.create(task=task, user=person, token=1, expires_at=timezone.now())
        Job.objects.create(kind="export", key=key, project=house.project, created_by=person)
        accounts.make_token(user=person, name="program")
        Group.objects.create(name=key)
        SchemaVersion.objects.create(
            project=house.project,
            number=version.number + index + 1000 + Task.objects.count(),
            definition=version.definition,
            created_by=person,
        )
        fit = ConsensusFit.objects.create(
            project=house.project, number=ConsensusFit.objects.count() + 1, method="majority", parameters={},
            digest=key,
        )  # fmt: skip
        Skill.objects.create(
            project=house.project, fit=fit, user=person, kind="box", answers=1, recall=0.9, recall_low=0.8,
            recall_high=0.95, precision=0.9, precision_low=0.8, precision_high=0.95,
        )  # fmt: skip
        projects.create(name=f"Project {key}", schema=version.schema, owner=person)


def told(response: Any) -> list[tuple[str, str]]:
    """What an action said: (level, message)."""
    return [(message.level_tag, str(message)) for message in get_messages(response.wsgi_request)]


def run_action(client: Client, model: type[models.Model], action: str, *rows: models.Model) -> Any:
    data = {"action": action, "_selected_action": [str(row.pk) for row in rows]}
    return client.post(url(model, "changelist"), data)


# --- looking -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", WITH_ROWS)
def test_each_list_and_each_page_opens(house: House, root: User, model: type[models.Model]) -> None:
    fill(house, 1)
    client = login(root)
    assert client.get(url(model, "changelist")).status_code == 200
    row = model._default_manager.order_by("pk").first()
    assert row is not None
    assert client.get(url(model, "change", row.pk)).status_code == 200


@pytest.mark.parametrize("model", WITH_ROWS)
def test_a_list_takes_as_many_queries_for_many_rows_as_for_few(
    house: House, root: User, model: type[models.Model]
) -> None:
    client = login(root)
    fill(house, 2)
    client.get(url(model, "changelist"))  # what Django keeps, like content types, is read once
    with CaptureQueriesContext(
        connection,
    ) as few:
        client.get(url(model, "changelist"))
    fill(house, 12)
    with CaptureQueriesContext(connection) as many:
        client.get(url(model, "changelist"))
    assert len(many) == len(few)


@pytest.mark.parametrize("model", READ_ONLY)
def test_searching_counts_only_what_was_found(house: House, root: User, model: type[models.Model]) -> None:
    client = login(root)
    fill(house, 1)
    with CaptureQueriesContext(connection) as queries:
        assert client.get(url(model, "changelist"), {"q": "1"}).status_code == 200
    table = model._meta.db_table
    counts = [item["sql"] for item in queries if "COUNT(" in item["sql"] and f'FROM "{table}"' in item["sql"]]
    assert all("WHERE" in sql for sql in counts)


@pytest.mark.parametrize("model", READ_ONLY)
@pytest.mark.parametrize("term", ["9" * 40, "9" * 5000, "٣", "%_'\"", "x" * 5000])
def test_an_odd_search_finds_nothing_and_breaks_nothing(
    house: House, root: User, model: type[models.Model], term: str
) -> None:
    assert login(root).get(url(model, "changelist"), {"q": term}).status_code == 200


def test_a_task_is_found_by_its_id_its_picture_and_the_beginning_of_its_name(
    house: House, root: User
) -> None:
    wanted, other = house.add_picture(name="smears/a.png"), house.add_picture(name="tissue/b.png")
    client = login(root)
    for term in (str(wanted.pk), wanted.image.sha256, "smears/"):
        page = client.get(url(Task, "changelist"), {"q": term}).content.decode()
        assert wanted.name in page
        assert other.name not in page


def test_names_are_shown_as_text_not_as_markup(house: House, root: User) -> None:
    task = house.add_picture(name="<script>alert(1)</script>.png")
    Job.objects.create(
        kind="export", key="k", error="<script>alert(2)</script>", params={"a": "</pre><script>"}
    )
    client = login(root)
    for model, pk in ((Task, task.pk), (Job, Job.objects.get().pk)):
        for page in (client.get(url(model, "changelist")), client.get(url(model, "change", pk))):
            text = page.content.decode()
            assert "<script>alert" not in text
            assert "</pre><script>" not in text


def test_a_settled_answer_is_drawn_on_its_picture(house: House, root: User) -> None:
    task = house.add_picture()
    consensus.set_answer(
        task=task,
        shapes=shapes.parse_list([box(), box("b", xyxy=[1.0, 2.0, 4.0, 8.0], class_id=2)]),
        source=ConsensusSource.EXPERT,
        actor=root,
    )
    page = login(root).get(url(Task, "change", task.pk)).content.decode()
    assert '<rect x="1.0" y="2.0" width="3.0" height="6.0"' in page
    assert "1 × cell, 1 × seed" in page


def test_pictures_are_for_those_who_may_see_tasks(house: House, root: User) -> None:
    task = house.add_picture()
    picture = reverse("admin:labeling_task_picture", args=[task.pk, "512"])
    response = login(root).get(picture)
    assert response["Content-Type"] == "image/jpeg"
    assert response.content.startswith(b"\xff\xd8")
    assert login(make_staff("view_job")).get(picture).status_code == 403
    assert login(house.people[Role.OWNER]).get(picture).status_code == 302  # no staff: to the login
    assert Client().get(picture).status_code == 302


def test_a_picture_that_is_not_there_is_not_found(house: House, root: User) -> None:
    task = house.add_picture()
    client = login(root)
    for pk, tier in ((task.pk, "9"), (task.pk + 1, "512")):
        assert client.get(reverse("admin:labeling_task_picture", args=[pk, tier])).status_code == 404


def test_the_sidebar_leads_back_and_shows_only_what_one_may_see(house: House, root: User) -> None:
    page = login(make_staff("view_job")).get(reverse("admin:index")).content.decode()
    assert "Back to Labelwheel" in page
    assert f'href="{url(Job, "changelist")}"' in page
    assert f'href="{url(Event, "changelist")}"' not in page
    full = login(root).get(reverse("admin:index")).content.decode()
    for model in WITH_ROWS:
        assert f'href="{url(model, "changelist")}"' in full


# --- what nobody changes here ------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", READ_ONLY)
def test_what_people_did_and_what_was_derived_is_not_added_changed_or_deleted(
    house: House, root: User, model: type[models.Model]
) -> None:
    fill(house, 1)
    row = model._default_manager.order_by("pk").first()
    assert row is not None
    before = model._default_manager.filter(pk=row.pk).values().get()
    client = login(root)
    assert client.get(url(model, "add")).status_code == 403
    assert client.post(url(model, "add"), {}).status_code == 403
    assert client.post(url(model, "change", row.pk), {"name": "other", "verb": "other"}).status_code == 403
    assert client.post(url(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    run_action(client, model, "delete_selected", row)
    assert model._default_manager.filter(pk=row.pk).values().get() == before


@pytest.mark.parametrize("model", [Project, User])
def test_projects_and_people_are_not_deleted_for_what_hangs_on_them(
    house: House, root: User, model: type[models.Model]
) -> None:
    row = model._default_manager.order_by("pk").first()
    assert row is not None
    client = login(root)
    assert client.post(url(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    run_action(client, model, "delete_selected", row)
    assert model._default_manager.filter(pk=row.pk).exists()


def test_every_model_of_labeling_that_the_admin_shows_is_tested_here() -> None:
    shown = {model for model in admin.site._registry if model._meta.app_label in ("labeling", "auth")}
    assert shown == set(WITH_ROWS)


# --- people ------------------------------------------------------------------------------------------------------


def person_form(person: User, **changes: Any) -> dict[str, Any]:
    return {"username": person.username.replace(" ", "-"), "email": "", "is_active": "on"} | changes


def test_staff_cannot_touch_a_superuser_or_other_staff(house: House, root: User) -> None:
    staff = make_staff("view_user", "change_user", "delete_user")
    other = User.objects.create_user("other staff", password="correct horse", is_staff=True)
    client = login(staff)
    for person in (root, other, staff):
        password = person.password
        form = person_form(person, first_name="Mallory", is_superuser="on")
        assert client.post(url(User, "change", person.pk), form).status_code == 403
        change = reverse("admin:auth_user_password_change", args=[person.pk])
        secret = {"password1": "brand new secret", "password2": "brand new secret"}
        assert client.get(change).status_code == 403
        assert client.post(change, secret).status_code == 403
        person.refresh_from_db()
        assert (person.first_name, person.password) == ("", password)
    assert not User.objects.get(pk=staff.pk).is_superuser


def test_staff_mend_an_ordinary_account_but_give_it_no_rights(house: House) -> None:
    group = Group.objects.create(name="Powerful")
    permission = Permission.objects.get(codename="change_user")
    client = login(make_staff("view_user", "change_user", "add_user"))
    form = person_form(
        house.stranger,
        username="renamed",
        is_staff="on",
        is_superuser="on",
        groups=[group.pk],
        user_permissions=[permission.pk],
    )
    assert client.post(url(User, "change", house.stranger.pk), form).status_code == 302
    changed = User.objects.get(pk=house.stranger.pk)
    assert changed.username == "renamed"
    assert (changed.is_staff, changed.is_superuser) == (False, False)
    assert not changed.groups.exists()
    assert not changed.user_permissions.exists()


def test_staff_make_accounts_without_rights(house: House) -> None:
    client = login(make_staff("view_user", "change_user", "add_user"))
    form = {
        "username": "new", "usable_password": "true", "password1": "brand new secret",
        "password2": "brand new secret", "is_staff": "on", "is_superuser": "on",
    }  # fmt: skip
    assert client.post(url(User, "add"), form).status_code == 302
    made = User.objects.get(username="new")
    assert (made.is_staff, made.is_superuser) == (False, False)
    assert Event.objects.filter(verb="add_person", object_id=str(made.pk)).exists()


def test_staff_cannot_widen_a_group_that_they_may_be_in(house: House) -> None:
    group = Group.objects.create(name="Helpers")
    client = login(make_staff("view_group", "change_group", "add_group", "delete_group"))
    every = list(Permission.objects.values_list("pk", flat=True))
    form = {"name": "Helpers", "permissions": every}
    assert client.post(url(Group, "change", group.pk), form).status_code == 403
    assert client.post(url(Group, "add"), form | {"name": "Others"}).status_code == 403
    assert client.post(url(Group, "delete", group.pk), {"post": "yes"}).status_code == 403
    assert not group.permissions.exists()


def test_a_superuser_gives_rights_and_an_event_tells_it(house: House, root: User) -> None:
    form = person_form(house.stranger, is_staff="on")
    assert login(root).post(url(User, "change", house.stranger.pk), form).status_code == 302
    assert User.objects.get(pk=house.stranger.pk).is_staff
    event = Event.objects.get(verb="change_person")
    assert (event.actor, event.object_id) == (root, str(house.stranger.pk))
    assert "Staff status" in str(event.data)


def test_a_new_password_by_a_superuser_leaves_an_event_and_ends_the_tokens(house: House, root: User) -> None:
    _, secret = accounts.make_token(user=house.stranger, name="program")
    assert accounts.owner_of(secret, now=timezone.now()) == house.stranger
    change = reverse("admin:auth_user_password_change", args=[house.stranger.pk])
    form = {"password1": "brand new secret", "password2": "brand new secret", "usable_password": "true"}
    assert login(root).post(change, form).status_code == 302
    assert accounts.owner_of(secret, now=timezone.now()) is None
    assert Event.objects.filter(verb="change_person", object_id=str(house.stranger.pk)).exists()
    assert "brand new secret" not in str(list(Event.objects.values_list("data", flat=True)))


def test_a_token_is_shown_without_its_hash_and_deleting_it_revokes_it(house: House, root: User) -> None:
    token, secret = accounts.make_token(user=house.stranger, name="program")
    client = login(root)
    page = client.get(url(ApiToken, "change", token.pk)).content.decode()
    assert token.digest not in page
    assert token.password_mark not in page
    assert client.post(url(ApiToken, "change", token.pk), {"name": "other"}).status_code == 403
    assert client.post(url(ApiToken, "delete", token.pk), {"post": "yes"}).status_code == 302
    assert accounts.owner_of(secret, now=timezone.now()) is None
    assert Event.objects.get(verb="revoke_token").actor == root


def test_many_tokens_are_revoked_together_each_with_its_event(house: House, root: User) -> None:
    tokens = [accounts.make_token(user=house.stranger, name=name)[0] for name in ("a", "b")]
    data = {"action": "delete_selected", "_selected_action": [token.pk for token in tokens], "post": "yes"}
    assert login(root).post(url(ApiToken, "changelist"), data).status_code == 302
    assert not ApiToken.objects.exists()
    assert Event.objects.filter(verb="revoke_token").count() == 2


# --- projects ----------------------------------------------------------------------------------------------------


def project_form(project: Project, **changes: Any) -> dict[str, Any]:
    members = list(project.memberships.order_by("id"))
    form: dict[str, Any] = {
        "name": project.name, "guide": project.guide, "answers_per_task": project.answers_per_task,
        "lease_seconds": project.lease_seconds, "blind_share": project.blind_share, "round_settings": "{}",
        "overlap": project.overlap, "most_answers": project.most_answers, "target_risk": project.target_risk,
        "trusted_from": project.trusted_from, "review_share": project.review_share,
        "initial-round_settings": "{}",
        "memberships-TOTAL_FORMS": len(members), "memberships-INITIAL_FORMS": len(members),
        "memberships-MIN_NUM_FORMS": 0, "memberships-MAX_NUM_FORMS": 1000,
        "schema_versions-TOTAL_FORMS": 0, "schema_versions-INITIAL_FORMS": 0,
        "schema_versions-MIN_NUM_FORMS": 0, "schema_versions-MAX_NUM_FORMS": 0,
    }  # fmt: skip
    for index, member in enumerate(members):
        form |= {
            f"memberships-{index}-id": member.pk,
            f"memberships-{index}-project": project.pk,
            f"memberships-{index}-user": member.user_id,
            f"memberships-{index}-role": member.role,
        }
    return form | changes


def place_of(house: House, role: Role) -> int:
    """The place of the person with this role among the form's members."""
    ids = list(house.project.memberships.order_by("id").values_list("user_id", flat=True))
    return ids.index(house.people[role].pk)


def test_changed_settings_reach_the_queue_and_leave_an_event(house: House, root: User) -> None:
    task = house.add_picture()
    form = project_form(house.project, answers_per_task=5)
    assert login(root).post(url(Project, "change", house.project.pk), form).status_code == 302
    assert Project.objects.get(pk=house.project.pk).answers_per_task == 5
    assert Task.objects.get(pk=task.pk).slots == 5
    assert Event.objects.get(verb="change").data == {"fields": ["answers_per_task"]}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("answers_per_task", 0),
        ("answers_per_task", 51),
        ("blind_share", 1.5),
        ("lease_seconds", 5),
        ("round_settings", "[1]"),
        ("round_settings", "{"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_the_form(
    house: House, root: User, field: str, value: object
) -> None:
    form = project_form(house.project, **{field: value})
    response = login(root).post(url(Project, "change", house.project.pk), form)
    assert response.status_code == 200
    assert field in response.context["adminform"].form.errors


def test_what_the_service_derives_for_a_project_cannot_be_posted(house: House, root: User) -> None:
    form = project_form(house.project, suggestions_from="evil", consensus_method="evil")
    assert login(root).post(url(Project, "change", house.project.pk), form).status_code == 302
    project = Project.objects.get(pk=house.project.pk)
    assert (project.suggestions_from, project.consensus_method) == ("", "skill_weighted")


def test_a_member_is_added_with_a_role_and_an_event(house: House, root: User) -> None:
    number = house.project.memberships.count()
    form = project_form(house.project, **{"memberships-TOTAL_FORMS": number + 1})
    form |= {
        f"memberships-{number}-project": house.project.pk,
        f"memberships-{number}-user": house.stranger.pk,
        f"memberships-{number}-role": Role.REVIEWER,
    }
    Event.objects.all().delete()
    assert login(root).post(url(Project, "change", house.project.pk), form).status_code == 302
    assert projects.role_of(project=house.project, user=house.stranger) == Role.REVIEWER
    assert Event.objects.get(verb="set_member").actor == root


def test_an_owner_hands_over_in_one_step(house: House, root: User) -> None:
    old, new = place_of(house, Role.OWNER), place_of(house, Role.ANNOTATOR)
    form = project_form(
        house.project, **{f"memberships-{old}-role": Role.VIEWER, f"memberships-{new}-role": Role.OWNER}
    )
    assert login(root).post(url(Project, "change", house.project.pk), form).status_code == 302
    assert projects.role_of(project=house.project, user=house.people[Role.ANNOTATOR]) == Role.OWNER
    assert projects.role_of(project=house.project, user=house.people[Role.OWNER]) == Role.VIEWER


@pytest.mark.parametrize("change", ["role", "DELETE"])
def test_the_last_owner_stays(house: House, root: User, change: str) -> None:
    field = f"memberships-{place_of(house, Role.OWNER)}-{change}"
    form = project_form(house.project, **{field: Role.VIEWER if change == "role" else "on"})
    response = login(root).post(url(Project, "change", house.project.pk), form)
    assert response.status_code == 200
    assert "A project needs an owner" in response.content.decode()
    assert projects.role_of(project=house.project, user=house.people[Role.OWNER]) == Role.OWNER


def test_a_member_is_removed_and_keeps_being_in_the_record(house: House, root: User) -> None:
    form = project_form(house.project, **{f"memberships-{place_of(house, Role.VIEWER)}-DELETE": "on"})
    assert login(root).post(url(Project, "change", house.project.pk), form).status_code == 302
    assert projects.role_of(project=house.project, user=house.people[Role.VIEWER]) is None
    assert Event.objects.get(verb="remove_member").data == {"user": house.people[Role.VIEWER].pk}


def test_staff_give_no_role_to_themselves(house: House) -> None:
    staff = make_staff(
        "view_project", "change_project", "view_membership", "add_membership", "change_membership"
    )
    number = house.project.memberships.count()
    form = project_form(house.project, **{"memberships-TOTAL_FORMS": number + 1})
    form |= {
        f"memberships-{number}-project": house.project.pk,
        f"memberships-{number}-user": staff.pk,
        f"memberships-{number}-role": Role.OWNER,
    }
    response = login(staff).post(url(Project, "change", house.project.pk), form)
    assert "Nobody changes their own role" in response.content.decode()
    assert not Membership.objects.filter(user=staff).exists()


def test_a_person_who_is_not_active_gets_no_role(house: House, root: User) -> None:
    User.objects.filter(pk=house.people[Role.VIEWER].pk).update(is_active=False)
    form = project_form(house.project, **{f"memberships-{place_of(house, Role.VIEWER)}-role": Role.MANAGER})
    response = login(root).post(url(Project, "change", house.project.pk), form)
    assert response.status_code == 200
    assert projects.role_of(project=house.project, user=house.people[Role.VIEWER]) == Role.VIEWER


def test_a_membership_cannot_be_turned_over_to_another_person(house: House, root: User) -> None:
    field = f"memberships-{place_of(house, Role.OWNER)}-user"
    form = project_form(house.project, **{field: house.stranger.pk})
    login(root).post(url(Project, "change", house.project.pk), form)
    assert projects.role_of(project=house.project, user=house.people[Role.OWNER]) == Role.OWNER
    assert projects.role_of(project=house.project, user=house.stranger) is None


# --- actions -----------------------------------------------------------------------------------------------------


def test_releasing_a_lease_gives_its_task_back_to_the_queue(house: House, root: User) -> None:
    task = house.add_picture()
    [lease] = queue.lease_next(
        project=house.project, user=house.people[Role.ANNOTATOR], count=1, now=timezone.now()
    )
    response = run_action(login(root), Lease, "release", lease)
    assert told(response) == [("success", f"{task} held by the annotator: back in the queue.")]
    assert not Lease.objects.exists()
    assert Task.objects.get(pk=task.pk).slots == house.project.answers_per_task
    assert Event.objects.get(verb="release_lease").actor == root


def test_who_may_only_look_has_no_actions(house: House) -> None:
    house.add_picture()
    queue.lease_next(project=house.project, user=house.people[Role.ANNOTATOR], count=1, now=timezone.now())
    failed = Job.objects.create(kind="export", key="a", state=JobState.FAILED)
    client = login(make_staff("view_lease", "view_job"))
    run_action(client, Lease, "release", Lease.objects.get())
    run_action(client, Job, "retry", failed)
    assert Lease.objects.exists()
    assert Job.objects.get(pk=failed.pk).state == JobState.FAILED


def test_a_failed_job_is_tried_again_and_one_that_is_done_is_not(
    house: House, root: User, sent: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    failed = Job.objects.create(kind="export", key="a", state=JobState.FAILED, error="x", failures=3)
    done = Job.objects.create(kind="export", key="b", state=JobState.DONE)
    with django_capture_on_commit_callbacks(execute=True):
        response = run_action(login(root), Job, "retry", failed, done)
    assert sorted(level for level, _ in told(response)) == ["error", "success"]
    assert Job.objects.get(pk=failed.pk).state == JobState.QUEUED
    assert Job.objects.get(pk=done.pk).state == JobState.DONE
    assert sent == [(jobs.RUNNERS["default"], [failed.pk], "default")]


def test_a_waiting_job_is_cancelled_a_running_one_is_asked_to_stop_an_ended_one_is_refused(
    house: House, root: User
) -> None:
    waiting = Job.objects.create(kind="export", key="a")
    running = Job.objects.create(kind="export", key="b", state=JobState.RUNNING)
    ended = Job.objects.create(kind="export", key="c", state=JobState.DONE)
    response = run_action(login(root), Job, "cancel", waiting, running, ended)
    assert ("error", f"{ended}: has ended already") in told(response)
    assert Job.objects.get(pk=waiting.pk).state == JobState.CANCELLED
    assert Job.objects.get(pk=running.pk).cancel_requested
    assert not Job.objects.get(pk=ended.pk).cancel_requested


def test_a_list_counts_no_further_than_anybody_turns_pages(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "MOST_COUNTED", 3)
    for _ in range(6):
        house.add_picture()
    with CaptureQueriesContext(connection) as asked:
        paginator = base.CappedPaginator(Task.objects.order_by("id"), 2)
        assert (paginator.count, paginator.num_pages) == (4, 2)
    assert "LIMIT 4" in asked.captured_queries[0]["sql"]
