"""From a consensus to a reviewer, and what the reviewer decides."""

from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from labeling.models import (
    Annotation,
    Consensus,
    ConsensusSource,
    Event,
    Lease,
    Project,
    Reason,
    Return,
    ReviewCause,
    Role,
    Skip,
    Task,
    TaskState,
)
from labeling.services import annotations, consensus, projects, queue, refits, reviews
from labeling.shapes import Box, InvalidShape
from tests.conftest import House, make_house

pytestmark = pytest.mark.django_db

NOW = datetime.fromisoformat("2026-03-02T10:00:00+00:00")
LATER = NOW + timedelta(hours=1)


def box(name: str = "a", x: float = 4.0) -> Box:
    return Box(name, 1, (x, 5.0, x + 20.0, 25.0))


def hand_in(task: Task, author: User, *shapes: Box, base_revision: int = 0) -> Annotation:
    response = annotations.submit(
        task=task,
        author=author,
        key=uuid4(),
        shapes=shapes,
        base_revision=base_revision,
        seconds_active=2.0,
        suggestions_from="",
        now=NOW,
    )
    return Annotation.objects.get(pk=response["id"])


@pytest.fixture
def reviewed(db: None, sent: object) -> House:
    """A project in which each consensus goes to a reviewer."""
    return make_house(consensus_method="majority", review_risk=0.0)


def answered(house: House, *, doubt: int = 0) -> Task:
    """A task with both its answers; `doubt` objects were drawn by one person only."""
    task = house.add_picture()
    extra = [box(f"x{number}", 40.0 + number * 100) for number in range(doubt)]
    hand_in(task, house.people[Role.ANNOTATOR], box(), *extra)
    hand_in(task, house.people[Role.MANAGER], box())
    task.refresh_from_db()
    return task


def revision(task: Task) -> int:
    task.refresh_from_db()
    return 0 if task.consensus is None else task.consensus.revision


def claim(house: House, role: Role = Role.REVIEWER, now: datetime = NOW) -> Task | None:
    return reviews.claim_next(project=house.project, reviewer=house.people[role], now=now)


def statements(asked: CaptureQueriesContext) -> list[str]:
    """What ran, with its values, but for savepoints."""
    texts = [query["sql"].strip() for query in asked.captured_queries]
    return [text for text in texts if "SAVEPOINT" not in text]


# --- from a consensus to a state ----------------------------------------------------------------------------


def test_by_default_nothing_waits_for_a_reviewer(house: House) -> None:
    task = answered(house, doubt=2)

    assert (task.state, task.review_cause) == (TaskState.SETTLED, ReviewCause.NONE)


def test_from_a_risk_on_a_consensus_goes_to_a_reviewer_and_does_not_count(sent: object, db: None) -> None:
    house = make_house(consensus_method="majority", review_risk=0.4)
    sure, unsure = answered(house), answered(house, doubt=1)

    assert (sure.state, sure.review_cause) == (TaskState.SETTLED, ReviewCause.NONE)
    assert (unsure.state, unsure.review_cause) == (TaskState.NEEDS_REVIEW, ReviewCause.RISK)
    assert (unsure.slots, unsure.settled_at) == (0, None)
    assert unsure.consensus is not None


def test_a_share_of_tasks_is_audited_always_the_same(sent: object, db: None) -> None:
    house = make_house(review_share=0.5)
    tasks = [answered(house) for _ in range(12)]
    audited = {task.pk for task in tasks if task.state == TaskState.NEEDS_REVIEW}

    for task in tasks:
        consensus.settle(task_id=task.pk)

    again = Task.objects.filter(state=TaskState.NEEDS_REVIEW, review_cause=ReviewCause.AUDIT)
    assert set(again.values_list("pk", flat=True)) == audited
    assert 0 < len(audited) < 12


