"""POST tasks/{id}/annotations and PUT tasks/{id}/draft: what is taken, what is refused, and what is kept."""

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from rest_framework.test import APIClient

from labeling import schema as label_schema
from labeling.models import Annotation, Draft, Event, Role, Task
from labeling.services import annotations, predictions, projects
from labeling.shapes import Json
from tests.conftest import BOXES_AND_POSES, House, box
from tests.labeling.threads import at_once

pytestmark = pytest.mark.django_db


def answer(*shapes: Json, **fields: Any) -> Json:
    return {"key": str(uuid4()), "base_revision": 0, "shapes": list(shapes), "seconds_active": 3.5} | fields


def submit(client: APIClient, task: Task, body: Json) -> Any:
    return client.post(f"/api/v1/tasks/{task.pk}/annotations", body)


def send_raw(client: APIClient, path: str, text: str, method: str = "POST") -> Any:
    return client.generic(method, path, text, content_type="application/json")


def drop_class(house: House, class_id: int) -> None:
    kept = [item for item in BOXES_AND_POSES["classes"] if item["id"] != class_id]
    projects.save_schema(
        project=house.project,
        schema=label_schema.parse({"classes": kept}),
        base_version=projects.current_schema(house.project).number,
        actor=house.people[Role.OWNER],
    )


def test_an_answer_is_stored_and_told(house: House) -> None:
    task = house.add_picture()
    client = house.client(Role.ANNOTATOR)

    response = submit(client, task, answer(box(), suggestions_from="m1"))

    assert response.status_code == 201
    stored = Annotation.objects.get()
    assert response.json() == {
        "id": str(stored.pk),
        "task_id": task.pk,
        "revision": 1,
        "state": "in_progress",
        "late": True,
    }
    assert (stored.author, stored.suggestions_from, stored.seconds_active) == (
        house.people[Role.ANNOTATOR],
        "m1",
        3.5,
    )
    assert stored.shapes == [box(provenance="human_drawn")]


def test_the_same_key_again_gets_the_same_status_and_body(house: House) -> None:
    task = house.add_picture()
    client = house.client(Role.ANNOTATOR)
    body = answer(box())

    first = submit(client, task, body)
    again = submit(client, task, body)

    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert Annotation.objects.count() == 1


def test_the_same_key_gets_the_same_answer_after_its_class_was_removed(house: House) -> None:
    task = house.add_picture()
    client = house.client(Role.ANNOTATOR)
    body = answer(box())
    first = submit(client, task, body)
    drop_class(house, 1)

    again = submit(client, task, body)

    assert (again.status_code, again.json()) == (201, first.json())


@pytest.mark.parametrize(
    "change", [{"shapes": []}, {"base_revision": 1}, {"shapes": [box(xyxy=[4, 5, 24, 25.5])]}]
)
def test_the_same_key_with_another_answer_is_422(house: House, change: Json) -> None:
    task = house.add_picture()
    client = house.client(Role.ANNOTATOR)
    body = answer(box())
    submit(client, task, body)

    response = submit(client, task, body | change)

    assert response.status_code == 422
    assert response.json()["code"] == "key_reused"
    assert Annotation.objects.count() == 1


def test_the_same_key_for_another_task_is_422(house: House) -> None:
    first, second = house.add_picture(), house.add_picture()
    client = house.client(Role.ANNOTATOR)
    body = answer(box())
    submit(client, first, body)

    assert submit(client, second, body).status_code == 422
    assert Annotation.objects.get().task == first


def test_two_people_may_use_one_key(house: House) -> None:
    task = house.add_picture()
    body = answer(box())

    statuses = [
        submit(house.client(role), task, body).status_code for role in (Role.ANNOTATOR, Role.REVIEWER)
    ]

    assert statuses == [201, 201]
    assert Annotation.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_twenty_submits_with_one_key_at_once_store_one_answer(house: House) -> None:
    task = house.add_picture()
    body = answer(box())

    answers = at_once(20, lambda _: submit(house.client(Role.ANNOTATOR), task, body))

    assert {response.status_code for response in answers} == {201}
    assert len({response.content for response in answers}) == 1
    assert Annotation.objects.count() == 1
    task.refresh_from_db()
    assert (task.answers, task.slots) == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_one_key_for_several_tasks_at_once_stores_one_answer(house: House) -> None:
    tasks = [house.add_picture() for _ in range(6)]
    body = answer(box())

    statuses = at_once(
        6, lambda number: submit(house.client(Role.ANNOTATOR), tasks[number], body).status_code
    )

    assert sorted(statuses) == [201] + [422] * 5
    assert Annotation.objects.count() == 1
    assert sorted(task.answers for task in Task.objects.all()) == [0] * 5 + [1]


