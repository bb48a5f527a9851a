from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from flywheel.models import Evaluation, ModelStatus, ModelVersion, Round, RoundStatus, Snapshot, TrainingRun
from flywheel.services import prediction, promotion, rounds
from labeling.models import Job, JobState, Prediction, Project, Reason, Task
from labeling.services import jobs
from tests.flywheel.conftest import Workers


def owner_of(project: Project) -> User:
    return project.memberships.get(role="owner").user


def test_a_round_goes_from_settled_labels_to_suggestions(project: Project, workers: Workers) -> None:
    workers.turn()
    first = Round.objects.get(project=project, number=1)
    assert first.status == RoundStatus.DONE, first.reason
    assert [step["status"] for step in first.history] == [
        "collecting", "snapshotting", "training", "evaluating", "deciding", "predicting", "selecting", "done",
    ]  # fmt: skip
    assert first.snapshot is not None
    assert (first.snapshot.images, first.snapshot.gold_images) == (8, 6)
    model = ModelVersion.objects.get(project=project)
    assert model.card["snapshot"] == first.snapshot.version
    evaluation = Evaluation.objects.get(model_version=model)
    assert evaluation.metrics["split"] == "gold"
    assert evaluation.metrics["pictures"] == 6
    assert Round.objects.get(project=project, number=2).status == RoundStatus.COLLECTING


def test_a_promoted_models_predictions_order_the_queue(
    project: Project, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "flywheel.services.promotion.decide",
        lambda **_: promotion.Decision(promote=True, reason="for this test"),
    )
    workers.turn()
    project.refresh_from_db()
    model = ModelVersion.objects.get(project=project)
    assert model.status == ModelStatus.CHAMPION
    assert project.suggestions_from == model.name
    assert Prediction.objects.filter(model=model.name, task__slots__gt=0).count() == 4
    assert len(prediction.embeddings_of(model)) == 12
    waiting = Task.objects.filter(project=project, slots__gt=0)
    assert {task.reason for task in waiting} <= {Reason.RANDOM, Reason.UNCERTAIN, Reason.DIVERSE}
    random_ones = waiting.filter(reason=Reason.RANDOM)
    assert random_ones.exists()
    assert all(task.random_probability for task in random_ones)


def test_a_rejected_challenger_leaves_no_suggestions(
    project: Project, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "flywheel.services.promotion.decide",
        lambda **_: promotion.Decision(promote=False, reason="it guesses"),
    )
    workers.turn()
    project.refresh_from_db()
    first = Round.objects.get(project=project, number=1)
    assert (first.status, first.decision, first.reason) == (RoundStatus.DONE, "rejected", "it guesses")
    assert project.suggestions_from == ""
    assert ModelVersion.objects.get(project=project).status == ModelStatus.REJECTED


def test_every_message_three_times_makes_one_of_each(project: Project, workers: Workers) -> None:
    for _ in range(12):
        workers.messages.append(("flywheel.tasks.tick", [], "default"))
        tripled = [message for message in workers.messages for _ in range(3)]
        workers.messages[:] = tripled
        workers.run(at_most=len(tripled))
    workers.run()
    assert Round.objects.get(project=project, number=1).status == RoundStatus.DONE
    for model in (Snapshot, TrainingRun, ModelVersion, Evaluation):
        assert model._default_manager.count() == 1
    assert Job.objects.filter(kind="train").get().attempts == 1


def test_lost_messages_are_sent_again_by_the_sweeper(project: Project, workers: Workers) -> None:
    rounds.tick(now=timezone.now())
    workers.messages.clear()
    later = timezone.now() + timedelta(minutes=5)
    assert jobs.sweep(now=later) == 1
    workers.run()
    assert Round.objects.get(project=project, number=1).status == RoundStatus.DONE


def test_a_round_waits_for_enough_labels_or_a_person(project: Project, workers: Workers) -> None:
    Project.objects.filter(pk=project.pk).update(round_settings={"target_new_labels": 9})
    workers.turn()
    waiting = Round.objects.get(project=project)
    assert (waiting.status, rounds.new_labels(waiting)) == (RoundStatus.COLLECTING, 8)
    rounds.start(project=project, actor=owner_of(project), now=timezone.now())
    rounds.tick(now=timezone.now())
    waiting.refresh_from_db()
    assert waiting.status == RoundStatus.SNAPSHOTTING


def test_a_step_is_taken_once_however_many_try(project: Project, workers: Workers) -> None:
    turn = rounds.open_next(project=project, now=timezone.now())
    assert rounds.open_next(project=project, now=timezone.now()) == turn
    seen = Round.objects.get(pk=turn.pk)
    assert rounds._move(seen, RoundStatus.SNAPSHOTTING, timezone.now())
    assert not rounds._move(seen, RoundStatus.SNAPSHOTTING, timezone.now())


def test_a_failed_training_fails_the_round_and_keeps_the_champion(project: Project, workers: Workers) -> None:
    Project.objects.filter(pk=project.pk).update(
        round_settings={"target_new_labels": 8, "training": {"architecture": "no-such-net"}}
    )
    workers.turn()
    workers.turn()
    first = Round.objects.get(project=project, number=1)
    assert first.status == RoundStatus.FAILED
    assert "no-such-net" in first.reason
    assert not ModelVersion.objects.exists()


def test_unknown_training_settings_fail_the_round_with_their_name(project: Project, workers: Workers) -> None:
    Project.objects.filter(pk=project.pk).update(
        round_settings={"target_new_labels": 8, "training": {"epochs": 7}}
    )
    workers.turn()
    first = Round.objects.get(project=project, number=1)
    assert first.status == RoundStatus.FAILED
    assert "training.epochs" in first.reason


