"""From answers in the database to the settled one."""

from uuid import uuid4

import pytest

from labeling.models import Consensus, ConsensusSource, Project, Role, Skill, Task, TaskState
from labeling.services import annotations, consensus, crowd, projects, refits
from labeling.shapes import Box, Json, Shape
from tests.conftest import House, make_house

pytestmark = pytest.mark.django_db

PEOPLE = (Role.OWNER, Role.MANAGER, Role.REVIEWER, Role.ANNOTATOR)


def hand_in(house: House, task: Task, role: Role, *shapes: Shape) -> None:
    annotations.submit(
        task=task,
        author=house.people[role],
        key=uuid4(),
        shapes=shapes,
        base_revision=0,
        seconds_active=2.0,
        suggestions_from="",
        now=task.created_at,
    )


def box(name: str, x: float, *, class_id: int = 1) -> Box:
    return Box(name, class_id, (x, 5.0, x + 20.0, 25.0))


def settled(task: Task) -> Consensus:
    task.refresh_from_db()
    assert task.consensus is not None
    return task.consensus


def test_nothing_is_settled_before_there_are_enough_answers(house: House) -> None:
    task = house.add_picture()
    hand_in(house, task, Role.ANNOTATOR, box("a", 4))

    assert consensus.settle(task_id=task.pk) is None
    assert not Consensus.objects.exists()


def test_one_answer_is_enough_where_one_is_wanted(sent: object, db: None) -> None:
    house = make_house(answers_per_task=1)
    task = house.add_picture()
    hand_in(house, task, Role.ANNOTATOR, box("a", 4))

    assert [shape["xyxy"] for shape in settled(task).shapes] == [[4.0, 5.0, 24.0, 25.0]]


def test_settling_the_same_answers_again_gives_the_same_revision(house: House) -> None:
    task = house.add_picture()
    for role in (Role.ANNOTATOR, Role.REVIEWER):
        hand_in(house, task, role, box("a", 4), box("b", 30))
    first = settled(task)
    when = task.settled_at

    for _ in range(3):
        assert consensus.settle(task_id=task.pk) == first

    task.refresh_from_db()
    assert (Consensus.objects.count(), task.settled_at) == (1, when)


def test_the_order_in_which_answers_came_changes_nothing(house: House) -> None:
    tasks = [house.add_picture(), house.add_picture()]
    answers = {
        Role.ANNOTATOR: (box("a", 4), box("b", 30)),
        Role.REVIEWER: (box("a", 5),),
        Role.MANAGER: (box("a", 6), box("b", 31)),
    }
    for task, order in zip(tasks, (list(answers), list(answers)[::-1]), strict=True):
        for role in order:
            hand_in(house, task, role, *answers[role])

    first, second = (settled(task) for task in tasks)
    assert _without_ids(first.shapes) == _without_ids(second.shapes)
    assert _without_ids(first.rejected) == _without_ids(second.rejected)
    assert first.risk == second.risk


def test_a_shape_that_one_of_four_drew_is_rejected_and_kept_beside(sent: object, db: None) -> None:
    house = make_house(answers_per_task=4)
    task = house.add_picture()
    for role in PEOPLE:
        extra = (box("x", 40),) if role == Role.OWNER else ()
        hand_in(house, task, role, box("a", 4), *extra)

    found = settled(task)

    assert [shape["xyxy"][0] for shape in found.shapes] == [4.0]
    assert [shape["xyxy"][0] for shape in found.rejected] == [40.0]
    assert found.shapes[0]["score"] > 0.9 > 0.5 > found.rejected[0]["score"]


@pytest.mark.parametrize("source", [ConsensusSource.EXPERT, ConsensusSource.IMPORTED])
def test_an_answer_set_by_decree_is_never_overwritten(house: House, source: ConsensusSource) -> None:
    task = house.add_picture()
    decree = consensus.set_answer(
        task=task, shapes=(box("g", 1),), source=source, actor=house.people[Role.OWNER], as_gold=True
    )
    for role in PEOPLE:
        hand_in(house, task, role, box("a", 30))
    Task.objects.filter(pk=task.pk).update(consensus_stale=True)

    consensus.settle_stale()
    refits.refit(project=house.project)

    assert settled(task) == decree
    assert (task.is_gold, task.state, task.consensus_stale) == (True, TaskState.SETTLED, False)


