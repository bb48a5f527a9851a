"""What the API tells of skills, agreement and fits, and of why a task is with the reviewers."""

from typing import Any

import pytest

from labeling import consensus as methods
from labeling import tasks as _handlers  # noqa: F401  (registers what does a job)
from labeling.models import Consensus, ConsensusFit, Job, Project, Role, Task
from labeling.services import exports, jobs, projects, refits
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
def learnt(db: None, sent: object, scripted: Scripted) -> House:
    """Two people agree on one picture and not on another, a model saw the first; a fit is in force."""
    house = make_house(consensus_method="scripted", model_counts=True, suggestions_from="v1")
    agreed, divided = house.add_picture(), house.add_picture()
    predict(agreed, LEFT)
    for task, second in ((agreed, LEFT), (divided, RIGHT)):
        hand_in(task, house.people[Role.ANNOTATOR], LEFT)
        hand_in(task, house.people[Role.REVIEWER], second)
    refits.refit(project=house.project)
    house.project.refresh_from_db()
    return house


def get(house: House, who: Role, path: str) -> Any:
    answer = house.client(who).get(f"/api/v1/projects/{house.project.pk}/{path}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def review_of(house: House, task: Task) -> Any:
    return house.client(Role.REVIEWER).get(f"/api/v1/tasks/{task.pk}/review").json()


def test_a_reviewer_sees_everybody_s_skill_with_its_interval_and_the_model_s(learnt: House) -> None:
    items = get(learnt, Role.REVIEWER, "skills")["items"]

    assert {item["username"] or item["model"] for item in items} == {"the annotator", "the reviewer", "v1"}
    found = next(item for item in items if item["username"] == "the annotator")
    assert found["recall_low"] <= found["recall"] <= found["recall_high"]
    assert (found["kind"], found["seconds_per_image"], found["bias"]) == ("box", 2.5, [0.0, 0.0, 0.01, 0.0])
    assert (found["confusion"], found["swap_rate"]) == ({"1": {"1": 1.0}}, None)


def test_an_annotator_sees_only_their_own_skill(learnt: House) -> None:
    items = get(learnt, Role.ANNOTATOR, "skills")["items"]

    assert [item["username"] for item in items] == ["the annotator"]


def test_agreement_names_people_and_classes(learnt: House) -> None:
    told = get(learnt, Role.REVIEWER, "agreement")

    assert (told["fit"], told["images"], told["left_out"]) == (1, 2, 1)
    (pair,) = told["pairs"]
    assert {pair["one"], pair["other"]} == {"the annotator", "the reviewer"}
    assert (pair["f1"], pair["images"]) == (0.5, 2)
    assert [item["class_name"] for item in told["by_class"]] == ["cell"]
    assert [item["kind"] for item in told["alpha"]] == ["box"]


def test_before_the_first_fit_there_is_nothing_to_tell(house: House) -> None:
    assert get(house, Role.REVIEWER, "skills")["items"] == []
    assert get(house, Role.REVIEWER, "agreement") == {
        "fit": None,
        "images": 0,
        "sampled": 0,
        "left_out": 0,
        "alpha": [],
        "by_class": [],
        "pairs": [],
    }


def test_a_manager_refits_sees_the_fits_and_goes_back(learnt: House, scripted: Scripted) -> None:
    manager = learnt.client(Role.MANAGER)
    scripted.doubt = 0.1

    asked = manager.post(f"/api/v1/projects/{learnt.project.pk}/fits").json()
    again = manager.post(f"/api/v1/projects/{learnt.project.pk}/fits").json()
    assert asked["id"] == again["id"]
    jobs.run(asked["id"])

    newest, first = get(learnt, Role.REVIEWER, "fits")["items"]
    assert [(item["number"], item["in_force"]) for item in (newest, first)] == [(2, True), (1, False)]
    assert (newest["answers"], newest["created_by"]) == (4, "the manager")
    back = manager.post(f"/api/v1/fits/{first['id']}/put-in-force")
    assert back.status_code == 202
    jobs.run(back.json()["id"])
    assert Job.objects.get(pk=back.json()["id"]).result["fit"] == 1
    assert [item["in_force"] for item in get(learnt, Role.REVIEWER, "fits")["items"]] == [False, True]
    assert ConsensusFit.objects.count() == 2


def test_a_review_tells_what_speaks_for_each_object_the_disputed_ones_first(learnt: House) -> None:
    task = learnt.add_picture(slots=2)
    hand_in(task, learnt.people[Role.ANNOTATOR], LEFT)
    hand_in(task, learnt.people[Role.REVIEWER], LEFT, RIGHT)

    evidence = review_of(learnt, task)["evidence"]

    disputed, sure = evidence["objects"]
    assert (disputed["disputed"], disputed["drawn_by"], disputed["seen_by"]) == (True, ["the reviewer"], 2)
    assert (disputed["confidence"], disputed["risk"], disputed["causes"]) == (0.5, 0.5, {"surplus": 0.5})
    assert (sure["disputed"], sure["drawn_by"], sure["accepted"]) == (
        False,
        ["the annotator", "the reviewer"],
        True,
    )
    assert evidence["causes"]["surplus"] == 0.5
    assert sure["classes"] == [{"class_id": 1, "share": 1.0}]


def test_a_review_names_the_model_among_those_who_saw_an_object(learnt: House) -> None:
    task = Task.objects.order_by("pk")[0]

    (found,) = review_of(learnt, task)["evidence"]["objects"]

    assert found["drawn_by"] == ["the annotator", "the reviewer", "the model v1"]


def test_a_review_says_what_comes_next_and_why(learnt: House) -> None:
    learnt.project = projects.change(
        project=learnt.project,
        changes={"overlap": "adaptive", "review_share": 0.0, "model_counts": False, "most_answers": 3},
        actor=learnt.people[Role.OWNER],
    )
    task = learnt.add_picture(slots=2)
    assert review_of(learnt, task)["next_step"]["why"] == "first_answers"
    hand_in(task, learnt.people[Role.ANNOTATOR], LEFT)
    hand_in(task, learnt.people[Role.REVIEWER], LEFT, RIGHT)
    asked_nobody = review_of(learnt, task)["next_step"]
    assert (asked_nobody["what"], asked_nobody["why"]) == ("reviewer", "nobody_free")

    projects.set_member(
        project=learnt.project,
        username=learnt.stranger.username,
        role=Role.ANNOTATOR,
        actor=learnt.people[Role.OWNER],
    )
    refits.refit(project=Project.objects.get())
    assert review_of(learnt, task)["next_step"] == {
        "what": "answer",
        "why": "risk",
        "answers": 2,
        "wanted": 3,
        "target_risk": 0.15,
    }
    hand_in(task, learnt.stranger, RIGHT)
    told = review_of(learnt, task)
    assert (told["next_step"]["why"], told["cause"]) == ("most_answers", "risk")


def test_settings_of_the_overlap_are_told_and_taken(house: House) -> None:
    manager = house.client(Role.MANAGER)
    path = f"/api/v1/projects/{house.project.pk}"

    told = manager.patch(path, {"overlap": "adaptive", "target_risk": 0.3, "most_answers": 7}, format="json")

    assert told.status_code == 200
    wanted = {
        "overlap": "adaptive",
        "target_risk": 0.3,
        "most_answers": 7,
        "trusted_from": 0.9,
        "model_counts": True,
        "review_share": 0.04,
        "consensus_method": "skill_weighted",
    }
    assert {name: told.json()[name] for name in wanted} == wanted
    for field, value in (
        ("overlap", "whim"),
        ("most_answers", 1),
        ("target_risk", -1),
        ("trusted_from", 2),
        ("consensus_method", "oracle"),
    ):
        refused = manager.patch(path, {field: value}, format="json")
        assert (refused.status_code, refused.json()["param"]) == (400, field)


def test_what_stands_beside_a_consensus_is_in_no_export(learnt: House) -> None:
    def exported() -> str:
        job = exports.start(project=learnt.project, format_name="jsonl", actor=learnt.people[Role.OWNER])
        jobs.run(job.pk)
        job.refresh_from_db()
        return str(job.result["sha256"])

    before = exported()
    assert Consensus.objects.exclude(evidence={}).exists()
    Consensus.objects.update(evidence={})

    assert exported() == before
