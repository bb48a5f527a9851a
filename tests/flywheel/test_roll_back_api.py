"""The way back, as it is asked for: once is once, however often somebody clicks."""

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from flywheel.models import ModelStatus, ModelVersion, Snapshot, TrainingRun
from flywheel.services import promotion
from labeling.models import Role
from tests.conftest import House


@pytest.fixture
def champions(house: House, sent: list[tuple[str, list[int], str]]) -> list[ModelVersion]:
    """Three models, each promoted after the one before."""
    snapshot = Snapshot.objects.create(
        project=house.project,
        version="a" * 64,
        labels_sha256="b" * 64,
        images=1,
        gold_images=0,
        objects_count=1,
    )
    made = []
    for number in (1, 2, 3):
        run = TrainingRun.objects.create(
            project=house.project, snapshot=snapshot, key=str(number), config={}, code_version="0"
        )
        model = ModelVersion.objects.create(
            project=house.project, number=number, run=run, weights_sha256="c" * 64, card={}
        )
        promotion.promote(model=model, actor=None, now=timezone.now())
        made.append(model)
    return made


def ask(house: House, role: Role, champion: int) -> tuple[int, dict[str, object]]:
    client = APIClient()
    client.force_authenticate(house.people[role])
    answer = client.post(
        f"/api/v1/projects/{house.project.pk}/roll-back", {"champion": champion}, format="json"
    )
    return answer.status_code, answer.json()


def test_a_second_click_goes_back_no_further(house: House, champions: list[ModelVersion]) -> None:
    first, second, third = champions
    status, model = ask(house, Role.MANAGER, third.pk)
    assert (status, model["id"]) == (200, second.pk)
    status, refusal = ask(house, Role.MANAGER, third.pk)
    assert (status, refusal["code"], refusal["param"]) == (409, "champion_changed", "champion")
    assert second.name in str(refusal["message"])
    assert ModelVersion.objects.get(status=ModelStatus.CHAMPION) == second
    assert ask(house, Role.MANAGER, second.pk)[1]["id"] == first.pk


def test_what_was_rolled_back_is_no_way_back(house: House, champions: list[ModelVersion]) -> None:
    first, second, third = champions
    ask(house, Role.MANAGER, third.pk)
    ask(house, Role.MANAGER, second.pk)
    status, refusal = ask(house, Role.MANAGER, first.pk)
    assert (status, refusal["code"]) == (409, "no_earlier_champion")


def test_only_a_manager_goes_back(house: House, champions: list[ModelVersion]) -> None:
    status, _ = ask(house, Role.REVIEWER, champions[-1].pk)
    assert status == 403
    assert ModelVersion.objects.get(status=ModelStatus.CHAMPION) == champions[-1]