def test_an_audited_task_that_was_accepted_is_not_audited_again(sent: object, db: None) -> None:
    house = make_house(review_share=1.0)
    task = answered(house)
    reviews.accept(task=task, reviewer=house.people[Role.REVIEWER], base_revision=revision(task), now=NOW)

    consensus.settle(task_id=task.pk)
    refits.refit(project=house.project)

    task.refresh_from_db()
    assert task.state == TaskState.SETTLED


def test_settling_a_task_in_review_again_keeps_it_there_until_it_is_no_longer_risky(
    sent: object, db: None
) -> None:
    house = make_house(consensus_method="majority", review_risk=0.4)
    task = answered(house, doubt=1)
    consensus.settle(task_id=task.pk)
    task.refresh_from_db()
    assert (task.state, revision(task)) == (TaskState.NEEDS_REVIEW, 1)

    hand_in(task, house.people[Role.MANAGER], box(), box("x0", 40.0), base_revision=1)

    task.refresh_from_db()
    assert (task.state, task.review_cause) == (TaskState.SETTLED, ReviewCause.NONE)


@pytest.mark.parametrize("source", [ConsensusSource.EXPERT, ConsensusSource.IMPORTED])
def test_what_was_settled_by_decree_is_never_sent_to_a_reviewer(
    reviewed: House, source: ConsensusSource
) -> None:
    task = reviewed.add_picture()
    consensus.set_answer(task=task, shapes=(box(),), source=source, actor=reviewed.people[Role.OWNER])
    hand_in(task, reviewed.people[Role.ANNOTATOR], box("a", 30.0))
    hand_in(task, reviewed.people[Role.MANAGER], box("a", 30.0))

    task.refresh_from_db()
    assert task.state == TaskState.SETTLED


def test_a_task_with_too_few_answers_left_is_open_again(reviewed: House) -> None:
    task = answered(reviewed)
    annotations.withdraw(task=task, author=reviewed.people[Role.MANAGER], base_revision=1, now=NOW)

    task.refresh_from_db()
    assert (task.state, task.review_cause) == (TaskState.IN_PROGRESS, ReviewCause.NONE)
    assert (task.consensus, task.risk, task.settled_at, task.slots) == (None, None, None, 1)

    hand_in(task, reviewed.people[Role.OWNER], box())
    assert revision(task) == 2


def test_what_is_settled_stays_so_when_the_project_comes_to_want_more_answers(house: House) -> None:
    task = answered(house)
    projects.change(project=house.project, changes={"answers_per_task": 3}, actor=house.people[Role.OWNER])

    refits.refit(project=Project.objects.get())

    task.refresh_from_db()
    assert task.state == TaskState.SETTLED


def test_an_answer_settles_no_task_that_people_could_not_answer_nor_one_that_was_rejected(
    house: House,
) -> None:
    skipped, rejected = house.add_picture(), house.add_picture()
    Task.objects.filter(pk=skipped.pk).update(
        state=TaskState.NEEDS_REVIEW, review_cause=ReviewCause.SKIPPED, slots=0
    )
    reviews.reject(
        task=rejected, reviewer=house.people[Role.REVIEWER], reason="blurred", base_revision=0, now=NOW
    )
    for task in (skipped, rejected):
        hand_in(task, house.people[Role.ANNOTATOR], box())
        hand_in(task, house.people[Role.MANAGER], box())
        task.refresh_from_db()

    assert (skipped.state, rejected.state) == (TaskState.NEEDS_REVIEW, TaskState.REJECTED)
    assert (skipped.answers, rejected.answers) == (2, 2)
    assert not Consensus.objects.exists()


@pytest.mark.parametrize("doubt", [0, 1])
def test_settling_takes_few_statements(house: House, doubt: int) -> None:
    task = answered(house, doubt=doubt)
    Consensus.objects.all().delete()

    with CaptureQueriesContext(connection) as asked:
        consensus.settle(task_id=task.pk)

    # The task, its project as it is once the task is ours, the last consensus, the answers, the schema; two to write.
    assert len(statements(asked)) <= 7