@pytest.mark.django_db(transaction=True)
def test_of_several_tabs_with_one_base_revision_one_wins_and_the_others_are_told(house: House) -> None:
    task = house.add_picture()

    statuses = at_once(
        6,
        lambda number: (
            submit(house.client(Role.ANNOTATOR), task, answer(box(xyxy=[0, 0, 10 + number, 10]))).status_code
        ),
    )

    assert sorted(statuses) == [201] + [409] * 5
    assert Annotation.objects.count() == 1


def test_a_stale_base_revision_is_409_and_both_answers_are_kept(house: House) -> None:
    task = house.add_picture()
    client = house.client(Role.ANNOTATOR)
    mine = box(xyxy=[1, 1, 9, 9])
    submit(client, task, answer(box()))
    client.put(f"/api/v1/tasks/{task.pk}/draft", {"token": 1, "shapes": [mine], "tab": "second"})

    response = submit(client, task, answer(mine))

    assert response.status_code == 409
    assert response.json()["type"] == "conflict"
    assert response.json()["code"] == "stale_revision"
    assert Annotation.objects.get().shapes[0]["xyxy"] == box()["xyxy"]
    assert Draft.objects.get().shapes[0]["xyxy"] == [1, 1, 9, 9]


def test_a_correction_is_a_new_revision_and_the_old_one_stays(house: House) -> None:
    task = house.add_picture()
    client = house.client(Role.ANNOTATOR)
    submit(client, task, answer(box()))

    response = submit(client, task, answer(box(xyxy=[1, 1, 9, 9]), base_revision=1))

    assert (response.status_code, response.json()["revision"]) == (201, 2)
    assert list(Annotation.objects.order_by("revision").values_list("revision", "is_current")) == [
        (1, False),
        (2, True),
    ]
    task.refresh_from_db()
    assert (task.answers, task.slots) == (1, 1)


def test_an_answer_under_a_lease_is_not_late_and_ends_the_lease(house: House) -> None:
    task = house.add_picture()
    client = house.client(Role.ANNOTATOR)
    (leased,) = client.post(f"/api/v1/projects/{house.project.pk}/queue/next", {"count": 1}).json()["leases"]

    response = submit(client, task, answer(box(), lease_token=leased["lease"]["token"]))

    assert response.json()["late"] is False
    assert not task.leases.exists()


def test_a_late_answer_takes_a_slot_that_is_free(house: House) -> None:
    task = house.add_picture()

    assert submit(house.client(Role.ANNOTATOR), task, answer(box())).json()["late"] is True

    task.refresh_from_db()
    assert (task.answers, task.slots) == (1, 1)


def test_a_late_answer_to_a_task_that_others_took_is_kept_as_an_extra_one(house: House) -> None:
    task = house.add_picture()
    for role in (Role.REVIEWER, Role.MANAGER):
        submit(house.client(role), task, answer(box()))
    task.refresh_from_db()
    assert (task.state, task.slots) == ("settled", 0)

    response = submit(house.client(Role.ANNOTATOR), task, answer(box(xyxy=[5, 5, 25, 25])))

    assert (response.status_code, response.json()["late"], response.json()["state"]) == (201, True, "settled")
    task.refresh_from_db()
    assert (task.answers, task.slots) == (3, 0)
    assert task.consensus is not None
    assert task.consensus.answers == 3


def test_an_empty_answer_is_an_answer(house: House) -> None:
    assert submit(house.client(Role.ANNOTATOR), house.add_picture(), answer()).status_code == 201


def test_an_unknown_class_is_400_and_names_the_shape(house: House) -> None:
    response = submit(house.client(Role.ANNOTATOR), house.add_picture(), answer(box(), box("b", class_id=99)))

    assert response.status_code == 400
    assert response.json()["param"] == "shapes[1].class_id"


