"""What is known of annotators: learnt in a job that can be killed, repeated and undone."""

from datetime import timedelta

import pytest
from django.db import transaction

from labeling import consensus as methods
from labeling import tasks as _handlers  # noqa: F401  (registers what does a job)
from labeling.models import (
    Consensus,
    ConsensusFit,
    ConsensusSource,
    Event,
    Job,
    JobState,
    Project,
    Role,
    Skill,
    Task,
)
from labeling.services import clock, consensus, jobs, refits, schedule
from labeling.shapes import Box
from tests.conftest import House, make_house
from tests.labeling.scripted import Scripted
from tests.labeling.test_overlap import LEFT, RIGHT, hand_in, predict

pytestmark = pytest.mark.django_db


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    method = Scripted()
    monkeypatch.setitem(methods.METHODS, method.name, method)
    return method


@pytest.fixture
def settled(db: None, sent: object, scripted: Scripted) -> House:
    """Seven settled pictures, with one object each that two people drew."""
    house = make_house(consensus_method="scripted")
    for _ in range(7):
        answer(house, house.add_picture())
    return house


def answer(house: House, task: Task, *shapes: Box) -> Task:
    for role in (Role.ANNOTATOR, Role.MANAGER):
        task = hand_in(task, house.people[role], *(shapes or (LEFT,)))
    return task


def project() -> Project:
    return Project.objects.select_related("consensus_fit").get()


def in_force() -> ConsensusFit:
    fit = project().consensus_fit
    assert fit is not None
    return fit


def done(job: Job) -> Job:
    jobs.run(job.pk)
    job.refresh_from_db()
    assert job.state == JobState.DONE, job.error
    return job


def by_hand(house: House) -> Job:
    return refits.start(project=project(), actor=house.people[Role.MANAGER])


def risks() -> set[float | None]:
    return set(Task.objects.exclude(consensus=None).values_list("risk", flat=True))


# --- learning ------------------------------------------------------------------------------------------------------


def test_a_refit_is_a_row_that_is_put_in_force_and_settles_everything_with_it(
    settled: House, scripted: Scripted
) -> None:
    scripted.doubt = 0.5
    job = done(by_hand(settled))

    fit = in_force()
    assert job.result == {"tasks": 7, "annotators": 2, "fit": 1}
    assert (fit.number, fit.method, fit.tasks, fit.answers) == (1, "scripted", 7, 14)
    assert fit.created_by == settled.people[Role.MANAGER]
    assert risks() == {0.5}
    event = Event.objects.get(verb="put_in_force")
    assert (event.data, event.actor) == ({"number": 1}, settled.people[Role.MANAGER])


def test_the_same_answers_make_the_same_fit_and_no_other_row(settled: House) -> None:
    done(by_hand(settled))
    first = in_force()
    before = list(Task.objects.order_by("pk").values())

    done(by_hand(settled))

    assert in_force() == first
    assert ConsensusFit.objects.count() == 1
    assert list(Task.objects.order_by("pk").values()) == before
    again = refits.learn(project=project())
    assert again is not None
    assert again.digest == first.digest


def test_answers_that_came_in_another_order_make_the_same_fit(house: House) -> None:
    digests = []
    for step in (1, -1):
        with transaction.atomic():
            tasks = [house.add_picture(pk=number) for number in (901, 902, 903)]
            for task in tasks[::step]:
                for role in (Role.ANNOTATOR, Role.MANAGER)[::step]:
                    hand_in(task, house.people[role], LEFT, *((RIGHT,) if role == Role.MANAGER else ()))
            fit = refits.learn(project=house.project)
            assert fit is not None
            digests.append((fit.digest, fit.agreement))
            transaction.set_rollback(True)

    assert digests[0] == digests[1]


def test_experts_answers_are_what_a_fit_is_measured_by(settled: House, scripted: Scripted) -> None:
    task = Task.objects.order_by("pk")[2]
    consensus.set_answer(
        task=task, shapes=(RIGHT,), source=ConsensusSource.EXPERT, actor=settled.people[Role.OWNER]
    )

    fit = refits.learn(project=project())

    assert fit is not None
    assert (fit.tasks, fit.gold) == (7, 1)
    assert scripted.gold == {str(task.pk): (RIGHT,)}


