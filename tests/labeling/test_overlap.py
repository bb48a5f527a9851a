"""How many people answer a task where its risk decides: one more at a time, cards, and the reviewers last."""

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from labeling import consensus as methods
from labeling.models import (
    Annotation,
    Card,
    CardVerdict,
    Consensus,
    Overlap,
    Prediction,
    Project,
    Reason,
    ReviewCause,
    Role,
    Skip,
    Task,
    TaskState,
)
from labeling.services import annotations, cards, consensus, fits, overlap, projects, queue, refits, reviews
from labeling.shapes import Box, dump_list
from tests.conftest import House, make_house
from tests.labeling.scripted import ALONE, Scripted
from tests.labeling.threads import at_once

pytestmark = pytest.mark.django_db

NOW = datetime.fromisoformat("2026-03-02T10:00:00+00:00")
LEFT, RIGHT, THIRD = (
    Box(name, 1, (x, 5.0, x + 20.0, 25.0)) for name, x in (("l", 1.0), ("r", 25.0), ("t", 44.0))
)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    method = Scripted()
    monkeypatch.setitem(methods.METHODS, method.name, method)
    return method


@pytest.fixture
def asking(db: None, sent: object, scripted: Scripted) -> House:
    """A project whose tasks ask on by their risk, up to four answers, with six annotators; nothing is audited."""
    house = make_house(
        overlap="adaptive", consensus_method="scripted", most_answers=4, review_share=0.0, model_counts=False
    )
    for number in range(6):
        name = f"annotator {number}"
        User.objects.create_user(name)
        projects.set_member(
            project=house.project, username=name, role=Role.ANNOTATOR, actor=house.people[Role.OWNER]
        )
    return house


def annotator(number: int) -> User:
    return User.objects.get(username=f"annotator {number}")


def picture(house: House, **fields: Any) -> Task:
    return house.add_picture(**({"slots": 2} | fields))


def hand_in(task: Task, person: User | int, *shapes: Box, saw: str = "", now: datetime = NOW) -> Task:
    author = annotator(person) if isinstance(person, int) else person
    annotations.submit(
        task=task,
        author=author,
        key=uuid4(),
        shapes=shapes,
        base_revision=Annotation.objects.filter(task=task, author=author).count(),
        seconds_active=2.0,
        suggestions_from=saw,
        now=now,
    )
    return fresh(task)


def withdraw(task: Task, person: int) -> Task:
    own = Annotation.objects.filter(task=task, author=annotator(person))
    annotations.withdraw(task=task, author=annotator(person), base_revision=own.count(), now=NOW)
    return fresh(task)


def fresh(task: Task) -> Task:
    return Task.objects.select_related("project", "consensus").get(pk=task.pk)


def change(house: House, **changes: Any) -> None:
    house.project = projects.change(project=house.project, changes=changes, actor=house.people[Role.OWNER])


def learn(house: House, method: Scripted, **known: float) -> None:
    """Puts a fit in force that finds so much of some annotators, by their number; each has answered something."""
    method.known = {str(annotator(int(name[1:])).pk): value for name, value in known.items()}
    task = picture(house)
    for name in known:
        hand_in(task, int(name[1:]), LEFT)
    refits.refit(project=Project.objects.get())
    house.project.refresh_from_db()


def evidence_of(task: Task) -> dict[str, Any]:
    assert task.consensus is not None
    return dict(task.consensus.evidence)


# --- as many answers as it takes -----------------------------------------------------------------------------------


def test_a_new_task_is_given_to_two_people(asking: House) -> None:
    task = picture(asking)

    for number in range(3):
        queue.lease_next(project=asking.project, user=annotator(number), count=1, now=NOW)

    assert task.leases.count() == 2
    assert fresh(task).slots == 0


def test_one_answer_waits_for_another_and_tells_its_risk(asking: House) -> None:
    task = hand_in(picture(asking), 0, LEFT)

    assert (task.state, task.slots, task.asked, task.consensus) == (TaskState.IN_PROGRESS, 1, 0, None)
    assert task.risk == pytest.approx(ALONE)


