"""Who may do what, route by route. A route or a method without a row here fails."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from rest_framework.test import APIClient

from flywheel.models import (
    DoubtfulPicture,
    LabelAudit,
    ModelStatus,
    ModelVersion,
    Round,
    Search,
    Snapshot,
    TrainingRun,
    Trial,
)
from labeling import storage
from labeling.models import (
    Annotation,
    Card,
    ConsensusFit,
    ConsensusSource,
    Job,
    JobState,
    Lease,
    Return,
    Role,
    Task,
    TaskState,
)
from labeling.services import accounts, annotations, consensus, projects, uploads
from labeling.shapes import Json
from tests.conftest import BOXES_AND_POSES, House, box, picture_bytes

API = "api/v1/"
KEY = "7a2d7a5e-9a36-4a0b-8d9f-0d9f6f5f0c11"


@dataclass
class World:
    """A house with one of everything that a route can name, each in the state that the route is about."""

    house: House
    ids: dict[str, int | str]

    def lease(self, user: User) -> int:
        """A lease of this user's on the task; its token."""
        task = Task.objects.get(pk=self.ids["task_id"])
        made = Lease.objects.create(
            task=task, user=user, token=77, expires_at=timezone.now() + timedelta(minutes=5)
        )
        return made.token

    def answer(self, user: User) -> Annotation:
        """An answer of this user's to the task, with one box."""
        return Annotation.objects.create(
            task_id=self.ids["task_id"],
            author=user,
            revision=1,
            key=KEY,
            digest="0" * 64,
            response={},
            schema_version=projects.current_schema(self.house.project),
            shapes=[box()],
        )

    def sent_back(self, user: User) -> Return:
        """An object that was sent back to this user."""
        answer = self.answer(user)
        return Return.objects.create(
            task_id=answer.task_id, annotation=answer, shape_id="a", comment="Further left.", author=user
        )


Body = Callable[[World, User], Json | None]


@dataclass(frozen=True)
class Row:
    """`needs` is the least role that may; nothing means everybody who is logged in, for what is their own."""

    needs: Role | None
    status: int
    body: Body = field(default=lambda world, user: None)
    format: str = "json"


def with_lease(**fields: Any) -> Body:
    return lambda world, user: {"token": world.lease(user)} | fields


def always(**fields: Any) -> Body:
    return lambda world, user: fields


def _files(world: World, user: User) -> Json:
    return {"files": SimpleUploadedFile("new.png", picture_bytes(color=(1, 2, 3)))}


def _new_schema(world: World, user: User) -> Json:
    return {"schema": {"classes": BOXES_AND_POSES["classes"][:3]}, "base_version": 1}


def _after_an_answer(world: World, user: User) -> Json:
    annotations.submit(
        task=Task.objects.get(pk=world.ids["task_id"]),
        author=user,
        key=UUID(KEY),
        shapes=(),
        base_revision=0,
        seconds_active=1.0,
        suggestions_from="",
        now=timezone.now(),
    )
    return {"base_revision": 1}


def in_review(**fields: Any) -> Body:
    """The task waits for a reviewer, with an answer that has one box."""

    def body(world: World, user: User) -> Json:
        task = Task.objects.get(pk=world.ids["task_id"])
        Task.objects.filter(pk=task.pk).update(is_gold=False, state=TaskState.NEEDS_REVIEW)
        return {"base_revision": 1} | fields

    return body


def _one_object(world: World, user: User) -> Json:
    answer = world.answer(world.house.people[Role.ANNOTATOR])
    fields = {"annotation": str(answer.pk), "shape_id": "a", "comment": "Further left."}
    return in_review(**fields)(world, user) or {}