def test_a_class_that_was_removed_meanwhile_is_400_and_the_draft_is_kept(house: House) -> None:
    task = house.add_picture()
    client = house.client(Role.ANNOTATOR)
    client.put(f"/api/v1/tasks/{task.pk}/draft", {"token": 1, "shapes": [box()], "tab": "t"})
    drop_class(house, 1)

    response = submit(client, task, answer(box()))

    assert (response.status_code, response.json()["param"]) == (400, "shapes[0].class_id")
    assert Draft.objects.count() == 1
    assert Annotation.objects.count() == 0


SHAPE = '{"id": "a", "kind": "box", "class_id": 1, "xyxy": [1, 2, 3, 4], "attributes": {"note": %s}}'
HOSTILE_SHAPES = {
    "nul in the id": '{"id": "a\\u0000", "kind": "box", "class_id": 1, "xyxy": [1, 2, 3, 4]}',
    "lone surrogate in the id": '{"id": "\\ud800", "kind": "box", "class_id": 1, "xyxy": [1, 2, 3, 4]}',
    "nul in an attribute": SHAPE % '"\\u0000"',
    "lone surrogate in an attribute": SHAPE % '"\\udfff"',
    "nul in an attribute's name": '{"id": "a", "kind": "tag", "class_id": 4, "attributes": {"\\u0000": 1}}',
    "lone surrogate in a field's name": '{"id": "a", "kind": "tag", "class_id": 4, "\\ud800": 1}',
    "NaN": '{"id": "a", "kind": "box", "class_id": 1, "xyxy": [NaN, 2, 3, 4]}',
    "Infinity": '{"id": "a", "kind": "box", "class_id": 1, "xyxy": [1, 2, Infinity, 4]}',
    "1e400": '{"id": "a", "kind": "box", "class_id": 1, "xyxy": [1, 2, 1e400, 4]}',
    "1e400 in an attribute": SHAPE % "1e400",
    "a number of 400 digits": SHAPE % ("9" * 400),
    "a number of 5000 digits": SHAPE % ("9" * 5000),
    "a coordinate of 400 digits": '{"id": "a", "kind": "box", "class_id": 1, "xyxy": [1, 2, %s, 4]}'
    % ("9" * 400),
    "a huge class": '{"id": "a", "kind": "box", "class_id": 1099511627776, "xyxy": [1, 2, 3, 4]}',
    "a class that is true": '{"id": "a", "kind": "box", "class_id": true, "xyxy": [1, 2, 3, 4]}',
    "a score of 400 digits": '{"id": "a", "kind": "tag", "class_id": 4, "score": %s}' % ("9" * 400),
    "a kind that is a list": '{"id": "a", "kind": [], "class_id": 1, "xyxy": [1, 2, 3, 4]}',
    "no shape": "null",
    "deep nesting": "[" * 100_000 + "]" * 100_000,
    "some nesting": SHAPE % ("[" * 500 + "]" * 500),
    "a model's own provenance": '{"id": "a", "kind": "tag", "class_id": 4, "provenance": "model_only"}',
}


@pytest.mark.parametrize("shape", HOSTILE_SHAPES.values(), ids=HOSTILE_SHAPES.keys())
@pytest.mark.parametrize("where", ["annotations", "draft"])
def test_what_one_database_would_refuse_is_refused_on_both(house: House, shape: str, where: str) -> None:
    task = house.add_picture()
    text = f'{{"key": "{uuid4()}", "token": 1, "base_revision": 0, "shapes": [{shape}]}}'
    method = "POST" if where == "annotations" else "PUT"

    response = send_raw(house.client(Role.ANNOTATOR), f"/api/v1/tasks/{task.pk}/{where}", text, method)

    assert response.status_code == 400, response.content
    assert response.json()["type"] == "invalid_request"
    assert not Annotation.objects.exists()
    assert not Draft.objects.exists()


