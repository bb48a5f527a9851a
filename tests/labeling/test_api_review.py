"""Reviews, cards, returned objects, time and the record's clients, over HTTP."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from labeling.models import Annotation, Card, Event, Project, Return, Role, Task, TaskState
from labeling.services import accounts, annotations, events, jobs
from labeling.shapes import Box
from labeling.tasks import sweep
from tests.conftest import House, box, make_house

pytestmark = pytest.mark.django_db

NOW = datetime.fromisoformat("2026-03-02T10:00:00+00:00")


@pytest.fixture
def reviewed(db: None, sent: object) -> House:
    return make_house(consensus_method="majority", review_risk=0.0)


@pytest.fixture
def asking(db: None, sent: object) -> House:
    return make_house(consensus_method="majority", cards_per_dispute=1)


def hand_in(task: Task, author: User, *shapes: Box, base_revision: int = 0, now: datetime = NOW) -> None:
    annotations.submit(
        task=task,
        author=author,
        key=uuid4(),
        shapes=shapes,
        base_revision=base_revision,
        seconds_active=30.0,
        suggestions_from="",
        now=now,
    )


def answered(house: House) -> Task:
    task = house.add_picture()
    own, extra = Box("a", 1, (4.0, 5.0, 24.0, 25.0)), Box("x", 1, (40.0, 5.0, 60.0, 25.0))
    hand_in(task, house.people[Role.ANNOTATOR], own, extra)
    hand_in(task, house.people[Role.OWNER], own)
    return task


def post(house: House, who: Role, path: str, **body: Any) -> Any:
    return house.client(who).post(f"/api/v1/{path}", body)


def review_next(house: House, who: Role = Role.REVIEWER, **body: Any) -> Any:
    return post(house, who, f"projects/{house.project.pk}/review/next", **body).json()


def test_a_reviewer_gets_all_there_is_to_know_about_the_riskiest_task(reviewed: House) -> None:
    task = answered(reviewed)
    task.skips.create(user=reviewed.people[Role.MANAGER], reason="dark")

    got = review_next(reviewed)

    assert got["empty"] is None
    review = got["review"]
    assert (review["task"]["id"], review["cause"], review["base_revision"]) == (task.pk, "risk", 1)
    assert review["reviewer"] == "the reviewer"
    assert {answer["author"]: len(answer["shapes"]) for answer in review["annotations"]} == {
        "the annotator": 2,
        "the owner": 1,
    }
    assert sorted(shape["score"] for shape in review["consensus"]["shapes"]) == [0.5, 1.0]
    assert [skip["reason"] for skip in review["skips"]] == ["dark"]
    assert review["image"]["tiers"]["512"].endswith(f"/tasks/{task.pk}/image/512")


def test_an_empty_review_queue_says_why(reviewed: House) -> None:
    answered(reviewed)
    review_next(reviewed)

    got = review_next(reviewed, Role.MANAGER)

    assert got["review"] is None
    assert got["empty"]["code"] == "all_held"
    assert got["empty"]["held"][0]["username"] == "the reviewer"


@pytest.mark.parametrize("passed", [["1"], [0], [2**70], "1"])
def test_what_is_passed_must_be_tasks(reviewed: House, passed: object) -> None:
    answer = post(reviewed, Role.REVIEWER, f"projects/{reviewed.project.pk}/review/next", passed=passed)

    assert answer.status_code == (200 if passed == ["1"] else 400)


def test_a_task_is_accepted_over_http(reviewed: House) -> None:
    task = answered(reviewed)
    answer = post(reviewed, Role.REVIEWER, f"tasks/{task.pk}/review/accept", base_revision=1)

    assert answer.json()["task"]["state"] == "settled"
    assert answer.json()["consensus"]["source"] == "expert"


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("accept", {}),
        ("correct", {"shapes": [box()]}),
        ("reject", {"reason": "black"}),
        ("reopen", {"to": "queue"}),
    ],
)
def test_a_decision_about_another_consensus_is_a_conflict(
    reviewed: House, what: str, body: dict[str, Any]
) -> None:
    task = answered(reviewed)
    answer = post(reviewed, Role.REVIEWER, f"tasks/{task.pk}/review/{what}", base_revision=7, **body)

    assert (answer.status_code, answer.json()["code"]) == (409, "stale_review")


def test_making_gold_takes_a_manager(reviewed: House) -> None:
    task = answered(reviewed)
    path = f"tasks/{task.pk}/review/accept"

    assert post(reviewed, Role.REVIEWER, path, base_revision=1, as_gold=True).status_code == 403
    assert post(reviewed, Role.MANAGER, path, base_revision=1, as_gold=True).status_code == 200
    assert Task.objects.get().is_gold


@pytest.mark.parametrize(("what", "body"), [("correct", {"shapes": []}), ("reject", {})])
def test_changing_gold_takes_a_manager(reviewed: House, what: str, body: dict[str, Any]) -> None:
    task = answered(reviewed)
    post(reviewed, Role.MANAGER, f"tasks/{task.pk}/review/accept", base_revision=1, as_gold=True)
    path = f"tasks/{task.pk}/review/{what}"

    assert post(reviewed, Role.REVIEWER, path, base_revision=2, **body).status_code == 403
    assert post(reviewed, Role.MANAGER, path, base_revision=2, **body).status_code == 200


@pytest.mark.parametrize(
    ("shape", "param"),
    [(box(class_id=99), "shapes[0].class_id"), (box(xyxy=[9, 9, 1, 1]), "shapes[0].xyxy")],
)
def test_a_wrong_correction_is_told_by_its_path(reviewed: House, shape: dict[str, Any], param: str) -> None:
    task = answered(reviewed)
    answer = post(reviewed, Role.REVIEWER, f"tasks/{task.pk}/review/correct", base_revision=1, shapes=[shape])

    assert (answer.status_code, answer.json()["param"]) == (400, param)


def send_back(house: House, task: Task, **fields: Any) -> Any:
    answer = Annotation.objects.get(task=task, author=house.people[Role.ANNOTATOR])
    body = {"base_revision": 1, "annotation": str(answer.pk), "shape_id": "x", "comment": "Is it one?"}
    return post(house, Role.REVIEWER, f"tasks/{task.pk}/review/return", **(body | fields))


def test_an_object_goes_back_to_its_author_who_alone_sees_it(reviewed: House) -> None:
    task = answered(reviewed)
    sent = send_back(reviewed, task).json()
    listing = f"/api/v1/projects/{reviewed.project.pk}/returns"

    (seen,) = reviewed.client(Role.ANNOTATOR).get(listing).json()["items"]

    assert seen["id"] == sent["id"]
    assert (seen["task_id"], seen["shape_id"], seen["comment"], seen["reviewer"]) == (
        task.pk,
        "x",
        "Is it one?",
        "the reviewer",
    )
    for role in (Role.OWNER, Role.REVIEWER):
        assert reviewed.client(role).get(listing).json()["items"] == []
        assert post(reviewed, role, f"returns/{sent['id']}/lease").status_code == 404
    leased = post(reviewed, Role.ANNOTATOR, f"returns/{sent['id']}/lease").json()
    opened = post(reviewed, Role.ANNOTATOR, f"projects/{reviewed.project.pk}/queue/next", count=1).json()
    assert opened["leases"][0]["task"]["id"] == leased["task_id"] == task.pk
    assert opened["leases"][0]["lease"]["token"] == leased["lease"]["token"]
    assert opened["leases"][0]["base_revision"] == 1


@pytest.mark.parametrize(
    "wrong",
    [{"comment": ""}, {"comment": "a\x00b"}, {"comment": "x" * 2001}, {"annotation": "no uuid"}],
)
def test_what_cannot_be_stored_of_a_return_is_refused(reviewed: House, wrong: dict[str, Any]) -> None:
    answer = send_back(reviewed, answered(reviewed), **wrong)

    assert answer.status_code == 400
    assert not Return.objects.exists()


def test_an_answer_of_another_task_is_not_there_to_send_back(reviewed: House) -> None:
    task, other = answered(reviewed), answered(reviewed)
    foreign = Annotation.objects.get(task=other, author=reviewed.people[Role.ANNOTATOR])

    assert send_back(reviewed, task, annotation=str(foreign.pk)).status_code == 404


def test_a_released_task_is_another_reviewer_s_at_once(reviewed: House) -> None:
    task = answered(reviewed)
    review_next(reviewed)
    post(reviewed, Role.MANAGER, f"tasks/{task.pk}/review/release")  # not the manager's to release
    assert review_next(reviewed, Role.MANAGER)["review"] is None

    post(reviewed, Role.REVIEWER, f"tasks/{task.pk}/review/release")

    assert review_next(reviewed, Role.MANAGER)["review"]["task"]["id"] == task.pk


# --- cards --------------------------------------------------------------------------------------------------


def test_a_card_tells_nothing_of_who_drew_it_or_how_many(asking: House) -> None:
    answered(asking)
    got = post(asking, Role.REVIEWER, f"projects/{asking.project.pk}/cards/next").json()

    (card,) = got["cards"]
    assert set(card) == {"id", "shape", "class_name", "region", "image"}
    assert set(card["shape"]) == {"id", "kind", "class_id", "xyxy", "provenance"}
    assert (card["class_name"], card["region"]) == ("cell", [16.0, 0.0, 64.0, 48.0])
    assert got["expires_at"] is not None


def test_a_verdict_is_given_once_and_the_same_again_is_no_error(asking: House) -> None:
    task = answered(asking)
    (card,) = post(asking, Role.REVIEWER, f"projects/{asking.project.pk}/cards/next").json()["cards"]
    path = f"cards/{card['id']}/answer"

    answers = [post(asking, Role.REVIEWER, path, verdict="drop", seconds_active=2) for _ in range(2)]
    other = post(asking, Role.REVIEWER, path, verdict="keep")

    assert [answer.json() for answer in answers] == [{"id": card["id"], "verdict": "drop"}] * 2
    assert (other.status_code, other.json()["code"]) == (409, "verdict_given")
    task.refresh_from_db()
    assert task.state == TaskState.SETTLED


def test_nobody_judges_their_own_picture(asking: House) -> None:
    answered(asking)
    path = f"cards/{Card.objects.get().pk}/answer"

    answer = post(asking, Role.ANNOTATOR, path, verdict="keep")

    assert (answer.status_code, answer.json()["code"]) == (409, "own_task")
    assert post(asking, Role.ANNOTATOR, path, verdict="maybe").status_code == 400


def test_a_reviewer_sees_what_was_said_about_a_task_s_objects(asking: House) -> None:
    task = answered(asking)
    (card,) = asking.client(Role.REVIEWER).get(f"/api/v1/tasks/{task.pk}/cards").json()["items"]

    assert (card["confidence"], card["slots"], card["keeps"], card["verdict"]) == (0.5, 1, 0, "")


def test_the_rules_of_review_are_a_manager_s_to_set(house: House) -> None:
    path = f"/api/v1/projects/{house.project.pk}"
    rules = {
        "gold_share": 0.1,
        "skips_to_review": 2,
        "review_share": 0.05,
        "review_risk": 0.5,
        "cards_per_dispute": 3,
    }

    answer = house.client(Role.MANAGER).patch(path, rules)

    assert answer.json() | rules == answer.json()
    assert house.client(Role.MANAGER).patch(path, {"review_risk": None}).json()["review_risk"] is None
    for wrong in (
        {"gold_share": 0.6},
        {"skips_to_review": 0},
        {"review_share": 2},
        {"review_risk": -1},
        {"cards_per_dispute": 21},
    ):
        assert house.client(Role.MANAGER).patch(path, wrong).status_code == 400


# --- the record ---------------------------------------------------------------------------------------------


def last_client(house: House) -> str:
    listed = house.client(Role.MANAGER).get(f"/api/v1/projects/{house.project.pk}/events").json()
    return str(listed["items"][0]["client"])


def test_an_event_names_the_browser(house: House) -> None:
    client = APIClient(headers={"user-agent": "Mozilla/5.0 " + "x" * 300})
    client.force_login(house.people[Role.MANAGER])
    client.patch(f"/api/v1/projects/{house.project.pk}", {"guide": "Cells."})

    assert last_client(house) == "browser · Mozilla/5.0 " + "x" * 108


def test_an_event_names_the_program_by_its_token(house: House) -> None:
    _, secret = accounts.make_token(user=house.people[Role.MANAGER], name="night import")
    client = APIClient(headers={"user-agent": "curl/8", "authorization": f"Token {secret}"})
    client.patch(f"/api/v1/projects/{house.project.pk}", {"guide": "Cells."})

    assert last_client(house) == "token night import · curl/8"
    assert events.current_client() == ""  # the next request on this thread is nobody yet


def test_an_event_names_the_job(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(running: jobs.Running) -> None:
        events.record(project=house.project, actor=None, verb="worked", subject=house.project)

    monkeypatch.setitem(jobs._handlers, "a test", work)
    job = jobs.enqueue(kind="a test", key="a test", params={}, project=house.project)
    jobs.run(job.pk)

    assert Event.objects.get(verb="worked").client == f"job {job.pk} a test"


def test_an_event_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["manage.py", "add_user", "ann"])

    assert events.current_client() == "manage.py add_user"


@pytest.mark.parametrize("agent", ["a\x00b\x07c", "\x7f", ""])
def test_a_client_s_name_can_be_stored_on_every_database(agent: str) -> None:
    with events.client(f"browser {agent}"):
        assert events.current_client().isprintable()


def test_time_spent_is_told_by_person_and_day(asking: House) -> None:
    today = datetime.now(UTC)
    task = answered(asking)
    hand_in(task, asking.people[Role.OWNER], base_revision=1, now=today)
    answered(asking)
    (card, *_) = post(asking, Role.REVIEWER, f"projects/{asking.project.pk}/cards/next").json()["cards"]
    post(asking, Role.REVIEWER, f"cards/{card['id']}/answer", verdict="keep", seconds_active=4)
    Event.objects.filter(actor=asking.people[Role.ANNOTATOR]).update(at=today - timedelta(days=2))

    def told(query: str = "") -> dict[str, Any]:
        answer = asking.client(Role.MANAGER).get(f"/api/v1/projects/{asking.project.pk}/time{query}")
        return dict(answer.json())

    rows = [
        (item["username"], item["answers"], item["cards"], item["seconds_active"]) for item in told()["items"]
    ]
    assert rows == [
        ("the owner", 3, 0, 90.0),
        ("the reviewer", 0, 1, 4.0),
        ("the annotator", 2, 0, 60.0),
    ]
    assert {item["username"] for item in told("?days=1")["items"]} == {"the owner", "the reviewer"}
    assert told()["next"] is None
    Project.objects.update(created_at=today - timedelta(days=100))
    earlier = told("?days=2")["next"]
    assert earlier == (today - timedelta(days=2)).date().isoformat()
    assert [item["username"] for item in told(f"?days=2&until={earlier}")["items"]] == ["the annotator"]


@pytest.mark.parametrize("until", ["yesterday", "0001-01-01", "9999-12-31", "2026-13-01"])
def test_a_day_that_is_none_is_refused(house: House, until: str) -> None:
    answer = house.client(Role.MANAGER).get(f"/api/v1/projects/{house.project.pk}/time?until={until}")

    assert (answer.status_code, answer.json()["param"]) == (400, "until")


def test_the_sweeper_gives_cards_back_too(asking: House) -> None:
    answered(asking)
    post(asking, Role.REVIEWER, f"projects/{asking.project.pk}/cards/next")
    Card.objects.get().answers.update(expires_at=NOW - timedelta(days=1))

    sweep()

    assert Card.objects.get().slots == 1
