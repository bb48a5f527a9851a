"""tasks/{id} and projects/{id}/tasks: what each may see of a task, and when."""

import json
from io import BytesIO
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from PIL import Image as Pillow

from labeling.models import ConsensusSource, Project, Reason, Role, Task
from labeling.services import annotations, consensus, predictions, queue
from labeling.shapes import Box, Json
from tests.conftest import House, box

pytestmark = pytest.mark.django_db


def hand_in(house: House, task: Task, role: Role, x: float) -> None:
    annotations.submit(
        task=task,
        author=house.people[role],
        key=uuid4(),
        shapes=(Box("a", 1, (x, 5.0, x + 20.0, 25.0)),),
        base_revision=0,
        seconds_active=2.0,
        suggestions_from="",
        now=task.created_at,
    )


def get(house: House, role: Role, path: str) -> Any:
    return house.client(role).get(f"/api/v1/{path}")


def lease(house: House, role: Role, count: int = 1) -> Json:
    response = house.client(role).post(f"/api/v1/projects/{house.project.pk}/queue/next", {"count": count})
    body: Json = response.json()
    return body


@pytest.mark.parametrize("answered_oneself", [False, True])
def test_an_annotator_never_sees_another_s_answer_or_the_consensus(
    house: House, answered_oneself: bool
) -> None:
    task = house.add_picture()
    hand_in(house, task, Role.REVIEWER, 11.25)
    hand_in(house, task, Role.MANAGER, 11.25)
    if answered_oneself:
        hand_in(house, task, Role.ANNOTATOR, 30.5)

    paths = [f"tasks/{task.pk}", f"tasks/{task.pk}/annotations", f"projects/{house.project.pk}/progress"]
    told = "".join(get(house, Role.ANNOTATOR, path).content.decode() for path in paths)
    told += str(lease(house, Role.ANNOTATOR))

    assert "11.25" not in told
    assert "the reviewer" not in told
    assert ("30.5" in told) is answered_oneself
    assert get(house, Role.ANNOTATOR, f"tasks/{task.pk}/consensus").status_code == 403
    assert get(house, Role.ANNOTATOR, f"projects/{house.project.pk}/tasks").status_code == 403


def test_a_leased_task_carries_nobody_else_s_answer_or_draft(house: House) -> None:
    task = house.add_picture()
    hand_in(house, task, Role.REVIEWER, 11.25)
    house.client(Role.MANAGER).put(f"/api/v1/tasks/{task.pk}/draft", {"token": 1, "shapes": [box()]})

    (leased,) = lease(house, Role.ANNOTATOR)["leases"]

    assert (leased["previous"], leased["draft"], leased["base_revision"]) == ([], None, 0)


def test_a_reviewer_sees_all_answers_and_the_consensus(house: House) -> None:
    task = house.add_picture()
    hand_in(house, task, Role.ANNOTATOR, 4.0)
    hand_in(house, task, Role.MANAGER, 5.0)

    detail = get(house, Role.REVIEWER, f"tasks/{task.pk}").json()
    settled = get(house, Role.REVIEWER, f"tasks/{task.pk}/consensus").json()

    assert {item["author"] for item in detail["annotations"]} == {"the annotator", "the manager"}
    assert detail["consensus"] == settled
    assert settled["answers"] == 2


def test_a_task_without_a_consensus_says_so(house: House) -> None:
    response = get(house, Role.REVIEWER, f"tasks/{house.add_picture().pk}/consensus")

    assert (response.status_code, response.json()["code"]) == (404, "not_settled")


def test_gold_is_hidden_from_an_annotator(house: House) -> None:
    task = house.add_picture()
    consensus.set_answer(
        task=task,
        shapes=(Box("g", 1, (3.125, 1.0, 9.0, 9.0)),),
        source=ConsensusSource.EXPERT,
        actor=house.people[Role.OWNER],
        as_gold=True,
    )

    seen = get(house, Role.ANNOTATOR, f"tasks/{task.pk}")

    assert seen.json()["is_gold"] is False
    assert "3.125" not in seen.content.decode()
    assert get(house, Role.REVIEWER, f"tasks/{task.pk}").json()["is_gold"] is True