MATRIX: dict[tuple[str, str], Row] = {
    ("GET", "me"): Row(None, 200),
    ("GET", "tokens"): Row(None, 200),
    ("POST", "tokens"): Row(None, 201, always(name="a program")),
    ("DELETE", "tokens/<int:token_id>"): Row(None, 204),
    ("GET", "projects"): Row(None, 200),
    ("POST", "projects"): Row(None, 201, always(name="Mine", schema=BOXES_AND_POSES)),
    ("GET", "projects/<int:project_id>"): Row(Role.VIEWER, 200),
    ("PATCH", "projects/<int:project_id>"): Row(Role.MANAGER, 200, always(guide="Every cell.")),
    ("PUT", "projects/<int:project_id>/schema"): Row(Role.MANAGER, 200, _new_schema),
    ("GET", "projects/<int:project_id>/members"): Row(Role.VIEWER, 200),
    ("POST", "projects/<int:project_id>/members"): Row(
        Role.MANAGER, 201, always(username="the stranger", role="viewer")
    ),
    ("DELETE", "projects/<int:project_id>/members/<int:user_id>"): Row(Role.MANAGER, 204),
    ("POST", "projects/<int:project_id>/images"): Row(Role.MANAGER, 202, _files, "multipart"),
    ("GET", "projects/<int:project_id>/uploads"): Row(Role.MANAGER, 200),
    ("POST", "projects/<int:project_id>/uploads"): Row(Role.MANAGER, 201),
    ("GET", "uploads/<uuid:upload_id>"): Row(Role.MANAGER, 200),
    ("DELETE", "uploads/<uuid:upload_id>"): Row(Role.MANAGER, 204),
    ("GET", "uploads/<uuid:upload_id>/files"): Row(Role.MANAGER, 200),
    ("POST", "uploads/<uuid:upload_id>/files"): Row(Role.MANAGER, 200, _files, "multipart"),
    ("POST", "uploads/<uuid:upload_id>/import"): Row(Role.MANAGER, 202, always(labels_as="gold")),
    ("GET", "projects/<int:project_id>/tasks"): Row(Role.REVIEWER, 200),
    ("POST", "projects/<int:project_id>/tasks/prioritise"): Row(Role.MANAGER, 200, always(task_ids=[1])),
    ("GET", "projects/<int:project_id>/leases"): Row(Role.MANAGER, 200),
    ("DELETE", "leases/<int:lease_id>"): Row(Role.MANAGER, 204),
    ("GET", "projects/<int:project_id>/progress"): Row(Role.VIEWER, 200),
    ("POST", "projects/<int:project_id>/queue/next"): Row(Role.ANNOTATOR, 200, always(count=1)),
    ("POST", "projects/<int:project_id>/exports"): Row(Role.MANAGER, 202, always(format="coco")),
    ("GET", "projects/<int:project_id>/jobs"): Row(Role.MANAGER, 200),
    ("GET", "projects/<int:project_id>/skills"): Row(Role.ANNOTATOR, 200),
    ("GET", "projects/<int:project_id>/agreement"): Row(Role.REVIEWER, 200),
    ("GET", "projects/<int:project_id>/fits"): Row(Role.REVIEWER, 200),
    ("POST", "projects/<int:project_id>/fits"): Row(Role.MANAGER, 202),
    ("POST", "fits/<int:fit_id>/put-in-force"): Row(Role.MANAGER, 202),
    ("GET", "projects/<int:project_id>/events"): Row(Role.MANAGER, 200),
    ("GET", "projects/<int:project_id>/time"): Row(Role.MANAGER, 200),
    ("POST", "projects/<int:project_id>/review/next"): Row(Role.REVIEWER, 200, always()),
    ("GET", "projects/<int:project_id>/returns"): Row(Role.ANNOTATOR, 200),
    ("POST", "projects/<int:project_id>/cards/next"): Row(Role.ANNOTATOR, 200, always()),
    ("GET", "tasks/<int:task_id>/review"): Row(Role.REVIEWER, 200),
    ("POST", "tasks/<int:task_id>/review/accept"): Row(Role.REVIEWER, 200, in_review()),
    ("POST", "tasks/<int:task_id>/review/correct"): Row(Role.REVIEWER, 200, in_review(shapes=[box()])),
    ("POST", "tasks/<int:task_id>/review/return"): Row(Role.REVIEWER, 201, _one_object),
    ("POST", "tasks/<int:task_id>/review/reject"): Row(Role.REVIEWER, 200, in_review(reason="black")),
    ("POST", "tasks/<int:task_id>/review/reopen"): Row(Role.REVIEWER, 200, in_review(to="queue")),
    ("POST", "tasks/<int:task_id>/review/release"): Row(Role.REVIEWER, 204, always()),
    ("GET", "tasks/<int:task_id>/cards"): Row(Role.REVIEWER, 200),
    ("POST", "returns/<int:return_id>/lease"): Row(Role.ANNOTATOR, 200),
    ("POST", "cards/<int:card_id>/answer"): Row(Role.ANNOTATOR, 200, always(verdict="keep")),
    ("GET", "tasks/<int:task_id>"): Row(Role.ANNOTATOR, 200),
    ("GET", "tasks/<int:task_id>/annotations"): Row(Role.ANNOTATOR, 200),
    ("POST", "tasks/<int:task_id>/annotations"): Row(Role.ANNOTATOR, 201, always(key=KEY, shapes=[box()])),
    ("POST", "tasks/<int:task_id>/annotations/withdraw"): Row(Role.ANNOTATOR, 200, _after_an_answer),
    ("GET", "tasks/<int:task_id>/consensus"): Row(Role.REVIEWER, 200),
    ("POST", "tasks/<int:task_id>/heartbeat"): Row(Role.ANNOTATOR, 200, with_lease()),
    ("POST", "tasks/<int:task_id>/release"): Row(Role.ANNOTATOR, 204, with_lease()),
    ("POST", "tasks/<int:task_id>/skip"): Row(Role.ANNOTATOR, 204, with_lease(reason="blurred")),
    ("PUT", "tasks/<int:task_id>/draft"): Row(Role.ANNOTATOR, 200, with_lease(shapes=[box()])),
    ("GET", "tasks/<int:task_id>/image/<str:tier>"): Row(Role.VIEWER, 200),
    ("GET", "jobs/<int:job_id>"): Row(Role.MANAGER, 200),
    ("POST", "jobs/<int:job_id>/cancel"): Row(Role.MANAGER, 200),
    ("POST", "jobs/<int:job_id>/retry"): Row(Role.MANAGER, 200),
    ("GET", "jobs/<int:job_id>/file"): Row(Role.MANAGER, 200),
    ("GET", "projects/<int:project_id>/rounds"): Row(Role.VIEWER, 200),
    ("POST", "projects/<int:project_id>/rounds/start"): Row(Role.MANAGER, 200),
    ("POST", "rounds/<int:round_id>/cancel"): Row(Role.MANAGER, 200),
    ("GET", "projects/<int:project_id>/models"): Row(Role.VIEWER, 200),
    ("POST", "models/<int:model_id>/promote"): Row(Role.MANAGER, 200),
    ("POST", "models/<int:model_id>/onnx"): Row(Role.MANAGER, 202),
    ("POST", "projects/<int:project_id>/roll-back"): Row(Role.MANAGER, 200),
    ("GET", "projects/<int:project_id>/curve"): Row(Role.VIEWER, 200),
    ("GET", "projects/<int:project_id>/runs"): Row(Role.VIEWER, 200),
    ("POST", "projects/<int:project_id>/runs"): Row(Role.MANAGER, 202),
    ("GET", "projects/<int:project_id>/searches"): Row(Role.VIEWER, 200),
    ("POST", "projects/<int:project_id>/searches"): Row(Role.MANAGER, 202, always(trials=2)),
    ("GET", "searches/<int:search_id>"): Row(Role.VIEWER, 200),
    ("POST", "searches/<int:search_id>/cancel"): Row(Role.MANAGER, 200),
    ("POST", "trials/<int:trial_id>/use"): Row(Role.MANAGER, 200),
    ("GET", "runs/<int:run_id>"): Row(Role.VIEWER, 200),
    ("GET", "runs/<int:run_id>/curve"): Row(Role.VIEWER, 200),
    ("POST", "runs/<int:run_id>/cancel"): Row(Role.MANAGER, 200),
    ("GET", "projects/<int:project_id>/audit"): Row(Role.REVIEWER, 200),
    ("POST", "projects/<int:project_id>/audit"): Row(Role.REVIEWER, 202),
    ("POST", "projects/<int:project_id>/audit/cancel"): Row(Role.REVIEWER, 200),
    ("GET", "projects/<int:project_id>/audit/pictures"): Row(Role.REVIEWER, 200),
    ("POST", "audit-pictures/<int:picture_id>/dismiss"): Row(Role.REVIEWER, 204),
}