def test_a_decree_replaces_what_the_answers_settled_and_the_old_revision_stays(house: House) -> None:
    task = house.add_picture()
    for role in (Role.ANNOTATOR, Role.REVIEWER):
        hand_in(house, task, role, box("a", 4))
    before = settled(task)

    consensus.set_answer(
        task=task,
        shapes=(box("g", 1),),
        source=ConsensusSource.EXPERT,
        actor=house.people[Role.OWNER],
    )

    assert (settled(task).revision, before.revision) == (2, 1)
    assert (task.is_gold, Consensus.objects.count()) == (False, 2)


def test_gold_stays_gold_when_its_answer_is_set_anew(house: House) -> None:
    task, owner = house.add_picture(), house.people[Role.OWNER]
    for x, as_gold in ((1.0, True), (2.0, False)):
        consensus.set_answer(
            task=task, shapes=(box("g", x),), source=ConsensusSource.EXPERT, actor=owner, as_gold=as_gold
        )

    assert settled(task).shapes[0]["xyxy"][0] == 2.0
    assert task.is_gold


def test_refitting_learns_who_misses_things_and_writes_it_down(sent: object, db: None) -> None:
    house = make_house(answers_per_task=4)
    for _ in range(12):
        task = house.add_picture()
        for role in PEOPLE:
            both = (box("a", 2), box("b", 35))
            hand_in(house, task, role, *(both[:1] if role == Role.ANNOTATOR else both))

    report = refits.refit(project=house.project)

    assert report == {"tasks": 12, "annotators": 4, "fit": 1}
    recall = {skill.user_id: skill.recall for skill in Skill.objects.filter(kind="box")}
    careless = recall.pop(house.people[Role.ANNOTATOR].pk)
    assert careless < 0.75 < min(recall.values())
    fit = Project.objects.get(pk=house.project.pk).consensus_fit
    assert fit is not None
    assert fit.parameters


def test_refitting_twice_changes_nothing_more(house: House) -> None:
    tasks = [house.add_picture() for _ in range(4)]
    for number, task in enumerate(tasks):
        hand_in(house, task, Role.ANNOTATOR, box("a", 4), box("b", 30 + number))
        hand_in(house, task, Role.REVIEWER, box("a", 5))
    refits.refit(project=house.project)
    before = list(Task.objects.order_by("pk").values_list("consensus_id", flat=True))
    skills = list(Skill.objects.order_by("pk").values_list("user_id", "recall", "precision"))

    refits.refit(project=house.project)

    assert list(Task.objects.order_by("pk").values_list("consensus_id", flat=True)) == before
    assert list(Skill.objects.order_by("pk").values_list("user_id", "recall", "precision")) == skills


def test_a_project_without_answers_can_be_refitted(house: House) -> None:
    assert refits.refit(project=house.project) == {"tasks": 0, "annotators": 0}


def test_a_task_that_has_enough_answers_once_fewer_are_wanted_is_settled(house: House) -> None:
    task = house.add_picture()
    hand_in(house, task, Role.ANNOTATOR, box("a", 4))
    projects.change(project=house.project, changes={"answers_per_task": 1}, actor=house.people[Role.OWNER])

    consensus.settle_stale()

    assert settled(task).answers == 1
    assert (task.state, task.slots) == (TaskState.SETTLED, 0)


def test_one_task_that_cannot_be_settled_does_not_keep_the_others_waiting(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [house.add_picture() for _ in range(3)]
    for task in tasks:
        for role in (Role.ANNOTATOR, Role.REVIEWER):
            hand_in(house, task, role, box("a", 4))
    Task.objects.update(consensus_stale=True)
    really = consensus.settle

    def broken_for_the_first(*, task_id: int) -> Consensus | None:
        if task_id == tasks[0].pk:
            raise ZeroDivisionError
        return really(task_id=task_id)

    monkeypatch.setattr(consensus, "settle", broken_for_the_first)
    consensus.settle_stale()

    assert list(Task.objects.filter(consensus_stale=True)) == tasks[:1]


def _without_ids(shapes: list[Json]) -> list[Json]:
    """A consensus shape's id is made from its task's."""
    return [{name: value for name, value in shape.items() if name != "id"} for shape in shapes]


def test_methods_are_told_how_large_the_picture_is(house: House) -> None:
    task = house.add_picture()
    hand_in(house, task, Role.ANNOTATOR, box("a", 4))
    size = (task.image.width, task.image.height)

    assert [answer.size for answer in crowd.of_task(task)] == [size]
    assert [answer.size for answer in crowd.of_tasks(house.project, [task.pk])] == [size]
