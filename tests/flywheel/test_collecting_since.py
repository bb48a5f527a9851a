"""Which answers count as a round's."""

from datetime import timedelta

import pytest
from django.utils import timezone

from flywheel.models import Round, RoundStatus, Snapshot
from flywheel.services import rounds
from labeling.models import Job
from tests.conftest import House

pytestmark = pytest.mark.django_db


def since(turn: Round) -> str:
    return str(Job.objects.get(key=f"round:{turn.pk}:{RoundStatus.SNAPSHOTTING}").params["since"])


def freeze(house: House) -> Round:
    turn = rounds.start(project=house.project, actor=next(iter(house.people.values())), now=timezone.now())
    rounds.advance(round_id=turn.pk, now=timezone.now())
    rounds.advance(round_id=turn.pk, now=timezone.now())
    return turn


def test_the_first_round_counts_answers_from_before_the_tick_that_opened_it(house: House) -> None:
    assert since(freeze(house)) == house.project.created_at.isoformat()


def test_answers_given_while_a_model_trained_count_in_the_next_round(house: House) -> None:
    frozen_at = timezone.now() + timedelta(seconds=5)
    snapshot = Snapshot.objects.create(
        project=house.project,
        version="a" * 64,
        labels_sha256="b" * 64,
        images=4,
        gold_images=0,
        objects_count=4,
        created_at=frozen_at,
    )
    Round.objects.create(
        project=house.project,
        number=1,
        status=RoundStatus.DONE,
        target_new_labels=4,
        snapshot=snapshot,
        finished_at=frozen_at + timedelta(minutes=9),
    )
    assert since(freeze(house)) == frozen_at.isoformat()