@pytest.mark.parametrize("hidden", ["blind", "is_gold", None])
def test_suggestions_are_shown_above_the_threshold_unless_the_task_is_blind_or_gold(
    house: House, hidden: str | None
) -> None:
    task = house.add_picture()
    if hidden:
        Task.objects.filter(pk=task.pk).update(**{hidden: True})
    shapes = [Box(str(score), 1, (1, 1, 9, 9), "model_only", score) for score in (0.3, 0.4, 0.9)]
    predictions.save_all(model="p1-v1", predicted=[predictions.Predicted(task.pk, shapes)])
    predictions.show(project=house.project, model="p1-v1", threshold=0.4)

    (leased,) = lease(house, Role.ANNOTATOR)["leases"]

    assert [shape["score"] for shape in leased["suggestions"]] == ([] if hidden else [0.4, 0.9])
    assert leased["suggestions_from"] == (None if hidden else "p1-v1")


def test_saving_predictions_again_changes_nothing_and_another_model_s_stay(house: House) -> None:
    task = house.add_picture()
    for model in ("a", "b", "a"):
        shapes = [Box("s", 1, (1, 1, 9, 9), "model_only", 0.5)]
        predictions.save_all(model=model, predicted=[predictions.Predicted(task.pk, shapes, 0.1)])

    assert sorted(task.predictions.values_list("model", flat=True)) == ["a", "b"]


def test_the_queue_gives_the_schema_once_and_each_task_s_picture(house: House) -> None:
    first, second = house.add_picture(), house.add_picture()

    body = lease(house, Role.ANNOTATOR, count=3)

    assert [leased["task"]["id"] for leased in body["leases"]] == [first.pk, second.pk]
    assert body["empty"] is None
    assert body["schema_version"] == 1
    assert [item["name"] for item in body["schema"]["classes"]] == ["cell", "seed", "mouse", "blurred"]
    image = body["leases"][0]["image"]
    assert (image["width"], image["height"]) == (64, 48)
    assert image["tiers"]["512"] == f"/api/v1/tasks/{first.pk}/image/512"


def test_an_empty_queue_tells_why_and_who_holds_what(house: House) -> None:
    Project.objects.update(answers_per_task=1)
    house.project.refresh_from_db()
    house.add_picture()
    lease(house, Role.REVIEWER)

    body = lease(house, Role.ANNOTATOR)

    assert body["leases"] == []
    assert body["empty"]["code"] == "all_held"
    assert [holder["username"] for holder in body["empty"]["held"]] == ["the reviewer"]


def test_a_lost_lease_is_409(house: House) -> None:
    task = house.add_picture()
    (leased,) = lease(house, Role.ANNOTATOR)["leases"]
    client = house.client(Role.ANNOTATOR)

    for operation, body in (("heartbeat", {}), ("skip", {"reason": "x"})):
        response = client.post(
            f"/api/v1/tasks/{task.pk}/{operation}", {"token": leased["lease"]["token"] + 1} | body
        )
        assert (response.status_code, response.json()["code"]) == (409, "lease_lost")


@pytest.mark.parametrize("token", [None, -1, 2**63, 10**400, "x", 1.5, True, [], {}])
@pytest.mark.parametrize("operation", ["heartbeat", "release", "skip"])
def test_a_token_that_is_none_is_400(house: House, operation: str, token: object) -> None:
    task = house.add_picture()

    response = house.client(Role.ANNOTATOR).post(f"/api/v1/tasks/{task.pk}/{operation}", {"token": token})

    assert (response.status_code, response.json()["param"]) == (400, "token")