ROWS = pytest.mark.parametrize(("method", "route"), MATRIX)
NAMED_ROWS = pytest.mark.parametrize(
    ("method", "route"), [key for key, row in MATRIX.items() if row.needs is not None]
)


def routes(
    patterns: list[URLPattern | URLResolver] | None = None, before: str = ""
) -> Iterator[tuple[str, Any]]:
    for item in get_resolver().url_patterns if patterns is None else patterns:
        path = before + str(item.pattern)
        if isinstance(item, URLResolver):
            yield from routes(item.url_patterns, path)
        else:
            yield path, item.callback


def test_every_route_and_method_of_the_api_has_a_row() -> None:
    found = {
        (method.upper(), path.removeprefix(API))
        for path, callback in routes()
        if path.startswith(API)
        for method in callback.cls().http_method_names
        if method != "options"  # tells what a view is for, and fetches nothing
    }

    assert found == set(MATRIX)


def test_every_other_route_is_known() -> None:
    others = {path for path, _ in routes() if not path.startswith((API, "admin/"))}

    assert others == {
        "",
        "login/",
        "logout/",
        "projects/<int:project_id>/",
        "projects/<int:project_id>/annotate/",
        "projects/<int:project_id>/review/",
        "projects/<int:project_id>/quality/",
        "projects/<int:project_id>/rounds/",
        "projects/<int:project_id>/label-audit/",
        "projects/<int:project_id>/runs/",
        "projects/<int:project_id>/runs/<int:run_id>/",
        "health/live",
        "health/ready",
        "api/schema/",
        "api/docs/",
    }


