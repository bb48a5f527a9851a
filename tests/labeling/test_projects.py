"""Projects, schema versions and members."""

import json

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from labeling import schema as label_schema
from labeling.formats.report import LossLedger
from labeling.models import ConsensusSource, Event, Membership, Prediction, Role
from labeling.schema import Schema
from labeling.services import consensus, exports, predictions, projects
from labeling.services.projects import ClassInUse, LastOwner, NoSuchPerson, StaleSchema
from labeling.shapes import Json, parse_list
from tests.conftest import House, box
from tests.labeling.threads import at_once

pytestmark = pytest.mark.django_db


def boxes(*names: str, first_id: int = 1) -> Schema:
    classes = [{"id": first_id + number, "name": name, "kind": "box"} for number, name in enumerate(names)]
    return label_schema.parse({"classes": classes})


def save(house: House, schema: Schema, *, base_version: int = 1) -> int:
    return projects.save_schema(
        project=house.project,
        schema=schema,
        base_version=base_version,
        actor=house.people[Role.MANAGER],
    ).number


def test_whoever_makes_a_project_owns_it(house: House) -> None:
    member = Membership.objects.get(project=house.project, role=Role.OWNER)

    assert member.user == house.people[Role.OWNER]
    assert projects.current_schema(house.project).number == 1


def test_a_schema_version_is_never_changed(house: House) -> None:
    before = projects.current_schema(house.project).definition

    assert save(house, boxes("cell", "platelet")) == 2

    assert [version.number for version in house.project.schema_versions.order_by("number")] == [1, 2]
    assert house.project.schema_versions.get(number=1).definition == before


def test_saving_an_unchanged_schema_makes_no_version(house: House) -> None:
    assert save(house, projects.current_schema(house.project).schema) == 1


def test_changes_to_an_old_schema_are_refused(house: House) -> None:
    save(house, boxes("cell", "platelet"))

    with pytest.raises(StaleSchema, match="version 2 is in force"):
        save(house, boxes("cell", "seed", "leaf"))


@pytest.mark.django_db(transaction=True)
def test_of_many_who_save_a_schema_at_once_one_wins(house: House) -> None:
    def attempt(number: int) -> bool:
        try:
            save(house, boxes("cell", f"thing {number}"))
        except StaleSchema:
            return False
        return True

    assert sum(at_once(6, attempt)) == 1
    assert house.project.schema_versions.count() == 2


def test_a_class_s_kind_never_changes_not_even_over_a_version_without_it(house: House) -> None:
    with pytest.raises(ClassInUse):
        save(house, boxes("cell", "seed", "mouse"))
    save(house, boxes("cell", "seed"))

    with pytest.raises(ClassInUse, match="class 3 was for keypoints"):
        save(house, boxes("cell", "seed", "mouse"), base_version=2)


def test_a_class_can_be_renamed(house: House) -> None:
    assert save(house, boxes("red cell", "seed")) == 2


def test_a_role_is_changed_and_not_doubled(house: House) -> None:
    annotator = house.people[Role.ANNOTATOR]

    projects.set_member(
        project=house.project,
        username=annotator.username,
        role=Role.REVIEWER,
        actor=house.people[Role.OWNER],
    )

    assert projects.role_of(project=house.project, user=annotator) == Role.REVIEWER
    assert Event.objects.filter(verb="set_member", data__user=annotator.pk).count() == 2


@pytest.mark.parametrize("username", ["nobody", "the gone"])
def test_only_who_has_an_account_becomes_a_member(house: House, username: str) -> None:
    User.objects.create_user("the gone", is_active=False)

    with pytest.raises(NoSuchPerson):
        projects.set_member(
            project=house.project,
            username=username,
            role=Role.VIEWER,
            actor=house.people[Role.OWNER],
        )


def test_the_last_owner_stays(house: House) -> None:
    owner = house.people[Role.OWNER]
    member = Membership.objects.get(project=house.project, user=owner)

    with pytest.raises(LastOwner):
        projects.remove_member(member=member, actor=owner)
    with pytest.raises(LastOwner):
        projects.set_member(project=house.project, username=owner.username, role=Role.VIEWER, actor=owner)
    assert projects.role_of(project=house.project, user=owner) == Role.OWNER


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_leave_at_once_leave_one(house: House) -> None:
    owner, second = house.people[Role.OWNER], house.people[Role.MANAGER]
    projects.set_member(project=house.project, username=second.username, role=Role.OWNER, actor=owner)
    leavers = [owner, second]

    def leave(number: int) -> bool:
        member = Membership.objects.get(project=house.project, user=leavers[number])
        try:
            projects.remove_member(member=member, actor=leavers[number])
        except LastOwner:
            return False
        return True

    assert sum(at_once(2, leave)) == 1
    assert Membership.objects.filter(project=house.project, role=Role.OWNER).count() == 1


def test_changing_settings_is_recorded_and_no_change_is_not(house: House) -> None:
    owner = house.people[Role.OWNER]
    changes: list[Json] = [{"guide": "Every cell.", "blind_share": 0.2}, {}]
    for change in changes:
        projects.change(project=house.project, changes=change, actor=owner)

    assert [event.data for event in Event.objects.filter(verb="change")] == [
        {"fields": ["blind_share", "guide"]}
    ]


def test_a_skeleton_keeps_its_number_of_joints_and_may_rename_them(house: House) -> None:
    version = projects.current_schema(house.project)
    raw = json.loads(json.dumps(version.definition))
    skeleton = next(item for item in raw["classes"] if item["kind"] == "keypoints")["skeleton"]
    skeleton["joints"][0] = "snout"
    renamed = projects.save_schema(
        project=house.project,
        schema=label_schema.parse(raw),
        base_version=version.number,
        actor=house.people[Role.OWNER],
    )
    skeleton["joints"].append("belly")
    with pytest.raises(projects.ClassInUse, match="joints"):
        projects.save_schema(
            project=house.project,
            schema=label_schema.parse(raw),
            base_version=renamed.number,
            actor=house.people[Role.OWNER],
        )


def test_suggestions_and_exports_leave_removed_classes_out(house: House) -> None:
    task = house.add_picture()
    project = house.project
    owner = house.people[Role.OWNER]
    shapes = parse_list([box("a"), box("b", class_id=2)])
    consensus.set_answer(task=task, shapes=shapes, source=ConsensusSource.IMPORTED, actor=owner)
    other = house.add_picture()
    Prediction.objects.create(
        task=other, model="m", shapes=[box("a", score=0.9), box("b", class_id=2, score=0.9)]
    )
    version = projects.current_schema(project)
    kept = {"classes": [item for item in version.definition["classes"] if item["id"] != 2]}
    projects.save_schema(
        project=project, schema=label_schema.parse(kept), base_version=version.number, actor=owner
    )
    project.suggestions_from = "m"
    other.project = project
    assert [shape["id"] for shape in predictions.suggestions(task=other)] == ["a"]
    losses = LossLedger()
    written = exports.settled(
        project=project, schema=projects.current_schema(project).schema, losses=losses, until=timezone.now()
    )
    assert [shape["id"] for _, row in written for shape in row.shapes] == ["a"]
    assert losses.report().items == (("shape of a class that was removed", 1),)
