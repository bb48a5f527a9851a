"""Disputed objects, asked about one by one of people who have not answered the picture."""

from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from labeling.models import (
    Card,
    CardAnswer,
    CardVerdict,
    ConsensusSource,
    Membership,
    Project,
    ReviewCause,
    Role,
    Task,
    TaskState,
)
from labeling.services import annotations, cards, consensus, projects, refits, reviews
from labeling.shapes import Box, Json, Keypoints, Tag, dump
from tests.conftest import House, make_house
from tests.labeling.threads import at_once

pytestmark = pytest.mark.django_db

NOW = datetime.fromisoformat("2026-03-02T10:00:00+00:00")
LATER = NOW + timedelta(hours=1)
KEEP, DROP = CardVerdict.KEEP, CardVerdict.DROP


def box(name: str = "a", x: float = 4.0) -> Box:
    return Box(name, 1, (x, 5.0, x + 20.0, 25.0))


@pytest.fixture
def asking(db: None, sent: object) -> House:
    """A project in which one person is asked about each disputed object."""
    return make_house(consensus_method="majority", cards_per_dispute=1)


def hand_in(task: Task, author: User, *shapes: Box, base_revision: int = 0) -> None:
    annotations.submit(
        task=task,
        author=author,
        key=uuid4(),
        shapes=shapes,
        base_revision=base_revision,
        seconds_active=2.0,
        suggestions_from="",
        now=NOW,
    )


def disputed(house: House, *doubted: Box) -> Task:
    """A task whose two answers agree about one box; one of them has the doubted ones too."""
    task = house.add_picture()
    hand_in(task, house.people[Role.ANNOTATOR], box(), *(doubted or (box("x", 40.0),)))
    hand_in(task, house.people[Role.OWNER], box())
    task.refresh_from_db()
    return task


def ask(house: House, role: Role = Role.REVIEWER, count: int = 20, now: datetime = NOW) -> list[Card]:
    return cards.claim(project=house.project, user=house.people[role], count=count, now=now)


def say(house: House, role: Role, card: Card, verdict: CardVerdict, now: datetime = NOW) -> CardAnswer:
    return cards.answer(card=card, user=house.people[role], verdict=verdict, seconds_active=1.5, now=now)


def wanting(number: int) -> House:
    house = make_house(consensus_method="majority", cards_per_dispute=number)
    for index in range(number):
        person = User.objects.create_user(f"helper {index}")
        Membership.objects.create(project=house.project, user=person, role=Role.ANNOTATOR)
    return house


def left_edges(shapes: list[Json]) -> list[float]:
    return sorted(shape["xyxy"][0] for shape in shapes)


def test_only_what_the_vote_leaves_open_is_asked_about(asking: House) -> None:
    task = disputed(asking)

    assert (task.state, task.slots, task.settled_at) == (TaskState.DISPUTED, 0, None)
    card = Card.objects.get()
    assert (card.task, card.slots, card.confidence) == (task, 1, 0.5)
    assert card.shape["xyxy"][0] == 40.0
    assert "score" not in card.shape


@pytest.mark.parametrize(("verdict", "kept", "rejected"), [(KEEP, [4.0, 40.0], []), (DROP, [4.0], [40.0])])
def test_the_verdict_becomes_the_next_revision(
    asking: House, verdict: CardVerdict, kept: list[float], rejected: list[float]
) -> None:
    task = disputed(asking)
    (card,) = ask(asking)
    say(asking, Role.REVIEWER, card, verdict)

    task.refresh_from_db()
    assert task.consensus is not None
    assert (task.state, task.consensus.revision) == (TaskState.SETTLED, 2)
    assert (task.consensus.method, task.consensus.source) == ("majority+cards", ConsensusSource.ANSWERS)
    assert (left_edges(task.consensus.shapes), left_edges(task.consensus.rejected)) == (kept, rejected)
    (asked,) = [
        shape for shape in task.consensus.shapes + task.consensus.rejected if shape["xyxy"][0] == 40.0
    ]
    assert asked["score"] == pytest.approx(0.9 if verdict == KEEP else 0.1)
    assert task.risk == pytest.approx(0.1)


def test_settling_again_asks_nothing_again_and_gives_the_same(asking: House) -> None:
    task = disputed(asking)
    for _ in range(2):
        consensus.settle(task_id=task.pk)
    (card,) = ask(asking)
    say(asking, Role.REVIEWER, card, DROP)
    task.refresh_from_db()
    decided = task.consensus_id

    consensus.settle(task_id=task.pk)
    refits.refit(project=asking.project)
    projects.change(project=asking.project, changes={"cards_per_dispute": 0}, actor=asking.people[Role.OWNER])
    consensus.settle(task_id=task.pk)

    task.refresh_from_db()
    assert (task.consensus_id, task.state) == (decided, TaskState.SETTLED)
    assert Card.objects.count() == 1