def test_tasks_are_listed_by_state_and_page(house: House) -> None:
    tasks = [house.add_picture(state="settled" if number % 2 else "queued") for number in range(5)]
    path = f"projects/{house.project.pk}/tasks?state=queued&limit=2"

    first = get(house, Role.REVIEWER, path).json()
    second = get(house, Role.REVIEWER, f"{path}&cursor={first['next']}").json()

    assert [item["id"] for item in first["items"] + second["items"]] == [tasks[n].pk for n in (0, 2, 4)]
    assert second["next"] is None


def test_progress_counts_tasks_by_state_and_gold_apart(house: House) -> None:
    house.add_picture()
    house.add_picture(state="settled")
    house.add_picture(state="settled", is_gold=True)

    progress = get(house, Role.VIEWER, f"projects/{house.project.pk}/progress").json()

    assert (progress["tasks"], progress["queued"], progress["settled"], progress["gold"]) == (2, 1, 1, 1)


def test_a_picture_is_served_as_jpeg_for_this_person_alone_and_not_sent_twice(house: House) -> None:
    path = f"tasks/{house.add_picture().pk}/image/full"
    client = house.client(Role.VIEWER)

    response = client.get(f"/api/v1/{path}")
    again = client.get(f"/api/v1/{path}", headers={"if-none-match": response["ETag"]})

    assert Pillow.open(BytesIO(response.content)).size == (64, 48)
    assert response["Content-Type"] == "image/jpeg"
    assert response["Cache-Control"].startswith("private")
    assert response["X-Content-Type-Options"] == "nosniff"
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("tier", ["1024", "original", "..", "%2e%2e"])
def test_a_tier_that_is_none_is_404(house: House, tier: str) -> None:
    assert get(house, Role.VIEWER, f"tasks/{house.add_picture().pk}/image/{tier}").status_code == 404


def make_gold(house: House, reason: Reason = Reason.GOLD) -> Task:
    task = house.add_picture(reason=reason)
    consensus.set_answer(
        task=task, shapes=(), source=ConsensusSource.EXPERT, actor=house.people[Role.OWNER], as_gold=True
    )
    return task


def test_nothing_that_an_annotator_is_told_tells_gold_from_any_other_task(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = house.add_picture(reason=Reason.UNCERTAIN, priority=0.7)
    annotator, told = house.client(Role.ANNOTATOR), []
    (first,) = lease(house, Role.ANNOTATOR)["leases"]
    annotator.post(f"/api/v1/tasks/{real.pk}/release", {"token": first["lease"]["token"]})
    gold = make_gold(house)
    for role in (Role.REVIEWER, Role.MANAGER, Role.OWNER):  # many have answered it before
        hand_in(house, gold, role, 4.0)
    Project.objects.update(gold_share=0.5)
    defaults = queue.lease_next.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "draw", lambda: 0.0)
    (second,) = lease(house, Role.ANNOTATOR)["leases"]
    monkeypatch.setitem(defaults, "draw", lambda: 1.0)
    lease(house, Role.ANNOTATOR, count=2)
    for leased, task in ((first, real), (second, gold)):
        assert leased["task"]["id"] == task.pk
        path = f"tasks/{task.pk}"
        before = get(house, Role.ANNOTATOR, path).json()
        body = {"key": str(uuid4()), "shapes": [box()], "lease_token": task.leases.get().token}
        answered = annotator.post(f"/api/v1/{path}/annotations", body, format="json").json()
        after = get(house, Role.ANNOTATOR, path).json()
        taken_back = annotator.post(f"/api/v1/{path}/annotations/withdraw", {"base_revision": 1}).json()
        leased["lease"]["expires_at"] = answered["id"] = after["annotations"][0]["id"] = ""
        after["annotations"][0]["created_at"] = ""
        text = json.dumps([leased, before, answered, after, taken_back])
        for own in (f"tasks/{task.pk}", f'"id": {task.pk},', f'"task_id": {task.pk},', task.name):
            text = text.replace(own, "")
        told.append(text.replace(task.image.sha256, "").replace(f'"token": {leased["lease"]["token"]}', ""))
        assert 1 <= leased["lease"]["token"] <= 2

    assert told[0] == told[1]