HOSTILE_FIELDS: dict[str, Json] = {
    "a key that is no uuid": {"key": "1"},
    "a key that is a number of 400 digits": {"key": 10**400},
    "a negative revision": {"base_revision": -1},
    "a huge revision": {"base_revision": 2**40},
    "a huge token": {"lease_token": 2**70},
    "a huge schema version": {"schema_version": 2**70},
    "a model's name with nul": {"suggestions_from": "a\x00"},
    "a model's name with a lone surrogate": {"suggestions_from": "\ud800"},
    "a model's name that is too long": {"suggestions_from": "a" * 101},
    "negative seconds": {"seconds_active": -1},
    "seconds that are no number": {"seconds_active": "nan"},
    "endless seconds": {"seconds_active": "inf"},
    "a tab with nul": {"tab": "a\x00"},
    "a tab with a lone surrogate": {"tab": "\ud800"},
    "a tab's name that is too long": {"tab": "a" * 65},
    "seconds as 400 digits": {"seconds_active": 10**400},
    "shapes that are text": {"shapes": "abc"},
    "shapes that are an object": {"shapes": {"0": box()}},
    "shapes that are missing": {"shapes": None},
    "one id twice": {"shapes": [box(), box()]},
    "a box without an area": {"shapes": [box(xyxy=[4, 4, 4, 9])]},
    "too few joints": {"shapes": [{"id": "m", "kind": "keypoints", "class_id": 3, "points": [[1, 2, 2]]}]},
    "another kind than the class's": {"shapes": [{"id": "t", "kind": "tag", "class_id": 1}]},
}


@pytest.mark.parametrize("fields", HOSTILE_FIELDS.values(), ids=HOSTILE_FIELDS.keys())
def test_an_answer_with_a_bad_field_is_refused(house: House, fields: Json) -> None:
    task = house.add_picture()
    text = json.dumps(answer(box()) | fields)

    response = send_raw(house.client(Role.ANNOTATOR), f"/api/v1/tasks/{task.pk}/annotations", text)

    assert response.status_code == 400, response.content
    assert response.json()["param"]
    assert not Annotation.objects.exists()


HOSTILE_DRAFTS: dict[str, Json] = {
    "a tab with nul": {"tab": "a\x00"},
    "a tab with a lone surrogate": {"tab": "\ud800"},
    "a tab's name that is too long": {"tab": "a" * 65},
    "a negative sequence": {"sequence": -1},
    "a huge sequence": {"sequence": 2**63},
    "a sequence of 400 digits": {"sequence": 10**400},
    "a sequence that is no number": {"sequence": "nan"},
    "a huge schema version": {"schema_version": 2**40},
}


@pytest.mark.parametrize("fields", HOSTILE_DRAFTS.values(), ids=HOSTILE_DRAFTS.keys())
def test_a_draft_with_a_bad_field_is_refused(house: House, fields: Json) -> None:
    text = json.dumps({"shapes": [box()], "tab": "t", "sequence": 1} | fields)
    path = f"/api/v1/tasks/{house.add_picture().pk}/draft"

    response = send_raw(house.client(Role.ANNOTATOR), path, text, "PUT")

    assert (response.status_code, response.json()["param"]) == (400, next(iter(fields)))
    assert not Draft.objects.exists()


@pytest.mark.parametrize("reason", ["a\x00", "\ud800", "a" * 501])
def test_a_reason_to_pass_by_that_cannot_be_stored_is_refused(house: House, reason: str) -> None:
    task = house.add_picture()
    text = json.dumps({"token": 1, "reason": reason})

    response = send_raw(house.client(Role.ANNOTATOR), f"/api/v1/tasks/{task.pk}/skip", text)

    assert (response.status_code, response.json()["param"]) == (400, "reason")


@pytest.mark.parametrize("base", [None, 0, -1, 2**40, 10**400, "nan", 1.5, [], {}])
def test_a_withdrawal_from_a_revision_that_is_none_is_refused(house: House, base: object) -> None:
    text = json.dumps({"base_revision": base})
    path = f"/api/v1/tasks/{house.add_picture().pk}/annotations/withdraw"

    response = send_raw(house.client(Role.ANNOTATOR), path, text)

    assert (response.status_code, response.json()["param"]) == (400, "base_revision")


@pytest.mark.parametrize("text", ["[]", '"text"', "7", "null", "{", "", "\xff", '{"key": "\\ud800"}'])
@pytest.mark.parametrize("where", ["annotations", "draft"])
def test_a_body_that_is_no_object_is_refused(house: House, text: str, where: str) -> None:
    method = "POST" if where == "annotations" else "PUT"
    path = f"/api/v1/tasks/{house.add_picture().pk}/{where}"

    response = send_raw(house.client(Role.ANNOTATOR), path, text, method)

    assert (response.status_code, response.json()["type"]) == (400, "invalid_request")