def test_two_people_who_agree_are_enough(asking: House) -> None:
    task = picture(asking)
    hand_in(task, 0, LEFT)

    task = hand_in(task, 1, LEFT)

    assert (task.state, task.slots, task.answers, task.risk) == (TaskState.SETTLED, 0, 2, 0.0)
    assert evidence_of(task)["why"] == "below_target"


def test_people_who_disagree_are_followed_by_one_more_and_nothing_is_settled_meanwhile(asking: House) -> None:
    task = picture(asking)
    hand_in(task, 0, LEFT)

    task = hand_in(task, 1, LEFT, RIGHT)

    assert (task.state, task.consensus, task.settled_at) == (TaskState.IN_PROGRESS, None, None)
    assert (task.asked, task.slots, task.reason) == (3, 1, Reason.DISAGREEMENT)
    assert task.risk == pytest.approx(0.5)
    assert not Consensus.objects.exists()

    third = hand_in(task, 2, LEFT)
    assert (third.state, third.asked, third.slots) == (TaskState.IN_PROGRESS, 4, 1), "a third of them saw it"

    fourth = hand_in(task, 3, LEFT)
    assert fourth.risk == pytest.approx(0.25)
    assert (fourth.state, fourth.review_cause) == (TaskState.NEEDS_REVIEW, ReviewCause.RISK)
    assert (fourth.asked, fourth.slots, evidence_of(fourth)["why"]) == (0, 0, "most_answers")


def test_a_task_is_settled_as_soon_as_its_risk_is_low_enough(asking: House) -> None:
    change(asking, target_risk=0.34)
    task = picture(asking)
    for number, shapes in enumerate(((LEFT,), (LEFT, RIGHT), (LEFT,))):
        task = hand_in(task, number, *shapes)

    assert (task.state, task.answers) == (TaskState.SETTLED, 3)
    assert task.consensus is not None
    assert [shape["xyxy"][0] for shape in task.consensus.shapes] == [1.0]


def test_of_the_tasks_that_ask_on_the_riskiest_comes_first(asking: House) -> None:
    mild, wild = picture(asking), picture(asking)
    for task, other in ((mild, (LEFT, RIGHT)), (wild, (LEFT, RIGHT, THIRD))):
        hand_in(task, 0, LEFT)
        hand_in(task, 1, *other)

    (lease,) = queue.lease_next(project=asking.project, user=annotator(2), count=1, now=NOW)

    assert lease.task == wild
    assert fresh(wild).priority > fresh(mild).priority


def test_no_slot_is_opened_for_whom_a_task_already_waits(asking: House) -> None:
    task = picture(asking)
    for number in (0, 1):
        queue.lease_next(project=asking.project, user=annotator(number), count=1, now=NOW)
    hand_in(task, 2, LEFT)
    hand_in(task, 3, LEFT, RIGHT)

    assert (fresh(task).asked, fresh(task).slots) == (3, 0)
    assert not queue.lease_next(project=asking.project, user=annotator(4), count=1, now=NOW)


def test_when_nobody_is_left_to_ask_a_reviewer_is(asking: House) -> None:
    task = picture(asking)
    for number in range(2, 6):
        Skip.objects.create(task=task, user=annotator(number))
    Skip.objects.create(task=task, user=asking.people[Role.ANNOTATOR])
    hand_in(task, 0, LEFT)

    task = hand_in(task, 1, LEFT, RIGHT)

    assert (task.state, task.review_cause) == (TaskState.NEEDS_REVIEW, ReviewCause.RISK)
    assert evidence_of(task)["why"] == "nobody_free"


def test_who_leaves_is_not_waited_for(asking: House) -> None:
    task = picture(asking)
    for number in range(3, 6):
        Skip.objects.create(task=task, user=annotator(number))
    Skip.objects.create(task=task, user=asking.people[Role.ANNOTATOR])
    hand_in(task, 0, LEFT)
    assert hand_in(task, 1, LEFT, RIGHT).slots == 1

    projects.remove_member(
        member=asking.project.memberships.get(user=annotator(2)), actor=asking.people[Role.OWNER]
    )
    consensus.settle_stale()

    assert fresh(task).state == TaskState.NEEDS_REVIEW


