"""Migrations that carry data, there and back again."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from labeling.models import ConsensusFit, Project, Role, Skill, Tally
from labeling.services import refits
from tests.conftest import House, make_house
from tests.labeling.test_overlap import LEFT, hand_in

pytestmark = pytest.mark.django_db(transaction=True)

BEFORE = "0004_reason_told_with_a_lease"


@pytest.fixture
def _up_to_date_afterwards() -> Iterator[None]:
    yield
    call_command("migrate", verbosity=0)


def tables(state: str) -> Any:
    return MigrationExecutor(connection).loader.project_state([("labeling", state)]).apps


@pytest.mark.usefixtures("_up_to_date_afterwards", "sent")
def test_what_was_learnt_survives_the_way_back_and_becomes_the_first_fit_again() -> None:
    house: House = make_house()
    for _ in range(2):
        task = house.add_picture()
        for role in (Role.ANNOTATOR, Role.MANAGER):
            hand_in(task, house.people[role], LEFT)
        refits.refit(project=Project.objects.get())
    assert ConsensusFit.objects.count() == 2
    fit = Project.objects.select_related("consensus_fit").get().consensus_fit
    assert fit is not None
    parameters, counts = fit.parameters, Tally.objects.count()
    skills = set(fit.skills.values_list("user", "kind", "recall"))

    call_command("migrate", "labeling", BEFORE, verbosity=0)
    old = tables(BEFORE)
    assert old.get_model("labeling", "Project").objects.get().consensus_parameters == parameters
    assert set(old.get_model("labeling", "Skill").objects.values_list("user", "kind", "recall")) == skills

    call_command("migrate", verbosity=0)
    again = Project.objects.select_related("consensus_fit").get()
    assert again.consensus_fit is not None
    assert (again.consensus_fit.number, again.consensus_fit.parameters) == (1, parameters)
    assert set(Skill.objects.values_list("user", "kind", "recall")) == skills
    assert (again.overlap, again.review_share, again.model_counts) == ("fixed", 0.0, False)
    assert Tally.objects.count() >= min(counts, 1), "the counts are kept again"