@pytest.fixture
def world(house: House) -> World:
    task = house.add_picture()
    consensus.set_answer(
        task=task, shapes=(), source=ConsensusSource.EXPERT, actor=house.people[Role.OWNER], as_gold=True
    )
    sha256 = storage.put_blob(storage.store(), b"{}")
    job = Job.objects.create(
        kind="export",
        key="an export",
        project=house.project,
        state=JobState.FAILED,
        result={"sha256": sha256, "name": "labels.json", "content_type": "application/json"},
    )
    champion, earlier = (_model(house, number) for number in (2, 1))
    ModelVersion.objects.filter(pk=champion.pk).update(status=ModelStatus.CHAMPION)
    ModelVersion.objects.filter(pk=earlier.pk).update(status=ModelStatus.RETIRED, promoted_at=timezone.now())
    turn = Round.objects.create(project=house.project, number=1, target_new_labels=50)
    doubtful = DoubtfulPicture.objects.create(
        audit=LabelAudit.objects.create(project=house.project, finished_at=timezone.now()),
        task=task,
        revision=1,
        score=1.0,
        findings=[],
    )
    leaver = User.objects.create_user("the leaver")
    held = Lease.objects.create(
        task=task, user=leaver, token=1, expires_at=timezone.now() + timedelta(minutes=5)
    )
    card = Card.objects.create(task=task, shape=box(), digest="0" * 64, confidence=0.5, slots=1)
    fit = ConsensusFit.objects.create(
        project=house.project, number=1, method="majority", parameters={}, digest="0" * 64
    )
    house.project.memberships.create(user=leaver, role=Role.VIEWER)
    search = Search.objects.create(
        project=house.project,
        snapshot=earlier.run.snapshot,
        space={},
        metric="ap50",
        wanted=1,
        finished_at=timezone.now(),
    )
    trial = Trial.objects.create(search=search, number=1, run=earlier.run, settings={})
    return World(
        house,
        {
            "project_id": house.project.pk,
            "task_id": task.pk,
            "job_id": job.pk,
            "upload_id": str(uploads.begin(project=house.project, actor=house.people[Role.OWNER]).pk),
            "round_id": turn.pk,
            "model_id": earlier.pk,
            "run_id": earlier.run_id,
            "search_id": search.pk,
            "trial_id": trial.pk,
            "picture_id": doubtful.pk,
            "lease_id": held.pk,
            "card_id": card.pk,
            "fit_id": fit.pk,
            "return_id": 0,
            "user_id": leaver.pk,
            "token_id": 0,
            "tier": "512",
        },
    )


