"""The queue's rules as properties: whatever people do in whatever order, nothing is lost or given out too often."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from labeling.models import (
    Annotation,
    ConsensusSource,
    Lease,
    Overlap,
    Project,
    Return,
    Role,
    Skip,
    Task,
    TaskState,
)
from labeling.services import annotations, consensus, overlap, projects, queue, refits, reviews
from labeling.services.annotations import KeyReused, NothingToWithdraw, StaleRevision
from labeling.services.queue import LostLease
from labeling.shapes import Box
from tests.conftest import House

START = datetime.fromisoformat("2026-03-02T10:00:00+00:00")
# Few, so that they meet often.
PEOPLE = (Role.ANNOTATOR, Role.REVIEWER, Role.MANAGER)
TASKS = 2
GOLD = 1

REVIEWERS = (Role.REVIEWER, Role.OWNER)

a_reviewer = st.sampled_from(REVIEWERS)
a_person = st.sampled_from(PEOPLE)
any_of_many = st.integers(0, 10**6)


@dataclass(frozen=True)
class Acknowledged:
    """An answer that somebody was told is stored."""

    task_id: int
    person: Role
    key: UUID
    x1: int
    base_revision: int
    response: dict[str, Any]


@dataclass(frozen=True)
class Handed:
    """A lease as its holder's page knows it, also when it is long over."""

    task_id: int
    person: Role
    token: int