def test_a_cancelled_round_cancels_its_job(project: Project, workers: Workers) -> None:
    rounds.tick(now=timezone.now())
    turn = Round.objects.select_related("job").get(project=project)
    rounds.cancel(turn=turn, actor=owner_of(project), now=timezone.now())
    turn.refresh_from_db()
    assert turn.status == RoundStatus.CANCELLED
    assert turn.job is not None
    assert turn.job.state == JobState.CANCELLED


def test_a_training_that_was_cancelled_runs_when_a_round_is_started_again(
    project: Project, workers: Workers
) -> None:
    rounds.tick(now=timezone.now())
    workers.run(at_most=2)  # freezes, and asks for the training
    first = Round.objects.get(project=project, number=1)
    assert first.status == RoundStatus.TRAINING
    rounds.cancel(turn=first, actor=owner_of(project), now=timezone.now())
    assert Job.objects.get(kind="train").state == JobState.CANCELLED
    workers.messages.clear()
    rounds.start(project=project, actor=owner_of(project), now=timezone.now())
    workers.turn()
    second = Round.objects.get(project=project, number=2)
    assert second.status == RoundStatus.DONE, second.reason
    assert TrainingRun.objects.count() == 1


def test_a_round_that_failed_is_not_begun_again_with_the_same_labels(
    project: Project, workers: Workers
) -> None:
    project.tasks.filter(is_gold=False).update(consensus=None)  # nothing to learn from
    for _ in range(4):
        workers.turn()
    assert list(project.rounds.order_by("number").values_list("status", flat=True)) == [
        RoundStatus.FAILED,
        RoundStatus.COLLECTING,
    ]


def test_without_gold_or_enough_pictures_it_says_so_before_training(
    project: Project, workers: Workers
) -> None:
    project.tasks.filter(is_gold=True).delete()
    kept = project.tasks.filter(state="settled").order_by("id")[:1]
    project.tasks.exclude(pk__in=[task.pk for task in kept]).delete()
    rounds.start(project=project, actor=owner_of(project), now=timezone.now())
    workers.turn()
    first = Round.objects.get(project=project, number=1)
    assert first.status == RoundStatus.FAILED
    assert "nothing to measure a model on" in first.reason
    assert not Job.objects.filter(kind="train").exists()


def test_one_projects_trouble_does_not_stop_anothers_wheel(
    project: Project, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Project.objects.create(name="Trouble")
    broken = rounds.open_next(project=other, now=timezone.now())
    Round.objects.filter(pk=broken.pk).update(start_requested=True)

    def fail(turn: Round) -> int:
        if turn.project_id == other.pk:
            raise ValueError("a surprise")
        return 8

    monkeypatch.setattr(rounds, "new_labels", fail)
    rounds.tick(now=timezone.now())
    assert Round.objects.get(project=project).status == RoundStatus.SNAPSHOTTING


@pytest.mark.parametrize("wrong", [{"metric": ["ap"]}, {"metric": "f1"}, {"strategy": "entropy"}])
def test_a_setting_that_nothing_knows_fails_the_round_before_any_work(
    project: Project, workers: Workers, wrong: dict[str, object]
) -> None:
    Project.objects.filter(pk=project.pk).update(round_settings={"target_new_labels": 8} | wrong)
    workers.turn()
    first = Round.objects.get(project=project, number=1)
    assert first.status == RoundStatus.FAILED
    assert f"round_settings.{next(iter(wrong))}" in first.reason
    assert not Job.objects.exists()


def test_a_champion_crowned_while_a_challenger_is_measured_is_what_it_is_measured_against(
    project: Project, workers: Workers
) -> None:
    rounds.tick(now=timezone.now())
    while Round.objects.get(project=project, number=1).status != RoundStatus.DECIDING and workers.messages:
        if Round.objects.get(project=project, number=1).status == RoundStatus.EVALUATING:
            break
        workers.run(at_most=1)
    model = ModelVersion.objects.get(project=project)
    other_run = TrainingRun.objects.create(
        project=project, snapshot=model.run.snapshot, key="by hand", config={}, code_version="0"
    )
    by_hand = ModelVersion.objects.create(
        project=project, number=2, run=other_run, weights_sha256=model.weights_sha256, card=model.card
    )
    promotion.promote(model=by_hand, actor=None, now=timezone.now())
    workers.run()
    workers.turn()
    first = Round.objects.get(project=project, number=1)
    assert first.metrics["champion_id"] == by_hand.pk
    assert "against the champion's" in first.reason or "no better than" in first.reason


def test_begun_pictures_come_before_those_that_selection_wants(
    project: Project, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "flywheel.services.promotion.decide",
        lambda **_: promotion.Decision(promote=True, reason="for this test"),
    )
    begun = project.tasks.filter(slots__gt=0).order_by("-id")[0]
    project.tasks.filter(pk=begun.pk).update(answers=1, slots=1)
    workers.turn()
    waiting = project.tasks.filter(slots__gt=0).order_by("-priority")
    assert waiting[0] == begun
    assert waiting[1].priority > 0


def test_suggestions_change_only_when_the_new_ones_are_there(
    project: Project, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "flywheel.services.promotion.decide",
        lambda **_: promotion.Decision(promote=True, reason="for this test"),
    )
    Project.objects.filter(pk=project.pk).update(suggestions_from="the-old-one")
    rounds.tick(now=timezone.now())
    while Round.objects.get(project=project, number=1).status != RoundStatus.PREDICTING:
        workers.run(at_most=1)
    project.refresh_from_db()
    assert project.suggestions_from == "the-old-one"
    workers.run()
    project.refresh_from_db()
    assert project.suggestions_from == ModelVersion.objects.get(project=project).name