def test_who_passes_a_task_by_is_not_waited_for(asking: House) -> None:
    task = picture(asking)
    for number in range(3, 6):
        Skip.objects.create(task=task, user=annotator(number))
    Project.objects.update(skips_to_review=9)
    hand_in(task, 0, LEFT)
    hand_in(task, asking.people[Role.ANNOTATOR], LEFT, RIGHT)
    asking.project.refresh_from_db()
    hand_in(task, 1, LEFT, RIGHT, THIRD)
    (lease,) = queue.lease_next(project=asking.project, user=annotator(2), count=1, now=NOW)

    queue.skip(task=lease.task, user=annotator(2), token=lease.token, reason="dark")
    consensus.settle_stale()

    assert fresh(task).state == TaskState.NEEDS_REVIEW


def test_audits_come_on_top_of_what_is_risky(asking: House) -> None:
    change(asking, review_share=1.0)
    task = picture(asking)
    hand_in(task, 0, LEFT)

    task = hand_in(task, 1, LEFT)

    assert (task.state, task.review_cause) == (TaskState.NEEDS_REVIEW, ReviewCause.AUDIT)


def test_what_was_drawn_at_random_stays_in_the_random_slice(asking: House) -> None:
    task = picture(asking, reason=Reason.RANDOM, random_probability=0.2)
    hand_in(task, 0, LEFT)

    task = hand_in(task, 1, LEFT, RIGHT)

    assert (task.asked, task.reason, task.random_probability) == (3, Reason.RANDOM, 0.2)


# --- one answer that will do ---------------------------------------------------------------------------------------


def test_one_answer_of_somebody_trusted_is_enough(asking: House, scripted: Scripted) -> None:
    learn(asking, scripted, a0=0.97, a1=0.7)
    change(asking, target_risk=ALONE)
    trusted, other = picture(asking), picture(asking)

    assert hand_in(trusted, 0, LEFT).state == TaskState.SETTLED
    assert hand_in(other, 1, LEFT).state == TaskState.IN_PROGRESS


def test_one_answer_of_somebody_trusted_is_not_enough_while_it_is_risky(
    asking: House, scripted: Scripted
) -> None:
    learn(asking, scripted, a0=0.97, a1=0.7)

    task = hand_in(picture(asking), 0, LEFT)

    assert (task.state, task.asked, task.slots) == (TaskState.IN_PROGRESS, 2, 1)


def predict(task: Task, *shapes: Box, model: str = "v1", at: datetime = NOW - timedelta(hours=1)) -> None:
    dumped = dump_list(
        [Box(shape.id, 1, shape.xyxy, provenance="model_only", score=shape.score or 0.9) for shape in shapes]
    )
    Prediction.objects.create(task=task, model=model, shapes=dumped, created_at=at)


@pytest.fixture
def with_model(asking: House, scripted: Scripted) -> House:
    """A model that the fit in force knows from many pictures has a voice."""
    change(asking, model_counts=True)
    Project.objects.update(suggestions_from="v1", suggestion_threshold=0.36)
    task = picture(asking)
    predict(task, LEFT)
    for number in (0, 1):
        hand_in(task, number, LEFT)
    refits.refit(project=Project.objects.get())
    asking.project.refresh_from_db()
    return asking


def test_one_answer_is_enough_when_a_known_model_saw_the_same(with_model: House) -> None:
    task = picture(with_model)
    predict(task, LEFT)

    task = hand_in(task, 0, LEFT)

    assert (task.state, task.answers) == (TaskState.SETTLED, 1)
    assert task.consensus is not None
    assert task.consensus.answers == 1, "a model is not one of those who answer"
    (found,) = evidence_of(task)["objects"].values()
    assert [name for name, _ in found["members"]] == [str(annotator(0).pk), "model:v1"]


@pytest.mark.parametrize(
    ("seen", "drawn", "saw"),
    [((LEFT, RIGHT), (LEFT,), ""), ((LEFT,), (LEFT, RIGHT), ""), ((LEFT,), (LEFT,), "v1")],
    ids=["the model saw more", "the person saw more", "the person was shown what the model saw"],
)
def test_a_second_person_is_asked_where_the_model_s_word_does_not_count_as_one(
    with_model: House, seen: tuple[Box, ...], drawn: tuple[Box, ...], saw: str
) -> None:
    task = picture(with_model)
    predict(task, *seen)

    task = hand_in(task, 0, *drawn, saw=saw)

    assert (task.state, task.slots) == (TaskState.IN_PROGRESS, 1)