# --- the reviewers' queue -----------------------------------------------------------------------------------


def test_the_riskiest_comes_first_and_what_nobody_answered_last(reviewed: House) -> None:
    skipped = reviewed.add_picture(state=TaskState.NEEDS_REVIEW, review_cause=ReviewCause.SKIPPED, slots=0)
    calm, risky = answered(reviewed), answered(reviewed, doubt=2)
    roles = (Role.REVIEWER, Role.MANAGER, Role.OWNER)

    assert [claim(reviewed, role) for role in roles] == [risky, calm, skipped]


def test_a_reviewer_gets_the_task_they_hold_again_and_holds_it_longer(reviewed: House) -> None:
    task = answered(reviewed)
    first = claim(reviewed)
    again = claim(reviewed, now=NOW + timedelta(seconds=200))

    assert first == again == task
    assert again is not None
    assert again.review_expires_at == NOW + timedelta(seconds=200 + reviewed.project.lease_seconds)


def test_a_claim_that_ran_out_is_another_reviewer_s_to_take(reviewed: House) -> None:
    task = answered(reviewed)
    claim(reviewed)
    assert claim(reviewed, Role.MANAGER) is None

    assert claim(reviewed, Role.MANAGER, now=LATER) == task


def test_what_is_passed_is_released_and_the_next_comes(reviewed: House) -> None:
    first, second = answered(reviewed, doubt=1), answered(reviewed)
    reviewer = reviewed.people[Role.REVIEWER]
    assert claim(reviewed) == first

    then = reviews.claim_next(project=reviewed.project, reviewer=reviewer, now=NOW, passed=[first.pk])

    assert then == second
    assert claim(reviewed, Role.MANAGER) == first


def test_the_tasks_of_another_project_stay_there(reviewed: House) -> None:
    answered(reviewed)
    other = projects.create(
        name="Other",
        schema=projects.current_schema(reviewed.project).schema,
        owner=reviewed.people[Role.OWNER],
    )

    assert reviews.claim_next(project=other, reviewer=reviewed.people[Role.OWNER], now=NOW) is None


def test_an_empty_queue_says_why_and_who_holds_what(reviewed: House) -> None:
    def why(role: Role = Role.MANAGER) -> reviews.Emptiness:
        return reviews.why_empty(project=reviewed.project, reviewer=reviewed.people[role], now=NOW)

    assert why().code == "nothing_waits"
    task = answered(reviewed)
    claim(reviewed)
    assert why().code == "all_held"
    assert [(item.username, item.task_id) for item in why().held] == [("the reviewer", task.pk)]
    send_back(reviewed, task)
    assert (why().code, why().returned) == ("with_authors", 1)


def test_the_next_review_is_found_by_the_index_not_by_looking_at_all(reviewed: House) -> None:
    answered(reviewed)
    with CaptureQueriesContext(connection) as asked:
        claim(reviewed)
    claiming = next(text for text in statements(asked) if text.startswith("UPDATE labeling_task"))
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        cursor.execute(
            ("EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN ") + claiming
        )
        plan = str(cursor.fetchall())

    assert "task_review_by_state_and_risk" in plan
    assert "Sort" not in plan
    assert "TEMP B-TREE" not in plan


# --- decisions ----------------------------------------------------------------------------------------------


def test_accepting_settles_the_task_with_the_consensus_as_it_is(reviewed: House) -> None:
    task = answered(reviewed, doubt=1)
    claim(reviewed)
    before = task.consensus
    assert before is not None

    reviews.accept(task=task, reviewer=reviewed.people[Role.REVIEWER], base_revision=1, now=NOW)

    task.refresh_from_db()
    assert task.consensus is not None
    assert (task.state, task.consensus.source, task.consensus.shapes) == (
        TaskState.SETTLED,
        ConsensusSource.EXPERT,
        before.shapes,
    )
    assert (task.reviewer, task.risk, task.is_gold) == (None, 0.0, False)
    assert Event.objects.get(verb="accept").actor == reviewed.people[Role.REVIEWER]