def test_an_object_that_was_drawn_anew_is_another_question(asking: House) -> None:
    task = disputed(asking)
    (card,) = ask(asking)
    say(asking, Role.REVIEWER, card, DROP)

    hand_in(task, asking.people[Role.ANNOTATOR], box(), box("x", 30.0), base_revision=1)

    task.refresh_from_db()
    assert task.state == TaskState.DISPUTED
    assert left_edges([card.shape for card in Card.objects.filter(slots=1)]) == [30.0]


def test_the_task_waits_for_the_verdicts_about_all_its_objects(asking: House) -> None:
    task = disputed(asking, box("x", 40.0), box("y", 200.0))
    first, second = ask(asking)
    say(asking, Role.REVIEWER, first, KEEP)
    task.refresh_from_db()
    assert (task.state, task.consensus_id) == (TaskState.DISPUTED, consensus_of(task, 1))

    say(asking, Role.REVIEWER, second, DROP)

    task.refresh_from_db()
    assert (task.state, task.consensus_id) == (TaskState.SETTLED, consensus_of(task, 2))


def consensus_of(task: Task, revision: int) -> int:
    return task.consensus_revisions.get(revision=revision).pk


def test_the_order_in_which_verdicts_came_changes_nothing(asking: House) -> None:
    tasks = [disputed(asking, box("x", 40.0), box("y", 200.0)) for _ in range(2)]
    verdicts = {40.0: KEEP, 200.0: DROP}
    for task, order in zip(tasks, (1, -1), strict=True):
        for card in list(Card.objects.filter(task=task).order_by("id"))[::order]:
            say(asking, Role.REVIEWER, card, verdicts[card.shape["xyxy"][0]])
            consensus.settle(task_id=task.pk)
        task.refresh_from_db()

    first, second = (task.consensus for task in tasks)
    assert first is not None
    assert second is not None
    assert (left_edges(first.shapes), left_edges(first.rejected)) == ([4.0, 40.0], [200.0])
    assert (left_edges(second.shapes), second.risk) == ([4.0, 40.0], first.risk)


def test_the_majority_decides_and_as_soon_as_it_is_certain(sent: object, db: None) -> None:
    house = wanting(3)
    task = disputed(house)
    helpers = list(User.objects.filter(username__startswith="helper").order_by("username"))
    for helper in helpers[:2]:
        (card,) = cards.claim(project=house.project, user=helper, count=5, now=NOW)
        cards.answer(card=card, user=helper, verdict=KEEP, seconds_active=1, now=NOW)

    card.refresh_from_db()
    task.refresh_from_db()
    assert (card.keeps, card.verdict, card.slots, task.state) == (2, KEEP, 0, TaskState.SETTLED)
    assert cards.claim(project=house.project, user=helpers[2], count=5, now=NOW) == []


def test_a_tie_goes_to_a_reviewer(sent: object, db: None) -> None:
    house = wanting(2)
    task = disputed(house)
    (card,) = ask(house, Role.REVIEWER)
    (same,) = ask(house, Role.MANAGER)
    assert card == same
    say(house, Role.REVIEWER, card, KEEP)
    say(house, Role.MANAGER, card, DROP)

    task.refresh_from_db()
    assert (task.state, task.review_cause) == (TaskState.NEEDS_REVIEW, ReviewCause.RISK)
    consensus.settle(task_id=task.pk)
    assert reviews.claim_next(project=house.project, reviewer=house.people[Role.REVIEWER], now=NOW) == task


def test_nobody_is_asked_about_a_picture_that_they_answered(asking: House) -> None:
    disputed(asking)
    card = Card.objects.get()

    assert ask(asking, Role.ANNOTATOR) == ask(asking, Role.OWNER) == []
    with pytest.raises(cards.OwnTask):
        say(asking, Role.ANNOTATOR, card, KEEP)


def test_a_card_goes_to_as_many_people_as_are_to_be_asked_and_no_more(asking: House) -> None:
    disputed(asking)

    assert len(ask(asking, Role.REVIEWER)) == 1
    assert ask(asking, Role.MANAGER) == []
    assert len(ask(asking, Role.REVIEWER)) == 1  # the one that is held already


def test_a_card_that_is_held_too_long_goes_to_another(asking: House) -> None:
    disputed(asking)
    (card,) = ask(asking, Role.REVIEWER)

    assert ask(asking, Role.MANAGER, now=LATER) == [card]
    card.refresh_from_db()
    assert (card.slots, CardAnswer.objects.count()) == (0, 1)


def test_the_sweeper_gives_slots_of_cards_back(asking: House) -> None:
    disputed(asking)
    (card,) = ask(asking)

    assert cards.expire(now=NOW) == 0
    assert cards.expire(now=LATER) == 1
    card.refresh_from_db()
    assert card.slots == 1


