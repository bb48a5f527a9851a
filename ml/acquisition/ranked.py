"""modAL's ranked batch mode (Cardoso et al. 2017), called through modAL itself.

modAL 0.4.2.1, its last release, calls scikit-learn's checks with `force_all_finite`, which scikit-learn 1.6
renamed to `ensure_all_finite` and 1.8 took away. `mend_modal` translates; a test says when that is no longer
needed.
"""

from types import SimpleNamespace
from typing import Any

import modAL.models.learners
import numpy as np
from modAL.batch import ranked_batch as modal_ranked_batch
from numpy.typing import NDArray
from sklearn.utils import check_X_y

from ml.acquisition.base import Floats, Pick, Pool


def mend_modal() -> None:
    """Makes modAL's learners work with scikit-learn ≥ 1.6; may be called again."""
    modAL.models.learners.check_X_y = _check


def active_learner(estimator: Any, features: Floats, answers: NDArray[Any]) -> Any:
    """A mended `modAL.models.ActiveLearner` fitted to [L, D] features and [L] answers."""
    mend_modal()
    return modAL.models.ActiveLearner(estimator, X_training=features, y_training=answers)


def ranked_batch(pool: Pool, count: int, random: np.random.Generator) -> list[Pick]:
    """The best mean of unlikeness and uncertainty, the former counting more while little is labelled.

    Scores are divided by the highest, as modAL weighs them against similarities in [0, 1]. Nothing is drawn,
    so `random` is not used. Each pick looks at all candidates × labelled: for pools up to some ten thousands.
    """
    del random
    count = min(count, len(pool))
    if count == 0:
        return []
    scores = pool.known_scores
    highest = scores.max()
    shares = scores / highest if highest > 0 else scores
    labelled = pool.labelled if len(pool.labelled) else None
    learner = SimpleNamespace(X_training=labelled, on_transformed=False)
    indices, _ = modal_ranked_batch(learner, pool.embeddings, shares, count, "euclidean", None)
    return [Pick(int(index), float(scores[index]), "uncertain") for index in indices]


def _check(*arguments: Any, force_all_finite: bool = True, **options: Any) -> Any:
    return check_X_y(*arguments, ensure_all_finite=force_all_finite, **options)