def test_a_model_that_was_compared_with_few_is_not_taken_at_its_word(
    with_model: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fits, "MODEL_KNOWN_FROM", 101)
    task = picture(with_model)
    predict(task, LEFT)

    assert hand_in(task, 0, LEFT).state == TaskState.IN_PROGRESS


def test_a_model_counts_with_what_it_saw_before_anybody_answered_and_believes(with_model: House) -> None:
    task = picture(with_model)
    doubtful = Box("d", 1, RIGHT.xyxy, score=0.1)
    predict(task, LEFT, doubtful, model="v2")
    predict(task, THIRD, model="v1", at=NOW - timedelta(hours=2))
    predict(task, RIGHT, model="v3", at=NOW + timedelta(hours=1))

    task = hand_in(task, 0, LEFT)
    task = hand_in(task, 1, LEFT, now=NOW + timedelta(hours=2))

    objects = list(evidence_of(task)["objects"].values())
    assert [[name for name, _ in item["members"]] for item in objects] == [
        [str(annotator(0).pk), str(annotator(1).pk), "model:v2"]
    ]


def test_a_correction_does_not_let_a_model_in_that_may_have_learnt_from_the_first_answer(
    with_model: House,
) -> None:
    task = picture(with_model)
    hand_in(task, 0, LEFT)
    predict(task, LEFT, at=NOW + timedelta(hours=1))
    hand_in(task, 0, LEFT, now=NOW + timedelta(hours=2))

    task = hand_in(task, 1, LEFT, now=NOW + timedelta(hours=3))

    (found,) = evidence_of(task)["objects"].values()
    assert found["seen_by"] == 2


@pytest.mark.parametrize("without", [{"model_counts": False}, {"suggestions_from": ""}])
def test_a_model_has_no_voice_where_it_is_not_wanted_or_not_shown(
    with_model: House, without: dict[str, Any]
) -> None:
    Project.objects.update(**without)
    task = picture(with_model)
    predict(task, LEFT)

    assert hand_in(task, 0, LEFT).state == TaskState.IN_PROGRESS


# --- cards and reviewers -------------------------------------------------------------------------------------------


def test_cards_ask_about_what_is_disputed_only_when_no_more_answers_are_asked_for(asking: House) -> None:
    change(asking, cards_per_dispute=1, most_answers=3)
    task = picture(asking)
    hand_in(task, 0, LEFT)
    hand_in(task, 1, LEFT, RIGHT)
    assert not Card.objects.exists()

    task = hand_in(task, 2, LEFT)

    assert (task.state, task.slots) == (TaskState.DISPUTED, 0)
    (card,) = cards.claim(project=asking.project, user=annotator(3), count=5, now=NOW)
    cards.answer(card=card, user=annotator(3), verdict=CardVerdict.DROP, seconds_active=1.0, now=NOW)
    task = fresh(task)
    assert (task.state, task.review_cause) == (TaskState.SETTLED, ReviewCause.NONE)
    assert task.risk is not None
    assert task.risk < 0.15
    assert evidence_of(task)["causes"]["missed"] == pytest.approx(task.risk, abs=1e-6)


def test_a_reviewer_s_wish_for_another_answer_is_waited_for_whatever_the_risk(asking: House) -> None:
    change(asking, review_share=1.0)
    task = picture(asking)
    for number in (0, 1):
        task = hand_in(task, number, LEFT)
    assert task.consensus is not None
    reviews.reopen(
        task=task,
        reviewer=asking.people[Role.REVIEWER],
        to="queue",
        base_revision=task.consensus.revision,
        now=NOW,
    )
    change(asking, review_share=0.0)

    assert (fresh(task).state, fresh(task).slots, fresh(task).consensus) == (TaskState.IN_PROGRESS, 1, None)
    task = hand_in(task, 2, LEFT)
    assert (task.state, task.answers) == (TaskState.SETTLED, 3)