class Queue(RuleBasedStateMachine):
    """People at a queue of a few tasks. All of an example happens in one transaction, undone at its end."""

    house: ClassVar[House]

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.handed: list[Handed] = []
        self.acknowledged: list[Acknowledged] = []
        self.whole = transaction.atomic()
        self.whole.__enter__()

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.whole.__exit__(None, None, None)

    @initialize(wanted=st.integers(1, 3), which=st.sampled_from(Overlap))
    def begin(self, wanted: int, which: Overlap) -> None:
        self.house.project.refresh_from_db()
        self.change_answers_per_task(wanted)
        self.change_overlap(which)

    # --- what people do ---------------------------------------------------------------------------------------

    @rule(person=a_person, count=st.integers(1, 4), drawn=st.sampled_from([0.0, 0.9, 0.9]))
    def ask_for_tasks(self, person: Role, count: int, drawn: float) -> None:
        user = self.user(person)
        before = set(Lease.objects.filter(user=user).values_list("task_id", "token"))

        leases = queue.lease_next(
            project=self.house.project, user=user, count=count, now=self.now, draw=lambda: drawn
        )

        held = {(lease.task_id, lease.token) for lease in leases}
        assert before <= held, "what somebody holds comes first"
        assert len(held) <= max(count, len(before))
        answered = set(
            Annotation.objects.filter(author=user, is_current=True).values_list("task_id", flat=True)
        )
        skipped = set(Skip.objects.filter(user=user).values_list("task_id", flat=True))
        for lease in leases:
            if (lease.task_id, lease.token) in before:
                continue
            assert lease.task_id not in answered | skipped, (
                "handed to somebody who answered it or passed it by"
            )
            assert lease.task.is_gold or self.people_in(lease.task) <= overlap.needed(lease.task)
            self.handed.append(Handed(lease.task_id, person, lease.token))

    @precondition(lambda self: self.handed)
    @rule(which=any_of_many)
    def beat(self, which: int) -> None:
        handed = self.pick_handed(which)
        self.may_be_lost(
            lambda: queue.heartbeat(
                task=self.task(handed), user=self.user(handed.person), token=handed.token, now=self.now
            )
        )

    @rule(seconds=st.sampled_from([100, 299, 301, 3_600]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def sweep(self) -> None:
        queue.expire(now=self.now)
        consensus.settle_stale()
        assert not Lease.objects.filter(expires_at__lt=self.now).exists()
        assert not Task.objects.filter(consensus_stale=True).exists()

    @precondition(lambda self: self.handed)
    @rule(which=any_of_many)
    def release(self, which: int) -> None:
        handed = self.pick_handed(which)
        queue.release(task=self.task(handed), user=self.user(handed.person), token=handed.token)

    @precondition(lambda self: Lease.objects.exists())
    @rule(which=any_of_many)
    def a_manager_releases(self, which: int) -> None:
        lease = self.pick(list(Lease.objects.order_by("pk")), which)
        queue.release_by_manager(lease=lease, actor=self.user(Role.MANAGER))

    @precondition(lambda self: self.handed)
    @rule(which=any_of_many)
    def skip(self, which: int) -> None:
        handed = self.pick_handed(which)
        self.may_be_lost(
            lambda: queue.skip(
                task=self.task(handed), user=self.user(handed.person), token=handed.token, reason="dark"
            )
        )
        self.ask_for_tasks(handed.person, 4, 0.9)

    @precondition(lambda self: self.handed)
    @rule(which=any_of_many, x1=st.integers(0, 9))
    def submit_under_a_lease_as_known(self, which: int, x1: int) -> None:
        handed = self.pick_handed(which)
        held = Lease.objects.filter(
            task_id=handed.task_id, user=self.user(handed.person), token=handed.token
        ).exists()
        first = self.current(handed.task_id, handed.person) is None
        stored = self.submit(handed.task_id, handed.person, x1, token=handed.token)
        assert stored["late"] is (first and not held)

    @rule(person=a_person, which=any_of_many, x1=st.integers(0, 9))
    def submit_without_a_lease_or_correct(self, person: Role, which: int, x1: int) -> None:
        self.submit(self.pick(self.tasks(), which).pk, person, x1)

    @precondition(lambda self: self.acknowledged)
    @rule(which=any_of_many)
    def repeat_a_submit(self, which: int) -> None:
        said = self.pick(self.acknowledged, which)
        assert self.send(said.task_id, said.person, said.key, said.x1, said.base_revision) == said.response
        with pytest.raises(KeyReused):
            self.send(said.task_id, said.person, said.key, said.x1 + 1, said.base_revision)

    @rule(person=a_person, which=any_of_many, off=st.sampled_from([-1, 1, 2]))
    def submit_from_a_revision_that_is_not_the_last(self, person: Role, which: int, off: int) -> None:
        task = self.pick(self.tasks(), which)
        base = self.last_revision(task.pk, person) + off
        assume(base >= 0)
        with pytest.raises(StaleRevision):
            self.send(task.pk, person, uuid4(), 1, base)

    @rule(person=a_person, which=any_of_many)
    def withdraw(self, person: Role, which: int) -> None:
        task = self.pick(self.tasks(), which)
        last = self.last_revision(task.pk, person)
        if not last:
            with pytest.raises(NothingToWithdraw):
                self.take_back(task, person, 1)
            return
        assert self.take_back(task, person, last) == self.take_back(task, person, last)
        assert self.current(task.pk, person) is None

    @rule(wanted=st.integers(1, 3))
    def change_answers_per_task(self, wanted: int) -> None:
        self.house.project = projects.change(
            project=self.house.project, changes={"answers_per_task": wanted}, actor=self.user(Role.OWNER)
        )

    @rule(which=st.sampled_from(Overlap))
    def change_overlap(self, which: Overlap) -> None:
        self.house.project = projects.change(
            project=self.house.project, changes={"overlap": which}, actor=self.user(Role.OWNER)
        )

    @rule(risk=st.sampled_from([0.0, 0.15, 1.0]), most=st.integers(2, 4))
    def change_what_risk_asks_on(self, risk: float, most: int) -> None:
        self.house.project = projects.change(
            project=self.house.project,
            changes={"target_risk": risk, "most_answers": most},
            actor=self.user(Role.OWNER),
        )

    @rule()
    def refit(self) -> None:
        refits.refit(project=Project.objects.get(pk=self.house.project.pk))
        self.house.project.refresh_from_db()
        self.settling_again_changes_nothing()

    def settling_again_changes_nothing(self) -> None:
        """What became of each task is told by its answers, and not by when they were looked at."""
        before = list(Task.objects.filter(consensus_stale=False).order_by("pk").values())
        for task in before:
            consensus.settle(task_id=task["id"])
        assert list(Task.objects.filter(pk__in=[task["id"] for task in before]).order_by("pk").values()) == (
            before
        )

    # --- what reviewers do ------------------------------------------------------------------------------------

    @rule(risk=st.sampled_from([None, 0.0]))
    def change_what_goes_to_reviewers(self, risk: float | None) -> None:
        self.house.project = projects.change(
            project=self.house.project, changes={"review_risk": risk}, actor=self.user(Role.OWNER)
        )

    @rule(reviewer=a_reviewer)
    def claim_a_review(self, reviewer: Role) -> None:
        before = {task.pk: task for task in self.tasks()}
        task = reviews.claim_next(project=self.house.project, reviewer=self.user(reviewer), now=self.now)
        if task is None:
            return
        was = before[task.pk]
        assert task.state == TaskState.NEEDS_REVIEW
        assert task.reviewer == self.user(reviewer)
        if was.reviewer_id not in (None, task.reviewer_id):
            assert was.review_expires_at is not None
            assert was.review_expires_at < self.now, "taken from a reviewer who holds it"
        if was.reviewer_id != task.reviewer_id:
            assert not Return.objects.filter(task=task, answered_at=None).exists(), "it is with its author"

    @rule(
        reviewer=a_reviewer,
        which=any_of_many,
        what=st.sampled_from(["accept", "reject", "return", "queue", "review"]),
    )
    def decide(self, reviewer: Role, which: int, what: str) -> None:
        task = self.pick(self.tasks(), which)
        try:
            self.do_decide(task, self.user(reviewer), what)
        except (
            reviews.NotInReview,
            reviews.HeldByAnother,
            reviews.NothingToAccept,
            reviews.AlreadyReturned,
            reviews.GoldStays,
        ):
            after = Task.objects.get(pk=task.pk)
            assert (after.state, after.slots, after.consensus_id) == (
                task.state,
                task.slots,
                task.consensus_id,
            )

    def do_decide(self, task: Task, reviewer: User, what: str) -> None:
        base = 0 if task.consensus is None else task.consensus.revision
        if what == "accept":
            reviews.accept(task=task, reviewer=reviewer, base_revision=base, now=self.now)
        elif what == "reject" and not task.is_gold:
            reviews.reject(task=task, reviewer=reviewer, reason="", base_revision=base, now=self.now)
        elif what in ("queue", "review"):
            to: Literal["queue", "review"] = "queue" if what == "queue" else "review"
            reviews.reopen(task=task, reviewer=reviewer, to=to, base_revision=base, now=self.now)
            after = Task.objects.get(pk=task.pk)
            assert (after.slots > 0) == (to == "queue")
        elif what == "return":
            answer = Annotation.objects.filter(task=task, is_current=True).order_by("author_id").first()
            if answer is not None:
                reviews.send_back(
                    task=task,
                    reviewer=reviewer,
                    annotation=answer,
                    shape_id="a",
                    comment="look again",
                    base_revision=base,
                    now=self.now,
                )

    @precondition(lambda self: Return.objects.filter(answered_at=None).exists())
    @rule(which=any_of_many)
    def open_again_what_came_back(self, which: int) -> None:
        sent = self.pick(list(Return.objects.filter(answered_at=None).order_by("pk")), which)
        before = Task.objects.get(pk=sent.task_id)
        lease = reviews.lease_again(sent=sent, now=self.now)
        assert lease.user == sent.author
        assert Task.objects.get(pk=sent.task_id).slots == before.slots

    # --- what always holds ------------------------------------------------------------------------------------

    @invariant()
    def answers_are_counted_and_slots_are_what_is_still_wanted(self) -> None:
        answered = Counter(Annotation.objects.filter(is_current=True).values_list("task_id", flat=True))
        holding = Counter(task_id for task_id, _ in self.held_to_answer())
        for task in self.tasks():
            assert task.answers == answered[task.pk]
            if task.state in queue.OPEN_STATES:
                assert task.slots == max(0, overlap.needed(task) - task.answers - holding[task.pk])
            else:
                assert task.slots == 0

    @invariant()
    def a_task_is_settled_when_it_has_enough_answers_and_only_then(self) -> None:
        for task in self.tasks():
            if task.is_gold:
                assert task.state == TaskState.SETTLED
                assert task.consensus is not None
                assert task.consensus.source == ConsensusSource.EXPERT
            elif task.state == TaskState.SETTLED:
                assert task.consensus is not None
                assert (
                    task.consensus.source != ConsensusSource.ANSWERS or task.consensus.answers == task.answers
                )
            elif task.state in queue.OPEN_STATES:
                assert task.consensus is None
                assert task.answers < overlap.needed(task) or task.consensus_stale
            if task.asked and overlap.is_adaptive(task.project) and not task.consensus_stale:
                assert task.state in queue.OPEN_STATES
                assert task.asked == task.answers + 1
                assert task.risk is not None
                assert task.risk > task.project.target_risk

    @invariant()
    def nobody_holds_what_they_answered(self) -> None:
        answered = set(Annotation.objects.filter(is_current=True).values_list("task_id", "author_id"))
        came_back = set(Return.objects.values_list("task_id", "author_id"))
        assert not (answered - came_back) & set(Lease.objects.values_list("task_id", "user_id"))

    @invariant()
    def what_came_back_waits_for_an_answer_that_counts(self) -> None:
        for sent in Return.objects.filter(answered_at=None).select_related("annotation"):
            assert sent.annotation.is_current or sent.annotation.withdrawn_at is not None

    @invariant()
    def every_acknowledged_answer_can_be_read(self) -> None:
        stored = {answer.key: answer for answer in Annotation.objects.all()}
        assert len(stored) == len(self.acknowledged)
        for said in self.acknowledged:
            answer = stored[said.key]
            assert (answer.author_id, answer.task_id) == (self.user(said.person).pk, said.task_id)
            assert answer.shapes[0]["xyxy"][0] == said.x1
            assert answer.response == said.response

    # --- in short ---------------------------------------------------------------------------------------------

    def submit(self, task_id: int, person: Role, x1: int, token: int | None = None) -> dict[str, Any]:
        key, base = uuid4(), self.last_revision(task_id, person)
        response = self.send(task_id, person, key, x1, base, token)
        assert response["revision"] == base + 1
        self.acknowledged.append(Acknowledged(task_id, person, key, x1, base, response))
        return response

    def send(
        self, task_id: int, person: Role, key: UUID, x1: int, base: int, token: int | None = None
    ) -> dict[str, Any]:
        return annotations.submit(
            task=Task.objects.get(pk=task_id),
            author=self.user(person),
            key=key,
            shapes=(Box("a", 1, (x1, 5.0, 24.0, 25.0)),),
            base_revision=base,
            seconds_active=1.0,
            suggestions_from="",
            lease_token=token,
            now=self.now,
        )

    def take_back(self, task: Task, person: Role, base: int) -> dict[str, Any]:
        return annotations.withdraw(task=task, author=self.user(person), base_revision=base, now=self.now)

    def may_be_lost(self, act: Callable[[], object]) -> None:
        try:
            act()
        except LostLease:
            return

    def user(self, person: Role) -> User:
        return self.house.people[person]

    def task(self, handed: Handed) -> Task:
        return Task.objects.select_related("project").get(pk=handed.task_id)

    def tasks(self) -> list[Task]:
        return list(Task.objects.select_related("project", "consensus").order_by("pk"))

    def current(self, task_id: int, person: Role) -> Annotation | None:
        return Annotation.objects.filter(task_id=task_id, author=self.user(person), is_current=True).first()

    def last_revision(self, task_id: int, person: Role) -> int:
        own = Annotation.objects.filter(task_id=task_id, author=self.user(person)).order_by("-revision")
        return own.values_list("revision", flat=True).first() or 0

    def held_to_answer(self) -> set[tuple[int, int]]:
        """Tasks and those who hold them; who holds one to correct an answer takes no slot."""
        answered = Annotation.objects.filter(is_current=True).values_list("task_id", "author_id")
        return set(Lease.objects.values_list("task_id", "user_id")) - set(answered)

    def people_in(self, task: Task) -> int:
        holders = set(Lease.objects.filter(task=task).values_list("user_id", flat=True))
        authors = set(
            Annotation.objects.filter(task=task, is_current=True).values_list("author_id", flat=True)
        )
        return len(holders | authors)

    def pick_handed(self, which: int) -> Handed:
        """A lease that somebody holds, and now and then one that is over."""
        held = set(Lease.objects.values_list("task_id", "token", "user_id"))
        live = [item for item in self.handed if (item.task_id, item.token, self.user(item.person).pk) in held]
        picked: Handed = self.pick(live if live and which % 4 else self.handed, which // 4)
        return picked

    @staticmethod
    def pick(items: list[Any], which: int) -> Any:
        return items[which % len(items)]


@pytest.mark.django_db
def test_the_queue_keeps_its_rules_whatever_people_do(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "TOP", 1)  # else nobody would ever look below the top
    house.project.gold_share = 0.5
    house.project.save()
    Queue.house = house
    for _ in range(TASKS):
        house.add_picture()
    for _ in range(GOLD):
        consensus.set_answer(
            task=house.add_picture(),
            shapes=(),
            source=ConsensusSource.EXPERT,
            actor=house.people[Role.OWNER],
            as_gold=True,
        )
    run_state_machine_as_test(
        Queue,
        settings=settings(
            max_examples=30,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