def test_correcting_settles_the_task_with_the_expert_s_shapes_gold_if_asked(reviewed: House) -> None:
    task = answered(reviewed)
    reviews.correct(
        task=task,
        reviewer=reviewed.people[Role.MANAGER],
        shapes=(box("mine", 12.0),),
        base_revision=1,
        now=NOW,
        as_gold=True,
    )

    task.refresh_from_db()
    assert task.consensus is not None
    assert (task.state, task.consensus.source, task.is_gold) == (
        TaskState.SETTLED,
        ConsensusSource.EXPERT,
        True,
    )
    assert task.consensus.shapes[0]["xyxy"][0] == 12.0


def test_a_correction_must_fit_the_schema(reviewed: House) -> None:
    task = answered(reviewed)
    with pytest.raises(InvalidShape, match="shapes\\[0\\]"):
        reviews.correct(
            task=task,
            reviewer=reviewed.people[Role.REVIEWER],
            shapes=(Box("a", 77, (1.0, 1.0, 2.0, 2.0)),),
            base_revision=1,
            now=NOW,
        )


def test_a_rejected_picture_keeps_its_answers_and_is_served_to_nobody(reviewed: House) -> None:
    task = answered(reviewed)
    reviews.reject(
        task=task, reviewer=reviewed.people[Role.REVIEWER], reason="black", base_revision=1, now=NOW
    )

    task.refresh_from_db()
    assert (task.state, task.slots, task.answers) == (TaskState.REJECTED, 0, 2)
    assert Annotation.objects.filter(task=task, is_current=True).count() == 2
    assert claim(reviewed) is None
    assert (
        queue.lease_next(project=reviewed.project, user=reviewed.people[Role.OWNER], count=1, now=NOW) == []
    )


def decide(house: House, task: Task, how: str, *, base: int = 1, role: Role = Role.REVIEWER) -> None:
    reviewer = house.people[role]
    if how == "accept":
        reviews.accept(task=task, reviewer=reviewer, base_revision=base, now=NOW)
    elif how == "correct":
        reviews.correct(task=task, reviewer=reviewer, shapes=(box(),), base_revision=base, now=NOW)
    elif how == "reject":
        reviews.reject(task=task, reviewer=reviewer, reason="", base_revision=base, now=NOW)
    elif how == "return":
        send_back(house, task, base=base, role=role)
    else:
        reviews.reopen(task=task, reviewer=reviewer, to="queue", base_revision=base, now=NOW)


def send_back(house: House, task: Task, *, base: int = 1, role: Role = Role.REVIEWER) -> Return:
    return reviews.send_back(
        task=task,
        reviewer=house.people[role],
        annotation=Annotation.objects.get(task=task, author=house.people[Role.ANNOTATOR], is_current=True),
        shape_id="a",
        comment="its edge is further left",
        base_revision=base,
        now=NOW,
    )


DECISIONS = pytest.mark.parametrize("how", ["accept", "correct", "reject", "return", "reopen"])


@DECISIONS
def test_a_decision_about_an_older_consensus_is_refused(reviewed: House, how: str) -> None:
    task = answered(reviewed)
    hand_in(task, reviewed.people[Role.MANAGER], box("a", 8.0), base_revision=1)
    assert revision(task) == 2

    with pytest.raises(reviews.StaleReview):
        decide(reviewed, task, how, base=1)

    task.refresh_from_db()
    assert task.state == TaskState.NEEDS_REVIEW


@DECISIONS
def test_nobody_decides_about_what_another_reviewer_holds(reviewed: House, how: str) -> None:
    task = answered(reviewed)
    claim(reviewed)

    with pytest.raises(reviews.HeldByAnother):
        decide(reviewed, task, how, role=Role.OWNER)
    decide(reviewed, task, how)


