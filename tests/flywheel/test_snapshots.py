import pytest
from django.conf import LazySettings

from flywheel.services import snapshots
from labeling.models import ConsensusSource, Project, Task, TaskState
from labeling.services import consensus
from labeling.shapes import Box


def test_freezing_twice_gives_the_same_snapshot(project: Project) -> None:
    assert snapshots.freeze(project=project) == snapshots.freeze(project=project)


def test_a_changed_answer_makes_another_version(project: Project) -> None:
    before = snapshots.freeze(project=project)
    task = project.tasks.filter(is_gold=False, state=TaskState.SETTLED).first()
    assert task is not None
    owner = project.memberships.get(role="owner").user
    consensus.set_answer(
        task=task, shapes=(Box("b", 1, (1.0, 2.0, 30.0, 40.0)),), source=ConsensusSource.IMPORTED, actor=owner
    )
    assert snapshots.freeze(project=project).version != before.version


def test_an_unpacked_snapshot_holds_what_was_settled(project: Project, settings: LazySettings) -> None:
    snapshot = snapshots.freeze(project=project)
    opened = snapshots.unpack(snapshot=snapshot, folder=settings.WORK_DIRECTORY / "here")
    assert opened.version == snapshot.version
    for example in opened.examples:
        task = Task.objects.get(project=project, image__sha256=example.sha256)
        assert task.consensus is not None
        assert len(example.objects) == len(task.consensus.parsed)
        assert (example.split == "gold") == task.is_gold
        assert opened.image_path(example).stat().st_size == task.image.size_bytes


def test_splits_never_move_between_versions(project: Project, settings: LazySettings) -> None:
    def splits() -> dict[str, str]:
        snapshot = snapshots.freeze(project=project)
        opened = snapshots.unpack(snapshot=snapshot, folder=settings.WORK_DIRECTORY / snapshot.version)
        return {example.sha256: example.split for example in opened.examples}

    before = splits()
    task = project.tasks.filter(state=TaskState.QUEUED).first()
    assert task is not None
    owner = project.memberships.get(role="owner").user
    consensus.set_answer(
        task=task, shapes=(Box("b", 1, (1.0, 2.0, 30.0, 40.0)),), source=ConsensusSource.IMPORTED, actor=owner
    )
    after = splits()
    assert len(after) == len(before) + 1
    assert all(after[sha256] == split for sha256, split in before.items())


def test_nothing_settled_is_nothing_to_learn(project: Project) -> None:
    project.tasks.filter(is_gold=False).update(state=TaskState.QUEUED, consensus=None)
    with pytest.raises(snapshots.NothingToLearn):
        snapshots.freeze(project=project)


def test_what_an_expert_corrected_trains_and_only_gold_measures(
    project: Project, settings: LazySettings
) -> None:
    owner = project.memberships.get(role="owner").user
    reviewed = list(project.tasks.filter(is_gold=False, state=TaskState.SETTLED))
    for task in reviewed:
        assert task.consensus is not None
        consensus.set_answer(
            task=task, shapes=task.consensus.parsed, source=ConsensusSource.EXPERT, actor=owner
        )
    snapshot = snapshots.freeze(project=project)
    opened = snapshots.unpack(snapshot=snapshot, folder=settings.WORK_DIRECTORY / "here")
    training = {example.sha256 for example in opened.examples if example.split != "gold"}
    assert training == {task.image.sha256 for task in reviewed}
