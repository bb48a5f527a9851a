"""Which open pictures to label next: candidates to `ml.acquisition`, its choice back as priorities.

The random slice carries the probability with which it was drawn: only it and gold tell unbiased figures.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from flywheel import selectors
from flywheel.models import ModelVersion, Round
from flywheel.services import prediction
from labeling.models import Prediction, Project, Reason, Task, TaskState
from labeling.services import predictions
from ml.acquisition import STRATEGIES, Pool, Strategy
from ml.acquisition.uncertainty import class_weights

REASONS: Final = {
    "random": Reason.RANDOM,
    "uncertain": Reason.UNCERTAIN,
    "diverse": Reason.DIVERSE,
}
DEFAULT_STRATEGY: Final = "default"


class UnknownStrategy(Exception):
    """The project's settings name a strategy that there is not."""


def strategy_of(project: Project) -> Strategy:
    """The strategy that the project's round settings name. Raises `UnknownStrategy`."""
    wanted: object = project.round_settings.get("strategy", DEFAULT_STRATEGY)
    if not isinstance(wanted, str) or wanted not in STRATEGIES:
        raise UnknownStrategy(f"round_settings.strategy must be one of {', '.join(STRATEGIES)}")
    return STRATEGIES[wanted]


def select(*, turn: Round, wanted: int) -> dict[str, int]:
    """Orders the queue for the next round, which wants so many; how many tasks were chosen for each reason.

    The same round chooses the same again: the seed is the round's number.
    """
    project = turn.project
    champion = selectors.champion(project)
    if champion is None:
        return {}
    embeddings = prediction.embeddings_of(champion)
    tasks = [task_id for task_id in _task_ids(project, settled=False) if task_id in embeddings]
    if not tasks:
        return {}
    labelled = [embeddings[task_id] for task_id in _task_ids(project, settled=True) if task_id in embeddings]
    pool = Pool(
        embeddings=np.stack([embeddings[task_id] for task_id in tasks]),
        labelled=np.stack(labelled) if labelled else np.zeros((0, prediction.EMBEDDING), dtype=np.float32),
        scores=_scores(champion, tasks),
    )
    picks = strategy_of(project)(pool, min(wanted, len(tasks)), np.random.default_rng(turn.number))
    priorities: list[predictions.Priority] = []
    counts: dict[str, int] = {}
    for place, pick in enumerate(picks):
        reason = REASONS[pick.reason]
        counts[reason] = counts.get(reason, 0) + 1
        priority = 1.0 - 0.5 * place / len(picks)  # the chosen stay above all others, in the strategy's order
        priorities.append(predictions.Priority(tasks[pick.index], priority, reason, pick.probability))
    predictions.prioritise(project=project, chosen=priorities)
    return counts


def wanted_classes(project: Project) -> dict[int, float]:
    """Class id → how much more of it is wanted, by the settled objects so far."""
    counts: dict[int, int] = {}
    settled = Task.objects.filter(project=project, state=TaskState.SETTLED, is_gold=False)
    for shapes in settled.values_list("consensus__shapes", flat=True).iterator(chunk_size=500):
        for shape in shapes or []:
            counts[shape["class_id"]] = counts.get(shape["class_id"], 0) + 1
    return class_weights(counts)


def _task_ids(project: Project, *, settled: bool) -> list[int]:
    tasks = Task.objects.filter(project=project, is_gold=False)
    tasks = tasks.filter(state=TaskState.SETTLED) if settled else tasks.filter(slots__gt=0, answers=0)
    return list(tasks.order_by("id").values_list("pk", flat=True))


def _scores(champion: ModelVersion, tasks: list[int]) -> NDArray[np.float64]:
    found = dict(
        Prediction.objects.filter(model=champion.name, task__project=champion.project).values_list(
            "task_id", "uncertainty"
        )
    )
    return np.array([found.get(task_id) or 0.0 for task_id in tasks], dtype=np.float64)
