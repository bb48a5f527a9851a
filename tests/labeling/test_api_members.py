"""projects/{id}/members, me and tokens."""

import pytest
from rest_framework.test import APIClient

from labeling.models import ApiToken, Membership, Role
from labeling.services import projects
from tests.conftest import House

pytestmark = pytest.mark.django_db


def test_a_manager_adds_a_person_and_changes_their_role(house: House) -> None:
    manager = house.client(Role.MANAGER)
    path = f"/api/v1/projects/{house.project.pk}/members"
    for role in ("annotator", "reviewer"):
        response = manager.post(path, {"username": "the stranger", "role": role})
        assert (response.status_code, response.json()["role"]) == (201, role)

    assert Membership.objects.get(user=house.stranger).role == Role.REVIEWER


def test_only_an_owner_makes_changes_or_removes_an_owner(house: House) -> None:
    owner, manager = house.people[Role.OWNER], house.client(Role.MANAGER)
    projects.set_member(project=house.project, username=house.stranger.username, role=Role.OWNER, actor=owner)
    path = f"/api/v1/projects/{house.project.pk}/members"

    made = manager.post(path, {"username": "the manager", "role": "owner"})
    demoted = manager.post(path, {"username": "the owner", "role": "viewer"})
    removed = manager.delete(f"{path}/{owner.pk}")

    assert [response.status_code for response in (made, demoted, removed)] == [403, 403, 403]
    assert Membership.objects.get(user=owner).role == Role.OWNER
    assert house.client(Role.OWNER).delete(f"{path}/{house.stranger.pk}").status_code == 204


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"username": "nobody", "role": "viewer"}, "no_such_person"),
        ({"username": "the stranger", "role": "emperor"}, "invalid"),
        ({"username": "the stranger"}, "invalid"),
    ],
)
def test_who_is_not_known_or_what_is_no_role_is_400(house: House, body: dict[str, str], code: str) -> None:
    response = house.client(Role.OWNER).post(f"/api/v1/projects/{house.project.pk}/members", body)

    assert (response.status_code, response.json()["code"]) == (400, code)


def test_the_last_owner_cannot_leave(house: House) -> None:
    owner = house.people[Role.OWNER]

    response = house.client(Role.OWNER).delete(f"/api/v1/projects/{house.project.pk}/members/{owner.pk}")

    assert (response.status_code, response.json()["code"]) == (409, "last_owner")


def test_members_are_listed_page_by_page(house: House) -> None:
    client = house.client(Role.VIEWER)
    path = f"/api/v1/projects/{house.project.pk}/members?limit=2"
    names, cursor = [], ""
    for _ in range(3):
        page = client.get(f"{path}&cursor={cursor}").json()
        names += [item["username"] for item in page["items"]]
        cursor = page["next"]

    assert sorted(names) == sorted(person.username for person in house.people.values())
    assert cursor is None


def test_a_token_is_shown_once_and_kept_as_a_hash(house: House) -> None:
    client = house.client(Role.ANNOTATOR)

    made = client.post("/api/v1/tokens", {"name": "robot"}).json()
    listed = client.get("/api/v1/tokens").json()["items"]

    assert made["token"].startswith("lw_")
    assert [set(item) for item in listed] == [{"id", "name", "created_at", "expires_at"}]
    assert made["token"] not in str(ApiToken.objects.values().get())


def test_a_deleted_token_lets_nobody_in(house: House) -> None:
    client = house.client(Role.ANNOTATOR)
    made = client.post("/api/v1/tokens", {"name": "robot"}).json()
    robot = APIClient(HTTP_AUTHORIZATION=f"Token {made['token']}")
    assert robot.get("/api/v1/me").json() == {
        "id": house.people[Role.ANNOTATOR].pk,
        "username": "the annotator",
        "is_staff": False,
    }

    client.delete(f"/api/v1/tokens/{made['id']}")

    assert robot.get("/api/v1/me").status_code == 401


def test_the_token_of_somebody_who_was_shut_out_lets_nobody_in(house: House) -> None:
    person = house.people[Role.ANNOTATOR]
    secret = house.client(Role.ANNOTATOR).post("/api/v1/tokens", {"name": "robot"}).json()["token"]
    person.is_active = False
    person.save()

    assert APIClient(HTTP_AUTHORIZATION=f"Token {secret}").get("/api/v1/me").status_code == 401