def test_what_a_reviewer_wants_to_see_asks_nobody_else(asking: House) -> None:
    task = picture(asking)
    for number in (0, 1):
        task = hand_in(task, number, LEFT)
    assert task.consensus is not None
    reviews.reopen(
        task=task,
        reviewer=asking.people[Role.REVIEWER],
        to="review",
        base_revision=task.consensus.revision,
        now=NOW,
    )

    task = hand_in(task, 2, RIGHT, THIRD)

    assert (task.state, task.review_cause, task.slots) == (TaskState.NEEDS_REVIEW, ReviewCause.ASKED, 0)
    assert task.consensus is not None
    assert task.consensus.answers == 3


# --- what changes later --------------------------------------------------------------------------------------------


def test_a_withdrawn_answer_opens_the_task_again(asking: House) -> None:
    task = picture(asking)
    for number in (0, 1):
        hand_in(task, number, LEFT)

    task = withdraw(task, 1)
    assert (task.state, task.consensus, task.slots, task.answers) == (TaskState.IN_PROGRESS, None, 1, 1)

    task = withdraw(task, 0)
    assert (task.state, task.slots, task.asked) == (TaskState.QUEUED, 2, 0)


def test_a_task_asks_for_one_less_when_one_of_those_who_disagree_withdraws(asking: House) -> None:
    task = picture(asking)
    for number, shapes in enumerate(((LEFT,), (LEFT, RIGHT), (LEFT, THIRD))):
        task = hand_in(task, number, *shapes)
    assert (task.asked, task.slots) == (4, 1)

    task = withdraw(task, 2)

    assert (task.asked, task.slots, task.answers) == (3, 1, 2)


def test_a_correction_that_ends_the_disagreement_settles_the_task(asking: House) -> None:
    task = picture(asking)
    hand_in(task, 0, LEFT)
    assert hand_in(task, 1, LEFT, RIGHT).slots == 1

    task = hand_in(task, 1, LEFT)

    assert (task.state, task.asked, task.slots) == (TaskState.SETTLED, 0, 0)


def test_a_late_answer_that_disagrees_opens_a_settled_task_again(asking: House) -> None:
    task = picture(asking)
    for number in (0, 1):
        hand_in(task, number, LEFT)

    task = hand_in(task, 2, LEFT, RIGHT)

    assert (task.state, task.consensus, task.asked, task.slots) == (TaskState.IN_PROGRESS, None, 4, 1)


def test_a_higher_target_settles_what_waits(asking: House) -> None:
    task = picture(asking)
    hand_in(task, 0, LEFT)
    hand_in(task, 1, LEFT, RIGHT)

    change(asking, target_risk=0.6)
    consensus.settle_stale()

    assert (fresh(task).state, fresh(task).slots) == (TaskState.SETTLED, 0)


def test_a_fixed_number_takes_over_what_waits(asking: House) -> None:
    task, begun = picture(asking), picture(asking)
    hand_in(task, 0, LEFT)
    hand_in(task, 1, LEFT, RIGHT)
    hand_in(begun, 0, LEFT)

    change(asking, overlap="fixed", answers_per_task=2)
    consensus.settle_stale()

    assert fresh(task).state == TaskState.SETTLED
    assert (fresh(begun).state, fresh(begun).slots) == (TaskState.IN_PROGRESS, 1)


def test_what_was_settled_by_a_fixed_number_stays_so_until_it_gets_another_answer(
    db: None, sent: object, scripted: Scripted
) -> None:
    house = make_house(answers_per_task=1, consensus_method="scripted")
    User.objects.create_user("annotator 0")
    User.objects.create_user("annotator 1")
    for number in (0, 1):
        projects.set_member(
            project=house.project,
            username=f"annotator {number}",
            role=Role.ANNOTATOR,
            actor=house.people[Role.OWNER],
        )
    task = hand_in(house.add_picture(), 0, LEFT)
    assert task.state == TaskState.SETTLED

    change(house, overlap="adaptive", review_share=0.0)
    refits.refit(project=Project.objects.get())
    assert fresh(task).state == TaskState.SETTLED

    assert hand_in(task, 1, LEFT, RIGHT).state == TaskState.IN_PROGRESS


