"""A model as an ONNX file: the job, its file, and the command. That the file is right, tests/ml tests."""

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

import flywheel.gpu.export
from flywheel.models import ModelStatus, ModelVersion, Snapshot, TrainingRun
from flywheel.services import model_exports
from labeling import storage
from labeling.models import Event, JobState, Project, Role
from ml.export import Exported, ExportRefused, Parity
from tests.flywheel.conftest import Workers


@pytest.fixture
def owner(project: Project) -> User:
    return project.memberships.get(role=Role.OWNER).user


@pytest.fixture
def model(project: Project) -> ModelVersion:
    snapshot = Snapshot.objects.create(
        project=project, version="5" * 64, labels_sha256="0" * 64, images=1, gold_images=0, objects_count=0
    )
    run = TrainingRun.objects.create(
        project=project, snapshot=snapshot, key="5" * 64, config={}, code_version="1"
    )
    weights = storage.put_blob(storage.store(), b"no weights")
    return ModelVersion.objects.create(
        project=project, number=3, run=run, weights_sha256=weights, card={"format": 1}
    )


def write_a_file(folder: Path, out: Path, on_progress: object) -> Exported:
    assert (folder / "card.json").exists()
    out.write_bytes(b"a network")
    return Exported(out, 9, Parity({"logits": 1e-5}, 12))


def test_the_file_of_a_model_is_downloaded_when_its_job_is_done(
    model: ModelVersion, owner: User, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flywheel.gpu.export, "export", write_a_file)
    client = Client()
    client.force_login(owner)
    asked = client.post(f"/api/v1/models/{model.pk}/onnx")
    assert asked.status_code == 202
    assert asked.json()["title"] == f"Export {model.name} as ONNX"
    workers.run()
    job = client.get(f"/api/v1/jobs/{asked.json()['id']}").json()
    assert job["state"] == JobState.DONE, job["error"]
    answer = client.get(f"/api/v1/jobs/{job['id']}/file")
    assert b"".join(answer) == b"a network"
    assert f"{model.name}.onnx" in answer["Content-Disposition"]
    assert Event.objects.filter(verb="export_model", actor=owner).count() == 1


def test_asked_for_twice_it_is_one_job(model: ModelVersion, owner: User) -> None:
    first = model_exports.start(model=model, actor=owner)
    assert model_exports.start(model=model, actor=owner) == first


def test_a_file_that_disagrees_is_no_result_and_can_be_asked_for_again(
    model: ModelVersion, owner: User, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disagree(*_: object, **__: object) -> Exported:
        raise ExportRefused("its boxes are up to 7 away")

    monkeypatch.setattr(flywheel.gpu.export, "export", disagree)
    job = model_exports.start(model=model, actor=owner)
    workers.run()
    job.refresh_from_db()
    assert job.state == JobState.FAILED
    assert "up to 7 away" in job.error
    assert "sha256" not in job.result

    monkeypatch.setattr(flywheel.gpu.export, "export", write_a_file)
    assert model_exports.start(model=model, actor=owner) == job
    workers.run()
    job.refresh_from_db()
    assert job.state == JobState.DONE


def test_the_command_says_why_there_is_no_file(model: ModelVersion, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="has no champion"):
        call_command("export_model", str(model.project_id), str(tmp_path / "m.onnx"))
    ModelVersion.objects.filter(pk=model.pk).update(status=ModelStatus.CHAMPION)
    with pytest.raises(CommandError, match=r"model\.safetensors"):
        call_command("export_model", str(model.project_id), str(tmp_path / "m.onnx"))
    assert not (tmp_path / "m.onnx").exists()