@pytest.mark.parametrize("how", ["accept", "return"])
def test_what_is_settled_already_is_neither_accepted_nor_sent_back(house: House, how: str) -> None:
    task = answered(house)

    with pytest.raises(reviews.NotInReview):
        decide(house, task, how)


def test_there_must_be_a_consensus_to_accept(reviewed: House) -> None:
    task = reviewed.add_picture(state=TaskState.NEEDS_REVIEW, review_cause=ReviewCause.SKIPPED, slots=0)

    with pytest.raises(reviews.NothingToAccept):
        decide(reviewed, task, "accept", base=0)


# --- sending back -------------------------------------------------------------------------------------------


def test_one_object_goes_back_to_its_author_and_the_task_comes_again_when_it_is_mended(
    reviewed: House,
) -> None:
    task, author = answered(reviewed), reviewed.people[Role.ANNOTATOR]
    sent = send_back(reviewed, task)
    assert claim(reviewed) is None  # it is with its author

    (waiting,) = reviews.returned_to(project=reviewed.project, author=author)
    assert (waiting, waiting.comment) == (sent, "its edge is further left")
    mended = hand_in(task, author, box("a", 2.0), base_revision=1)

    sent.refresh_from_db()
    assert (sent.answered_by, sent.answered_at) == (mended, NOW)
    found = claim(reviewed)
    assert found == task
    assert (found.state, found.review_cause) == (TaskState.NEEDS_REVIEW, ReviewCause.RETURNED)
    assert revision(task) == 2
    assert not reviews.returned_to(project=reviewed.project, author=author).exists()


def test_a_mended_task_waits_for_the_reviewer_though_its_risk_is_low_now(sent: object, db: None) -> None:
    house = make_house(consensus_method="majority", review_risk=0.4)
    task = answered(house, doubt=1)
    send_back(house, task)

    hand_in(task, house.people[Role.ANNOTATOR], box(), base_revision=1)

    task.refresh_from_db()
    assert (task.risk, task.state) == (0.0, TaskState.NEEDS_REVIEW)


def test_another_person_s_revision_answers_nothing(reviewed: House) -> None:
    task = answered(reviewed)
    sent = send_back(reviewed, task)

    hand_in(task, reviewed.people[Role.MANAGER], box("a", 5.0), base_revision=1)

    sent.refresh_from_db()
    assert sent.answered_at is None


def test_an_object_is_sent_back_once_and_only_if_it_is_there(reviewed: House) -> None:
    task = answered(reviewed)
    send_back(reviewed, task)
    with pytest.raises(reviews.AlreadyReturned):
        send_back(reviewed, task)
    current = Annotation.objects.get(task=task, author=reviewed.people[Role.MANAGER])
    with pytest.raises(reviews.NoSuchObject):
        reviews.send_back(
            task=task,
            reviewer=reviewed.people[Role.REVIEWER],
            annotation=current,
            shape_id="nothing",
            comment="?",
            base_revision=1,
            now=NOW,
        )


def test_nothing_is_sent_back_to_somebody_who_left(reviewed: House) -> None:
    task = answered(reviewed)
    reviewed.project.memberships.filter(user=reviewed.people[Role.ANNOTATOR]).update(role=Role.VIEWER)

    with pytest.raises(reviews.AuthorGone):
        send_back(reviewed, task)


def test_the_author_opens_the_task_again_without_taking_a_slot(reviewed: House) -> None:
    task, author = answered(reviewed), reviewed.people[Role.ANNOTATOR]
    sent = send_back(reviewed, task)
    lease = reviews.lease_again(sent=sent, now=NOW)
    again = reviews.lease_again(sent=sent, now=NOW + timedelta(seconds=10))

    assert lease == again == Lease.objects.get(task=task, user=author)
    (first,) = queue.lease_next(project=reviewed.project, user=author, count=1, now=NOW)
    assert first.task == task
    task.refresh_from_db()
    assert (task.slots, task.answers) == (0, 2)

    hand_in(task, author, box("a", 2.0), base_revision=1)
    task.refresh_from_db()
    assert (task.slots, task.answers, Lease.objects.count()) == (0, 2, 0)
    with pytest.raises(reviews.AlreadyReturned):
        reviews.lease_again(sent=sent, now=NOW)


