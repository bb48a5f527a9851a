"""A project's round settings are its own business: what is wrong in them stops no other project."""

from typing import Any

import pytest
from django.utils import timezone

from flywheel.models import Snapshot
from flywheel.services import rounds, training
from labeling.models import Project
from tests.conftest import House


@pytest.mark.parametrize("target", ["many", -5, 0, 1.5, True, 2**40, [7], None])
def test_a_target_that_is_no_number_of_pictures_gives_way_to_the_usual_one(house: House, target: Any) -> None:
    house.add_picture()
    Project.objects.update(round_settings={"target_new_labels": target})
    rounds.tick(now=timezone.now())
    assert house.project.rounds.get().target_new_labels == rounds.MIN_NEW_LABELS


def test_a_target_that_can_be_one_is_taken(house: House) -> None:
    house.add_picture()
    Project.objects.update(round_settings={"target_new_labels": 7})
    rounds.tick(now=timezone.now())
    assert house.project.rounds.get().target_new_labels == 7


@pytest.mark.parametrize("wanted", [5, "fast", [1], None])
def test_training_settings_that_are_no_object_are_refused(house: House, wanted: Any) -> None:
    house.project.round_settings = {"training": wanted}
    snapshot = Snapshot(project=house.project, version="a" * 64, images=8)
    with pytest.raises(training.BadTrainingSettings, match="must be an object"):
        training.start(project=house.project, snapshot=snapshot)