def _model(house: House, number: int) -> ModelVersion:
    snapshot = Snapshot.objects.create(
        project=house.project,
        version=f"{number:064}",
        labels_sha256="0" * 64,
        images=1,
        gold_images=0,
        objects_count=0,
    )
    run = TrainingRun.objects.create(
        project=house.project, snapshot=snapshot, key=f"{number:064}", config={}, code_version="1"
    )
    return ModelVersion.objects.create(
        project=house.project, number=number, run=run, weights_sha256="0" * 64, card={}
    )


def ask(world: World, method: str, route: str, who: User | None, **ids: int) -> Any:
    """The answer to this request, undone afterwards."""
    row = MATRIX[method, route]
    client = APIClient()
    with transaction.atomic():
        known = world.ids | ids
        if who is not None:
            client.force_authenticate(who)
            if not ids:
                known["token_id"] = accounts.make_token(user=who, name="own")[0].pk
                if "return_id" in route:
                    known["return_id"] = world.sent_back(who).pk
        path = route
        for name, value in known.items():
            path = re.sub(f"<(int|str|uuid):{name}>", str(value), path)
        body = None if who is None else row.body(world, who)
        answer = (
            client.generic(method, f"/{API}{path}")
            if body is None
            else getattr(client, method.lower())(f"/{API}{path}", body, format=row.format)
        )
        if answer.streaming:
            assert answer.getvalue()  # read to its end, it is closed
        transaction.set_rollback(True)
    return answer


@ROWS
@pytest.mark.django_db
def test_each_role_may_do_what_the_table_says_and_no_more(world: World, method: str, route: str) -> None:
    row = MATRIX[method, route]

    answers = {role: ask(world, method, route, world.house.people[role]) for role in Role}

    for role, answer in answers.items():
        allowed = row.needs is None or role.may(row.needs)
        assert answer.status_code == (row.status if allowed else 403), (role, answer.content)
        if not allowed:
            assert answer.json()["type"] == "permission_denied"


@NAMED_ROWS
@pytest.mark.django_db
@pytest.mark.parametrize("staff", [False, True], ids=["stranger", "superuser"])
def test_to_a_stranger_nothing_is_there(world: World, method: str, route: str, staff: bool) -> None:
    stranger = world.house.stranger
    User.objects.filter(pk=stranger.pk).update(is_staff=staff, is_superuser=staff)
    stranger.refresh_from_db()

    answer = ask(world, method, route, stranger)
    nowhere = ask(
        world,
        method,
        route,
        stranger,
        project_id=10**9,
        task_id=10**9,
        job_id=10**9,
        round_id=10**9,
        model_id=10**9,
        run_id=10**9,
        picture_id=10**9,
        lease_id=10**9,
        card_id=10**9,
        fit_id=10**9,
        return_id=10**9,
    )

    assert answer.status_code == 404
    assert (answer.status_code, answer.content) == (nowhere.status_code, nowhere.content)
    assert answer.json()["type"] == "not_found"


@NAMED_ROWS
@pytest.mark.django_db
def test_an_owner_of_another_project_is_a_stranger(world: World, method: str, route: str) -> None:
    neighbour = User.objects.create_user("the neighbour")
    client = APIClient()
    client.force_authenticate(neighbour)
    client.post(f"/{API}projects", {"name": "Next door", "schema": BOXES_AND_POSES})

    assert ask(world, method, route, neighbour).status_code == 404


@ROWS
@pytest.mark.django_db
def test_nobody_is_let_in_without_an_account(world: World, method: str, route: str) -> None:
    answer = ask(world, method, route, None)

    assert answer.status_code == 401
    assert answer.json()["type"] == "unauthenticated"
    assert answer["WWW-Authenticate"] == "Token"