def test_a_reviewer_s_decision_ends_what_was_sent_back(reviewed: House) -> None:
    task = answered(reviewed)
    sent = send_back(reviewed, task)

    decide(reviewed, task, "accept")

    sent.refresh_from_db()
    assert (sent.answered_by, sent.answered_at) == (None, NOW)


# --- opening again ------------------------------------------------------------------------------------------


def test_a_task_is_opened_again_for_one_more_person(reviewed: House) -> None:
    task = answered(reviewed, doubt=1)
    reviews.reopen(task=task, reviewer=reviewed.people[Role.REVIEWER], to="queue", base_revision=1, now=NOW)

    task.refresh_from_db()
    assert (task.state, task.slots, task.extra_answers) == (TaskState.IN_PROGRESS, 1, 1)
    assert (task.consensus, task.reason) == (None, Reason.DISAGREEMENT)
    for role in (Role.ANNOTATOR, Role.MANAGER):
        assert queue.lease_next(project=reviewed.project, user=reviewed.people[role], count=1, now=NOW) == []
    (lease,) = queue.lease_next(project=reviewed.project, user=reviewed.people[Role.OWNER], count=1, now=NOW)
    queue.release(task=task, user=reviewed.people[Role.OWNER], token=lease.token)
    task.refresh_from_db()
    assert task.slots == 1  # the slot beyond the project's number comes back too

    hand_in(task, reviewed.people[Role.OWNER], box())
    task.refresh_from_db()
    assert task.consensus is not None
    assert (task.consensus.answers, task.slots) == (3, 0)


def test_a_rejected_task_without_all_its_answers_opens_for_those_that_are_missing(house: House) -> None:
    task = house.add_picture()
    hand_in(task, house.people[Role.ANNOTATOR], box())
    decide(house, task, "reject", base=0)
    reviews.reopen(task=task, reviewer=house.people[Role.REVIEWER], to="queue", base_revision=0, now=NOW)

    task.refresh_from_db()
    assert (task.state, task.slots, task.extra_answers) == (TaskState.IN_PROGRESS, 1, 0)


def test_a_settled_task_goes_before_the_reviewers_when_one_asks(house: House) -> None:
    task = answered(house)
    reviews.reopen(task=task, reviewer=house.people[Role.REVIEWER], to="review", base_revision=1, now=NOW)
    consensus.settle(task_id=task.pk)

    found = claim(house)
    assert found == task
    assert (found.state, found.review_cause, revision(task)) == (
        TaskState.NEEDS_REVIEW,
        ReviewCause.ASKED,
        1,
    )


def test_gold_is_not_opened_again(house: House) -> None:
    task = house.add_picture()
    consensus.set_answer(
        task=task,
        shapes=(box(),),
        source=ConsensusSource.EXPERT,
        actor=house.people[Role.OWNER],
        as_gold=True,
    )
    with pytest.raises(reviews.GoldStays):
        decide(house, task, "reopen")


def test_what_was_skipped_opens_again_for_those_who_did_not_skip_it(house: House) -> None:
    task = house.add_picture(state=TaskState.NEEDS_REVIEW, review_cause=ReviewCause.SKIPPED, slots=0)
    Skip.objects.create(task=task, user=house.people[Role.ANNOTATOR], reason="dark")
    decide(house, task, "reopen", base=0)

    assert queue.lease_next(project=house.project, user=house.people[Role.ANNOTATOR], count=1, now=NOW) == []
    (lease,) = queue.lease_next(project=house.project, user=house.people[Role.MANAGER], count=1, now=NOW)
    assert lease.task == task