def test_a_late_answer_is_kept_and_counts_only_where_there_is_room(asking: House) -> None:
    disputed(asking)
    (card,) = ask(asking, Role.REVIEWER)
    ask(asking, Role.MANAGER, now=LATER)

    say(asking, Role.REVIEWER, card, KEEP, now=LATER)  # it is the manager's by now
    card.refresh_from_db()
    assert (card.keeps, card.verdict) == (0, "")
    say(asking, Role.MANAGER, card, DROP, now=LATER)

    card.refresh_from_db()
    assert (card.keeps, card.drops, card.verdict) == (0, 1, DROP)
    assert CardAnswer.objects.filter(verdict=KEEP).count() == 1


def test_the_same_verdict_again_changes_nothing_and_another_is_refused(asking: House) -> None:
    disputed(asking)
    (card,) = ask(asking)
    first = say(asking, Role.REVIEWER, card, KEEP)

    assert say(asking, Role.REVIEWER, card, KEEP, now=LATER) == first
    with pytest.raises(cards.VerdictGiven):
        say(asking, Role.REVIEWER, card, DROP)
    card.refresh_from_db()
    assert (card.keeps, card.drops) == (1, 0)


def test_a_reviewer_s_decision_ends_the_cards(asking: House) -> None:
    task = disputed(asking)
    reviews.accept(task=task, reviewer=asking.people[Role.REVIEWER], base_revision=1, now=NOW)

    assert ask(asking, Role.MANAGER) == []
    assert Card.objects.get().slots == 0


def test_a_withdrawn_answer_ends_the_cards_until_there_are_enough_again(asking: House) -> None:
    task = disputed(asking)
    annotations.withdraw(task=task, author=asking.people[Role.OWNER], base_revision=1, now=NOW)
    assert ask(asking) == []

    hand_in(task, asking.people[Role.OWNER], box(), base_revision=1)

    task.refresh_from_db()
    assert task.state == TaskState.DISPUTED
    assert len(ask(asking)) == Card.objects.count() == 1


def test_reviewers_may_ask_for_disputed_tasks(asking: House) -> None:
    task, reviewer = disputed(asking), asking.people[Role.REVIEWER]

    assert reviews.claim_next(project=asking.project, reviewer=reviewer, now=NOW) is None
    told = reviews.why_empty(project=asking.project, reviewer=reviewer, now=NOW)
    assert (told.code, told.disputed) == ("with_cards", 1)
    assert reviews.claim_next(project=asking.project, reviewer=reviewer, now=NOW, with_disputed=True) == task


def test_a_batch_holds_the_riskiest_tasks_cards_first(asking: House) -> None:
    calm = disputed(asking)
    risky = disputed(asking, box("x", 40.0), box("y", 200.0))

    assert [card.task for card in ask(asking, count=2)] == [risky, risky]
    assert [card.task for card in ask(asking, count=3)] == [calm, risky, risky]


@pytest.mark.parametrize(
    ("shape", "region"),
    [
        (Box("a", 1, (30.0, 20.0, 34.0, 24.0)), [6.0, 0.0, 58.0, 48.0]),
        (Keypoints("a", 3, ((10.0, 10.0, 2), (0.0, 0.0, 0))), [0.0, 0.0, 34.0, 34.0]),
        (Keypoints("a", 3, ((0.0, 0.0, 0),)), [0.0, 0.0, 64.0, 48.0]),
        (Tag("a", 4), [0.0, 0.0, 64.0, 48.0]),
    ],
    ids=["box", "joints", "no joint", "tag"],
)
def test_a_card_shows_the_object_and_what_is_around_it(
    house: House, shape: Box | Keypoints | Tag, region: list[float]
) -> None:
    task = house.add_picture()
    card = Card(task=task, shape=dump(shape), digest="0" * 64, confidence=0.5, slots=1)

    assert cards.region(card) == region


def test_claiming_a_handful_takes_few_statements(asking: House) -> None:
    for _ in range(3):
        disputed(asking)
    with CaptureQueriesContext(connection) as asked:
        assert len(ask(asking, count=3)) == 3

    assert len([query for query in asked.captured_queries if "SAVEPOINT" not in query["sql"]]) <= 7


@pytest.mark.django_db(transaction=True)
def test_many_people_at_once_get_each_card_as_often_as_it_is_to_be_asked(sent: object) -> None:
    house = wanting(2)
    people = [User.objects.create_user(f"person {index}") for index in range(6)]
    Membership.objects.bulk_create(
        Membership(project=house.project, user=person, role=Role.ANNOTATOR) for person in people
    )
    for number in range(6):
        disputed(house, *(box(f"x{index}", 40.0 + 100 * index) for index in range(1 + number % 2)))
    project = Project.objects.get()

    tabs = [*people, *people]  # each person in two
    at_once(len(tabs), lambda tab: cards.claim(project=project, user=tabs[tab], count=4, now=NOW))

    for card in Card.objects.all():
        assert card.slots + card.answers.count() == 2
    assert max(person.card_answers.count() for person in people) <= 4
    for person in people:  # what somebody had just locked was passed by, and comes when it is asked for again
        cards.claim(project=project, user=person, count=4, now=NOW)
    assert CardAnswer.objects.count() == 2 * Card.objects.count()