def test_a_body_that_is_too_long_is_413(house: House, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 2_000
    task = house.add_picture()
    long = [box(str(number)) for number in range(100)]

    response = submit(house.client(Role.ANNOTATOR), task, answer(*long))

    assert (response.status_code, response.json()["code"]) == (413, "too_large")
    assert not Annotation.objects.exists()


def test_the_newest_draft_wins_and_comes_back_with_the_lease(house: House) -> None:
    task = house.add_picture()
    client = house.client(Role.ANNOTATOR)
    for side in (10, 20):
        response = client.put(
            f"/api/v1/tasks/{task.pk}/draft",
            {"token": 1, "shapes": [box(xyxy=[0, 0, side, side])], "tab": "t"},
        )
        assert response.status_code == 200

    (leased,) = client.post(f"/api/v1/projects/{house.project.pk}/queue/next", {}).json()["leases"]

    assert [shape["xyxy"] for shape in leased["draft"]["shapes"]] == [[0, 0, 20, 20]]
    assert leased["draft"]["saved_at"] == response.json()["saved_at"]


def test_a_submit_ends_the_draft(house: House) -> None:
    task = house.add_picture()
    client = house.client(Role.ANNOTATOR)
    client.put(f"/api/v1/tasks/{task.pk}/draft", {"token": 1, "shapes": [box()], "tab": "t"})

    submit(client, task, answer(box()))

    assert not Draft.objects.exists()


def save(client: APIClient, task: Task, tab: str, sequence: int | None = None, side: float = 9.0) -> Json:
    body = {"shapes": [box(xyxy=[0, 0, side, side])], "tab": tab, "sequence": sequence}
    response = client.put(f"/api/v1/tasks/{task.pk}/draft", body, format="json")
    assert response.status_code == 200, response.content
    told: Json = response.json()
    return told


def test_a_tab_s_draft_that_arrives_late_does_not_undo_a_later_one(house: House) -> None:
    task, client = house.add_picture(), house.client(Role.ANNOTATOR)
    save(client, task, "t", 2, side=20)

    for sequence in (1, 2):
        told = save(client, task, "t", sequence, side=10)
        assert told["shapes"][0]["xyxy"] == [0, 0, 20, 20]

    assert save(client, task, "t", 3, side=30)["shapes"][0]["xyxy"] == [0, 0, 30, 30]
    assert Draft.objects.get().sequence == 3


def test_each_tab_has_a_draft_and_the_older_tab_is_told_of_the_newer(house: House) -> None:
    task, client = house.add_picture(), house.client(Role.ANNOTATOR)

    first = save(client, task, "old", 1)
    newer = save(client, task, "new", 1)
    told = save(client, task, "old", 2)
    again = save(client, task, "old", 3)

    assert (first["newer"], newer["newer"]) == (None, None)
    assert told["newer"] == {"tab": "new", "saved_at": newer["saved_at"]}
    assert again["newer"] is None
    assert Draft.objects.count() == 2


def test_somebody_else_s_draft_is_neither_touched_nor_told(house: House) -> None:
    task = house.add_picture()
    save(house.client(Role.ANNOTATOR), task, "t", 1)
    save(house.client(Role.REVIEWER), task, "t", 5)

    told = save(house.client(Role.ANNOTATOR), task, "t", 2)

    assert told["newer"] is None
    assert sorted(Draft.objects.values_list("sequence", flat=True)) == [2, 5]


@pytest.mark.django_db(transaction=True)
def test_savings_of_one_tab_at_once_leave_the_last_of_them(house: House) -> None:
    task = house.add_picture()

    at_once(8, lambda number: save(house.client(Role.ANNOTATOR), task, "t", number + 1, side=number + 1.0))

    draft = Draft.objects.get()
    assert (draft.sequence, draft.shapes[0]["xyxy"]) == (8, [0, 0, 8, 8])


def test_a_submit_ends_its_tab_s_draft_and_another_tab_s_stays(house: House) -> None:
    task, client = house.add_picture(), house.client(Role.ANNOTATOR)
    for tab in ("mine", "", "other"):
        save(client, task, tab, 1)

    submit(client, task, answer(box(), tab="mine"))

    assert Draft.objects.get().tab == "other"


def test_a_draft_that_is_older_than_one_s_answer_is_not_offered_again(house: House) -> None:
    task, client = house.add_picture(), house.client(Role.ANNOTATOR)
    save(client, task, "left behind", 1)
    submit(client, task, answer(box(), tab="mine"))
    client.post(f"/api/v1/tasks/{task.pk}/annotations/withdraw", {"base_revision": 1})
    next_path = f"/api/v1/projects/{house.project.pk}/queue/next"

    (leased,) = client.post(next_path, {}).json()["leases"]
    save(client, task, "again", 1)
    (later,) = client.post(next_path, {}).json()["leases"]

    assert (leased["draft"], leased["base_revision"]) == (None, 1)
    assert leased["previous"][0]["xyxy"] == box()["xyxy"]
    assert later["draft"]["shapes"][0]["xyxy"] == [0, 0, 9, 9]


def test_drafts_that_nobody_came_back_to_end_after_a_month(house: House) -> None:
    task = house.add_picture()
    save(house.client(Role.ANNOTATOR), task, "t", 1)
    saved_at = Draft.objects.get().saved_at

    assert annotations.prune_drafts(now=saved_at + timedelta(days=29)) == 0
    assert annotations.prune_drafts(now=saved_at + timedelta(days=31)) == 1
    assert not Draft.objects.exists()


def test_an_answer_under_an_old_token_is_taken_and_recorded_as_late(house: House) -> None:
    task, client = house.add_picture(), house.client(Role.ANNOTATOR)
    (leased,) = client.post(f"/api/v1/projects/{house.project.pk}/queue/next", {}).json()["leases"]

    response = submit(client, task, answer(box(), lease_token=leased["lease"]["token"] + 1))

    assert (response.status_code, response.json()["late"]) == (201, True)
    assert Event.objects.get(verb="submit").data["late"] is True
    task.refresh_from_db()
    assert (task.answers, task.slots, task.leases.count()) == (1, 1, 0)


def test_a_class_removed_since_the_schema_that_was_drawn_under_is_409_and_named(house: House) -> None:
    task, client = house.add_picture(), house.client(Role.ANNOTATOR)
    save(client, task, "t", 1)
    drop_class(house, 1)

    response = submit(client, task, answer(box(), box("b", class_id=2), schema_version=1, tab="t"))

    assert (response.status_code, response.json()["code"]) == (409, "schema_changed")
    assert "no longer has the class cell:" in response.json()["message"]
    assert Draft.objects.count() == 1
    assert not Annotation.objects.exists()
    mended = submit(client, task, answer(box("b", class_id=2), schema_version=1, tab="t"))
    assert mended.status_code == 201
    assert Annotation.objects.get().schema_version.number == 2


def test_a_class_that_never_was_is_400_under_any_schema(house: House) -> None:
    task, client = house.add_picture(), house.client(Role.ANNOTATOR)
    drop_class(house, 1)

    for version in (1, 2, 7):
        response = submit(client, task, answer(box(class_id=99), schema_version=version))
        assert (response.status_code, response.json()["param"]) == (400, "shapes[0].class_id")


def test_a_draft_of_a_class_that_was_removed_is_kept_for_who_drew_under_it(house: House) -> None:
    task, client = house.add_picture(), house.client(Role.ANNOTATOR)
    drop_class(house, 1)
    path, body = f"/api/v1/tasks/{task.pk}/draft", {"shapes": [box()], "tab": "t"}

    assert client.put(path, body, format="json").status_code == 400
    assert client.put(path, body | {"schema_version": 1}, format="json").status_code == 200


def test_an_answer_is_withdrawn_kept_and_counted_no_more(house: House) -> None:
    task, client = house.add_picture(), house.client(Role.ANNOTATOR)
    submit(client, task, answer(box()))
    path = f"/api/v1/tasks/{task.pk}/annotations/withdraw"

    responses = [client.post(path, {"base_revision": 1}) for _ in range(2)]

    assert [response.status_code for response in responses] == [200, 200]
    assert responses[0].content == responses[1].content
    withdrawn = Annotation.objects.get()
    assert (withdrawn.is_current, withdrawn.withdrawn_at is None) == (False, False)
    task.refresh_from_db()
    assert (task.answers, task.slots, task.state) == (0, 2, "queued")
    assert Event.objects.filter(verb="withdraw").count() == 1


def test_the_answer_after_a_withdrawal_is_the_next_revision(house: House) -> None:
    task, client = house.add_picture(), house.client(Role.ANNOTATOR)
    submit(client, task, answer(box()))
    client.post(f"/api/v1/tasks/{task.pk}/annotations/withdraw", {"base_revision": 1})

    assert submit(client, task, answer(box())).json()["code"] == "stale_revision"
    again = submit(client, task, answer(box(), base_revision=1))

    assert (again.status_code, again.json()["revision"]) == (201, 2)
    task.refresh_from_db()
    assert (task.answers, task.slots) == (1, 1)


def test_a_withdrawal_of_what_is_not_there_or_was_corrected_is_409(house: House) -> None:
    task, client = house.add_picture(), house.client(Role.ANNOTATOR)
    submit(house.client(Role.REVIEWER), task, answer(box()))
    path = f"/api/v1/tasks/{task.pk}/annotations/withdraw"

    assert client.post(path, {"base_revision": 1}).json()["code"] == "nothing_to_withdraw"
    submit(client, task, answer(box()))
    submit(client, task, answer(base_revision=1))
    assert client.post(path, {"base_revision": 1}).json()["code"] == "stale_revision"
    assert Annotation.objects.filter(is_current=True).count() == 2


def test_a_withdrawal_opens_a_settled_task_again(house: House) -> None:
    task = house.add_picture()
    for role in (Role.ANNOTATOR, Role.REVIEWER):
        submit(house.client(role), task, answer(box()))

    house.client(Role.REVIEWER).post(f"/api/v1/tasks/{task.pk}/annotations/withdraw", {"base_revision": 1})

    task.refresh_from_db()
    assert (task.state, task.consensus, task.settled_at) == ("in_progress", None, None)
    assert (task.answers, task.slots) == (1, 1)


def test_a_withdrawal_that_leaves_enough_answers_settles_the_task_anew(house: House) -> None:
    task = house.add_picture()
    for role in (Role.ANNOTATOR, Role.REVIEWER, Role.MANAGER):
        submit(house.client(role), task, answer(box()))

    house.client(Role.REVIEWER).post(f"/api/v1/tasks/{task.pk}/annotations/withdraw", {"base_revision": 1})

    task.refresh_from_db()
    assert task.consensus is not None
    assert (task.state, task.answers, task.consensus.answers) == ("settled", 2, 2)


@pytest.mark.parametrize("state", ["rejected", "needs_review", "disputed"])
def test_an_answer_for_a_task_that_reviewers_have_is_kept_as_an_extra_one(house: House, state: str) -> None:
    task = house.add_picture(state=state, slots=0, review_cause="skipped" if state == "needs_review" else "")

    response = submit(house.client(Role.ANNOTATOR), task, answer(box()))

    assert (response.status_code, response.json()["state"], response.json()["late"]) == (201, state, True)
    task.refresh_from_db()
    assert (task.state, task.answers, task.slots) == (state, 1, 0)


def test_a_submit_takes_few_statements(house: House, django_assert_max_num_queries: Any) -> None:
    task, client = house.add_picture(), house.client(Role.ANNOTATOR)
    client.post(f"/api/v1/projects/{house.project.pk}/queue/next", {})
    projects.current_schema(house.project)  # known from now on
    # Who asks, and for what; the task and its project, what was answered before, the schema, the lease, the
    # task's counts, the answer, its drafts, the event (9); a savepoint's two, and PostgreSQL's clock.
    queries = 12 + (connection.vendor == "postgresql")

    with django_assert_max_num_queries(queries):
        assert submit(client, task, answer(box(), lease_token=1)).json()["late"] is False


def test_asking_for_tasks_takes_few_statements(house: House, django_assert_max_num_queries: Any) -> None:
    for _ in range(3):
        task = house.add_picture()
        predictions.save_all(model="m", predicted=[predictions.Predicted(task.pk, [])])
    predictions.show(project=house.project, model="m", threshold=0.5)
    client = house.client(Role.ANNOTATOR)
    projects.current_schema(house.project)  # known from now on
    # Who asks; the schema, answers, drafts, suggestions (5); what is held, the claim, the leases, all of them
    # with their pictures (4), the person's row and the clock on PostgreSQL; a savepoint's two.
    queries = 11 + 2 * (connection.vendor == "postgresql")

    with django_assert_max_num_queries(queries):
        response = client.post(f"/api/v1/projects/{house.project.pk}/queue/next", {"count": 3})
    assert len(response.json()["leases"]) == 3