def test_a_refit_that_finds_more_risk_asks_on_and_one_that_finds_less_settles(
    asking: House, scripted: Scripted
) -> None:
    task = picture(asking)
    for number in (0, 1):
        hand_in(task, number, LEFT)

    scripted.doubt = 0.2
    refits.refit(project=Project.objects.get())
    assert (fresh(task).state, fresh(task).asked, fresh(task).slots) == (TaskState.IN_PROGRESS, 3, 1)

    scripted.doubt = 0.0
    refits.refit(project=Project.objects.get())
    assert (fresh(task).state, fresh(task).asked, fresh(task).slots) == (TaskState.SETTLED, 0, 0)


def test_settling_again_changes_nothing(asking: House) -> None:
    waits, settled = picture(asking), picture(asking)
    for task, other in ((waits, (LEFT, RIGHT)), (settled, (LEFT,))):
        hand_in(task, 0, LEFT)
        hand_in(task, 1, *other)
    before = list(Task.objects.order_by("pk").values())

    for task in (waits, settled):
        consensus.settle(task_id=task.pk)

    assert list(Task.objects.order_by("pk").values()) == before
    assert Consensus.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_people_who_work_at_once_are_never_given_more_of_a_task_than_it_asks_for(asking: House) -> None:
    tasks = [picture(asking) for _ in range(4)]
    own = ((LEFT,), (LEFT, RIGHT), (LEFT, THIRD), (RIGHT,), (LEFT,), (LEFT, RIGHT))

    def work(number: int) -> None:
        for _ in range(6):
            held = queue.lease_next(
                project=asking.project, user=annotator(number), count=2, now=timezone.now(), draw=lambda: 0.9
            )
            for lease in held:
                hand_in(lease.task, number, *own[number], now=timezone.now())

    at_once(6, work)

    for before in tasks:
        task = fresh(before)
        assert task.answers <= asking.project.most_answers
        if task.state in (TaskState.SETTLED, TaskState.NEEDS_REVIEW):
            assert task.slots == 0
        else:
            assert task.slots == overlap.needed(task) - task.answers, "nobody holds any by now"
        answers = task.answers
        consensus.settle(task_id=task.pk)
        assert (fresh(task).answers, fresh(task).state, fresh(task).slots) == (
            answers,
            task.state,
            task.slots,
        )
    assert sum(fresh(task).answers for task in tasks) >= 4 * 3


# --- who is asked --------------------------------------------------------------------------------------------------


def test_what_asks_on_is_left_to_those_who_answer_best_but_kept_from_nobody(
    asking: House, scripted: Scripted
) -> None:
    learn(asking, scripted, a0=0.9, a1=0.9, a2=0.8, a3=0.5, a4=0.5)
    asks_on = picture(asking)
    hand_in(asks_on, 0, LEFT)
    hand_in(asks_on, 1, LEFT, RIGHT)
    new = picture(asking)
    Task.objects.exclude(pk__in=[asks_on.pk, new.pk]).update(slots=0)

    def gets(number: int, count: int) -> list[Task]:
        leases = queue.lease_next(project=asking.project, user=annotator(number), count=count, now=NOW)
        tasks = [lease.task for lease in leases]
        for lease in leases:
            queue.release(task=lease.task, user=annotator(number), token=lease.token)
        return tasks

    assert gets(2, 1) == [asks_on]
    assert gets(3, 1) == [new]
    assert set(gets(3, 2)) == {asks_on, new}
    Task.objects.filter(pk=asks_on.pk).update(reason=Reason.MANUAL)
    assert gets(3, 1) == [asks_on], "by hand is for everybody"


# --- choosing ------------------------------------------------------------------------------------------------------


def test_choosing_it_turns_audits_and_the_model_s_voice_on_unless_told_otherwise(house: House) -> None:
    assert (house.project.overlap, house.project.review_share, house.project.model_counts) == (
        Overlap.FIXED,
        0.0,
        False,
    )
    change(house, overlap="adaptive")
    assert (house.project.review_share, house.project.model_counts) == (0.04, True)

    change(house, review_share=0.0, model_counts=False)
    change(house, overlap="adaptive")
    assert (house.project.review_share, house.project.model_counts) == (0.0, False)

    change(house, overlap="fixed")
    change(house, overlap="adaptive", review_share=0.1, model_counts=False)
    assert (house.project.review_share, house.project.model_counts) == (0.1, False)