@pytest.mark.parametrize(
    ("method", "route"),
    [key for key, row in MATRIX.items() if row.needs is not None and "<uuid:" not in key[1]],
)
@pytest.mark.django_db
@pytest.mark.parametrize("number", [2**63, 10**40], ids=["beyond a row's id", "far beyond"])
def test_a_number_that_no_row_can_have_is_404(world: World, method: str, route: str, number: int) -> None:
    ids = dict.fromkeys(
        (
            "project_id",
            "task_id",
            "job_id",
            "round_id",
            "model_id",
            "run_id",
            "search_id",
            "trial_id",
            "picture_id",
            "lease_id",
            "card_id",
            "return_id",
            "fit_id",
        ),
        number,
    )

    assert ask(world, method, route, world.house.people[Role.OWNER], **ids).status_code == 404


@pytest.mark.django_db
@pytest.mark.parametrize("number", [10**9, 2**63, 10**40])
def test_a_person_or_token_that_is_not_there_is_404(house: House, number: int) -> None:
    owner = house.client(Role.OWNER)

    for path in (f"projects/{house.project.pk}/members/{number}", f"tokens/{number}"):
        assert owner.delete(f"/{API}{path}").status_code == 404


@pytest.mark.django_db
def test_somebody_else_s_token_is_not_there(house: House) -> None:
    token, _ = accounts.make_token(user=house.people[Role.ANNOTATOR], name="mine")

    assert house.client(Role.OWNER).delete(f"/{API}tokens/{token.pk}").status_code == 404
    assert house.client(Role.OWNER).get(f"/{API}tokens").json()["items"] == []


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["", "annotate/", "review/", "quality/", "rounds/", "runs/"])
def test_a_page_of_a_project_is_not_there_for_a_stranger(house: House, path: str) -> None:
    client = APIClient()
    client.force_login(house.stranger)

    assert client.get(f"/projects/{house.project.pk}/{path}").status_code == 404


@pytest.mark.django_db
@pytest.mark.parametrize(
    "path",
    [
        "/",
        *(f"/projects/{{}}/{page}" for page in ("", "annotate/", "review/", "quality/", "rounds/", "runs/")),
    ],
)
def test_a_page_sends_whoever_is_not_logged_in_to_the_login(house: House, path: str) -> None:
    answer = APIClient().get(path.format(house.project.pk))

    assert answer.status_code == 302
    assert answer["Location"].startswith("/login/")


@pytest.mark.django_db
def test_nobody_annotates_a_page_that_is_only_theirs_to_see(house: House) -> None:
    client = APIClient()
    client.force_login(house.people[Role.VIEWER])

    assert client.get(f"/projects/{house.project.pk}/annotate/").status_code == 403


@pytest.mark.django_db
@pytest.mark.parametrize("page", ["review", "quality"])
@pytest.mark.parametrize(("role", "status"), [(Role.ANNOTATOR, 403), (Role.REVIEWER, 200)])
def test_the_pages_for_reviewers_are_for_reviewers(house: House, role: Role, status: int, page: str) -> None:
    client = APIClient()
    client.force_login(house.people[role])

    assert client.get(f"/projects/{house.project.pk}/{page}/").status_code == status
    link = f'href="/projects/{house.project.pk}/{page}/"'
    assert (link in client.get(f"/projects/{house.project.pk}/").content.decode()) == (status == 200)


@pytest.mark.django_db
def test_a_list_of_projects_has_only_one_s_own(house: House) -> None:
    listed = house.client(house.stranger).get(f"/{API}projects").json()["items"]

    assert listed == []
    assert [item["role"] for item in house.client(Role.VIEWER).get(f"/{API}projects").json()["items"]] == [
        "viewer"
    ]


@pytest.mark.django_db
def test_a_member_who_left_is_a_stranger_at_once(world: World) -> None:
    house = world.house
    annotator = house.people[Role.ANNOTATOR]
    house.client(Role.OWNER).delete(f"/{API}projects/{house.project.pk}/members/{annotator.pk}")

    assert ask(world, "GET", "tasks/<int:task_id>", annotator).status_code == 404