def test_a_manager_sees_who_holds_what_and_takes_it_back(house: House) -> None:
    task = house.add_picture()
    lease(house, Role.ANNOTATOR)
    path = f"/api/v1/projects/{house.project.pk}/leases"

    (held,) = house.client(Role.MANAGER).get(path).json()["items"]
    responses = [house.client(Role.MANAGER).delete(f"/api/v1/leases/{held['id']}") for _ in range(2)]

    assert (held["username"], held["task_id"], held["task_name"]) == ("the annotator", task.pk, task.name)
    assert [response.status_code for response in responses] == [204, 404]
    task.refresh_from_db()
    assert (task.slots, task.state) == (2, "queued")
    assert house.client(Role.MANAGER).get(path).json()["items"] == []


def put_in_front(house: House, task_ids: list[int], **more: object) -> Any:
    path = f"/api/v1/projects/{house.project.pk}/tasks/prioritise"
    return house.client(Role.MANAGER).post(path, {"task_ids": task_ids} | more, format="json")


def test_a_manager_puts_tasks_in_front_and_a_later_round_leaves_them_there(house: House) -> None:
    first, second, third = (house.add_picture() for _ in range(3))
    done, elsewhere = house.add_picture(slots=0), 10**12
    hand_in(house, second, Role.REVIEWER, 4.0)

    response = put_in_front(house, [third.pk, done.pk, elsewhere])
    predictions.prioritise(
        project=house.project,
        chosen=[
            predictions.Priority(first.pk, 0.5, Reason.UNCERTAIN),
            predictions.Priority(third.pk, 0.9, Reason.RANDOM),
        ],
    )

    assert response.json() == {"moved": 1}
    order = [leased["task"]["id"] for leased in lease(house, Role.ANNOTATOR, count=3)["leases"]]
    assert order == [third.pk, second.pk, first.pk]
    third.refresh_from_db()
    assert (third.priority, third.reason) == (predictions.BY_HAND, Reason.MANUAL)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"task_ids": []}, "task_ids"),
        ({"task_ids": [2**63]}, "task_ids[0]"),
        ({"task_ids": ["x"]}, "task_ids[0]"),
        ({"task_ids": [1], "priority": "nan"}, "priority"),
        ({"task_ids": [1], "priority": 1e9}, "priority"),
    ],
)
def test_what_cannot_be_put_in_front_is_refused(house: House, fields: Json, param: str) -> None:
    response = put_in_front(house, **fields)

    assert response.status_code == 400
    assert response.json()["param"].startswith("task_ids" if "task" in param else param)


def test_a_new_order_writes_no_row_that_is_right_already(house: House) -> None:
    tasks = [house.add_picture() for _ in range(6)]
    hand_in(house, tasks[0], Role.REVIEWER, 4.0)
    chosen = [predictions.Priority(task.pk, 0.5, Reason.DIVERSE, 0.25) for task in tasks[1:3]]
    assert predictions.prioritise(project=house.project, chosen=chosen) == 2
    tasks[0].refresh_from_db()
    assert tasks[0].priority == predictions.BEGUN

    with CaptureQueriesContext(connection) as captured:
        assert predictions.prioritise(project=house.project, chosen=chosen) == 2

    assert not [query["sql"] for query in captured if query["sql"].startswith("UPDATE")]
    assert predictions.prioritise(project=house.project, chosen=[]) == 0
    assert not Task.objects.filter(reason=Reason.DIVERSE).exists()
    assert not Task.objects.exclude(random_probability=None).exists()


def test_a_new_order_is_written_in_steps(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "STEP", 2)
    monkeypatch.setattr(predictions, "CHUNK", 2)
    for _ in range(7):
        house.add_picture(priority=0.3, reason=Reason.UNCERTAIN)
    begun = [house.add_picture(answers=1, slots=1) for _ in range(5)]

    predictions.prioritise(project=house.project, chosen=[])

    assert set(Task.objects.filter(priority=predictions.BEGUN)) == set(begun)
    assert Task.objects.filter(priority=0.0, reason=Reason.AGE).count() == 7