def test_of_many_tasks_a_part_is_learnt_from_always_the_same_and_experts_first(
    settled: House, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refits, "MOST_TASKS", 3)
    last = Task.objects.order_by("-pk")[0]
    consensus.set_answer(
        task=last, shapes=(RIGHT,), source=ConsensusSource.EXPERT, actor=settled.people[Role.OWNER]
    )

    refits.learn(project=project())
    first = {item.image for item in scripted.seen}
    refits.learn(project=project())

    assert {item.image for item in scripted.seen} == first
    assert len(first) == 3
    assert str(last.pk) in first
    for _ in range(2):
        answer(settled, settled.add_picture())
    refits.learn(project=project())
    assert len(first & {item.image for item in scripted.seen}) >= 1, "new tasks take the places of few"


def test_a_fit_learns_what_people_were_shown_how_long_they_took_and_what_the_model_saw(
    settled: House, scripted: Scripted
) -> None:
    Project.objects.update(model_counts=True, suggestions_from="v1", suggestion_threshold=0.5)
    task = settled.add_picture()
    predict(task, LEFT)
    hand_in(task, settled.people[Role.ANNOTATOR], LEFT, saw="v1")
    hand_in(task, settled.people[Role.MANAGER], LEFT)

    refits.learn(project=project())

    people = [item for item in scripted.seen if item.image == str(task.pk)]
    told = [(item.annotator, item.by_model, item.saw, item.seconds) for item in people]
    annotator, manager = (str(settled.people[role].pk) for role in (Role.ANNOTATOR, Role.MANAGER))
    assert sorted(told) == sorted(
        [(annotator, False, "model:v1", 2.0), (manager, False, "", 2.0), ("model:v1", True, "", None)]
    )


def test_skills_belong_to_the_fit_that_found_them(settled: House, scripted: Scripted) -> None:
    annotator, manager = (settled.people[role] for role in (Role.ANNOTATOR, Role.MANAGER))
    scripted.known = {str(annotator.pk): 0.9, str(manager.pk): 0.6}
    done(by_hand(settled))
    answer(settled, settled.add_picture())
    scripted.known = {str(annotator.pk): 0.4, str(manager.pk): 0.6}
    done(by_hand(settled))

    found = Skill.objects.filter(user=annotator).order_by("fit__number").values_list("fit__number", "recall")
    assert list(found) == [(1, 0.9), (2, 0.4)]
    better = Skill.objects.filter(preferred=True).order_by("fit__number").values_list("fit__number", "user")
    assert list(better) == [(1, annotator.pk), (2, manager.pk)]
    skill = Skill.objects.filter(user=annotator).order_by("fit__number")[0]
    assert (skill.seconds_per_image, skill.details["bias"]) == (2.5, [0.0, 0.0, 0.01, 0.0])
    assert skill.details["confusion"] == {"1": {"1": 1.0}}


def test_a_model_has_a_skill_too_and_no_account(settled: House) -> None:
    Project.objects.update(model_counts=True, suggestions_from="v1")
    for _ in range(2):
        task = settled.add_picture()
        predict(task, LEFT)
        answer(settled, task)

    refits.learn(project=project())

    skill = Skill.objects.get(user=None)
    assert (skill.model, skill.kind, skill.preferred) == ("v1", "box", False)


def test_a_fit_says_how_well_people_agree(settled: House) -> None:
    task = settled.add_picture()
    hand_in(task, settled.people[Role.ANNOTATOR], LEFT)
    hand_in(task, settled.people[Role.MANAGER], RIGHT)

    fit = refits.learn(project=project())

    assert fit is not None
    (pair,) = fit.agreement["pairs"]
    assert (fit.agreement["images"], pair["images"], pair["f1"]) == (8, 8, 0.875)
    assert fit.agreement["by_class"][0]["class_id"] == 1


def test_old_fits_are_forgotten_but_for_the_one_in_force(
    settled: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refits, "KEPT", 2)
    done(by_hand(settled))
    for _ in range(4):
        answer(settled, settled.add_picture())
        refits.learn(project=project())

    assert list(ConsensusFit.objects.order_by("number").values_list("number", flat=True)) == [1, 4, 5]
    assert in_force().number == 1


# --- the job -------------------------------------------------------------------------------------------------------


