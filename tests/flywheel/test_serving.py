"""The serving API: who may ask, what is refused, and that it answers what batch prediction would."""

from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test.client import MULTIPART_CONTENT, Client
from django.utils import timezone

from flywheel.models import ModelVersion
from flywheel.services import model_files, prediction, promotion
from flywheel.serving import views
from flywheel.serving.predictors import Predictors
from labeling.models import Project
from labeling.services import accounts
from ml.data import open_picture
from ml.predict import Predictor
from tests.flywheel.conftest import TINY_TRAINING, Workers


@pytest.fixture(autouse=True)
def _serving(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.ROOT_URLCONF = "flywheel.serving.urls"
    settings.MIDDLEWARE = []
    monkeypatch.setattr(views, "predictors", Predictors())


@pytest.fixture
def picture(drawn: Path) -> bytes:
    return sorted((drawn / "test").iterdir())[0].read_bytes()


def token_of(username: str) -> str:
    return accounts.make_token(user=User.objects.get(username=username), name="test")[1]


def post(project: Project, data: Any, *, token: str = "", query: str = "", **options: Any) -> Any:
    headers = {"Authorization": f"Token {token or token_of('owner')}"}
    options.setdefault("content_type", "application/octet-stream")
    return Client().post(f"/v1/{project.pk}/predict{query}", data, headers=headers, **options)


def trained(project: Project, workers: Workers) -> ModelVersion:
    workers.turn()
    model = ModelVersion.objects.get(project=project)
    promotion.promote(model=model, actor=None, now=timezone.now())
    return model


def test_it_answers_what_batch_prediction_would(project: Project, workers: Workers, picture: bytes) -> None:
    project.round_settings["training"] = TINY_TRAINING | {"steps": 60}  # enough to see something
    project.save()
    model = trained(project, workers)
    answer = post(project, picture, query="?threshold=0")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["model"], body["snapshot"]) == (model.name, model.run.snapshot.version)
    (seen,) = Predictor.load(model_files.unpack(model=model)).predict([open_picture(picture)])
    evaluation = model.evaluations.get()
    expected = prediction.calibrated(seen, evaluation.metrics["calibration"])
    assert len(body["objects"]) == len(expected) > 0
    for told, detection in zip(body["objects"], expected, strict=True):
        assert told["class_id"] == detection.class_id
        assert told["xyxy"] == pytest.approx(detection.xyxy, abs=1e-3)
        assert told["score"] == pytest.approx(detection.score, abs=1e-6)
    form = post(
        project,
        {"image": SimpleUploadedFile("a.jpg", picture)},
        query="?threshold=0",
        content_type=MULTIPART_CONTENT,
    )
    assert form.json()["objects"] == body["objects"]


def test_before_there_is_a_champion_it_says_so(project: Project, picture: bytes) -> None:
    answer = post(project, picture)
    assert (answer.status_code, answer.json()["code"]) == (409, "no_champion")


def test_only_members_with_a_token_are_answered(project: Project, picture: bytes) -> None:
    User.objects.create_user("stranger", password="correct horse")
    assert post(project, picture, token="lw_unknown").status_code == 401
    assert post(project, picture, token=token_of("stranger")).status_code == 404
    assert Client().post(f"/v1/{project.pk}/predict", picture, content_type="image/jpeg").status_code == 401
    old = token_of("owner")
    owner = User.objects.get(username="owner")
    owner.set_password("another horse")
    owner.save()
    assert post(project, picture, token=old).status_code == 401


def test_bad_input_is_refused_with_the_field(project: Project, workers: Workers, picture: bytes) -> None:
    trained(project, workers)
    for data, query, status, code, param in (
        (b"", "", 400, "no_picture", None),
        (b"no picture", "", 400, "bad_picture", "image"),
        (picture[:200], "", 400, "bad_picture", "image"),
        (picture, "?threshold=2", 400, "invalid", "threshold"),
        (picture, "?threshold=nan", 400, "invalid", "threshold"),
        (b"x" * (views.MAX_BYTES + 1), "", 413, "too_large", None),
    ):
        answer = post(project, data, query=query)
        assert (answer.status_code, answer.json()["code"], answer.json()["param"]) == (status, code, param)


def test_a_promotion_is_served_at_the_next_request(
    project: Project, workers: Workers, picture: bytes
) -> None:
    first = trained(project, workers)
    assert post(project, picture).json()["model"] == first.name
    Project.objects.filter(pk=project.pk).update(
        round_settings={"target_new_labels": 1, "training": {"steps": 2, "side": 96, "batch": 4}}
    )
    workers.messages.append(("flywheel.tasks.tick", [], "default"))
    workers.run()
    from_now = ModelVersion.objects.filter(project=project).latest("number")
    promotion.promote(model=from_now, actor=None, now=timezone.now())
    assert post(project, picture).json()["model"] == from_now.name
