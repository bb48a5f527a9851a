"""Many people's answers, settled into one. Plain Python and numpy.

method = METHODS["skill_weighted"]
fitted = method.fit(every_answer_of_the_project)
settled = method.predict(answers_of_some_images, fitted.parameters)
"""

from labeling.consensus.agreement import agreement, total
from labeling.consensus.base import (
    ACCEPT_AT,
    Answer,
    Consensus,
    Fitted,
    Method,
    Parameters,
    Settled,
    SettledShape,
    Skill,
)
from labeling.consensus.methods import DEFAULT_METHOD, METHODS

__all__ = [
    "ACCEPT_AT",
    "DEFAULT_METHOD",
    "METHODS",
    "Answer",
    "Consensus",
    "Fitted",
    "Method",
    "Parameters",
    "Settled",
    "SettledShape",
    "Skill",
    "agreement",
    "total",
]