def test_a_refit_whose_worker_dies_goes_on_with_the_same_fit_where_it_was(
    settled: House, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refits, "CHUNK", 2)
    scripted.doubt = 0.5
    job = by_hand(settled)
    really, seen = consensus.settle, []

    def dies_at_the_fifth(*, task_id: int) -> Consensus | None:
        seen.append(task_id)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return really(task_id=task_id)

    monkeypatch.setattr(consensus, "settle", dies_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        jobs.run(job.pk)
    job.refresh_from_db()
    assert job.checkpoint["tasks"] == 4
    assert 0.5 < job.progress < 1
    answer(settled, settled.add_picture())  # another fit, if it were learnt again
    Job.objects.filter(pk=job.pk).update(lease_expires_at=clock.now() - timedelta(seconds=1))

    done(job)

    assert seen[5:7] == [seen[4], seen[4] + 1], "goes on behind the last checkpoint"
    assert job.result["fit"] == 1
    assert ConsensusFit.objects.count() == 1
    assert risks() == {0.5}


def test_a_refit_can_be_cancelled_and_says_how_far_it_came(
    settled: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refits, "CHUNK", 2)
    job = by_hand(settled)
    really = consensus.settle

    def cancels(*, task_id: int) -> Consensus | None:
        Job.objects.filter(pk=job.pk).update(cancel_requested=True)
        return really(task_id=task_id)

    monkeypatch.setattr(consensus, "settle", cancels)
    jobs.run(job.pk)

    job.refresh_from_db()
    assert job.state == JobState.CANCELLED
    assert "2 of 7 pictures" in job.error


def test_asking_twice_makes_one_job_and_after_it_another(settled: House) -> None:
    first = by_hand(settled)
    assert by_hand(settled) == first
    done(first)

    assert by_hand(settled) != first


# --- undoing -------------------------------------------------------------------------------------------------------


def test_an_earlier_fit_put_in_force_again_gives_what_it_gave_before(
    settled: House, scripted: Scripted
) -> None:
    done(by_hand(settled))
    first, before = in_force(), consensus_contents()
    answer(settled, settled.add_picture())
    scripted.doubt = 0.5
    done(by_hand(settled))
    assert risks() == {0.5}

    job = done(refits.start_with(fit=first, actor=settled.people[Role.MANAGER]))

    assert in_force() == first
    assert risks() == {0.0}
    assert {key: value for key, value in consensus_contents().items() if key in before} == before
    assert jobs.title(job) == "Go back to what fit 1 knew of the annotators"
    assert ConsensusFit.objects.count() == 2


def consensus_contents() -> dict[int, object]:
    tasks = Task.objects.exclude(consensus=None).select_related("consensus")
    return {
        task.pk: (task.consensus.shapes, task.consensus.rejected, task.consensus.risk, task.consensus.digest)
        for task in tasks
        if task.consensus is not None
    }


def test_after_going_back_only_a_person_s_refit_learns_again(
    settled: House, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(by_hand(settled))
    first = in_force()
    answer(settled, settled.add_picture())
    done(by_hand(settled))
    assert in_force().number == 2
    done(refits.start_with(fit=first, actor=settled.people[Role.MANAGER]))
    answer(settled, settled.add_picture())

    assert list(schedule.TABLE[0].due(set())) == []
    assert refits.refit(project=project())["fit"] == 1
    assert in_force() == first

    done(by_hand(settled))
    assert in_force().number == 3
    answer(settled, settled.add_picture())
    assert [found for found, _ in schedule.TABLE[0].due(set())] == [settled.project]


def test_a_fit_that_is_forgotten_meanwhile_cannot_be_put_in_force(settled: House) -> None:
    done(by_hand(settled))
    first = in_force()
    answer(settled, settled.add_picture())
    done(by_hand(settled))
    job = refits.start_with(fit=first, actor=settled.people[Role.MANAGER])
    first.delete()

    jobs.run(job.pk)

    job.refresh_from_db()
    assert job.state == JobState.FAILED
    assert "not kept" in job.error
    assert in_force().number == 2


def test_what_another_method_learnt_is_not_used_and_learnt_anew_within_the_hour(settled: House) -> None:
    done(by_hand(settled))
    Project.objects.update(consensus_method="majority")
    task = answer(settled, settled.add_picture())

    assert task.consensus is not None
    assert task.consensus.method == "majority"
    assert [found for found, _ in schedule.TABLE[0].due(set())] == [settled.project]
