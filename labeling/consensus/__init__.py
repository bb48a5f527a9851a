"""Many people's answers, settled into one. Plain Python and numpy.

method = METHODS["skill_weighted"]
fitted = method.fit(every_answer_of_the_project)
settled = method.predict(answers_of_some_images, fitted.parameters)
"""

from labeling.consensus.actions import Action, Policy, expected_drop, next_action
from labeling.consensus.agreement import (
    Agreement,
    Alpha,
    ClassAgreement,
    PairAgreement,
    agree,
    agreement,
    total,
)
from labeling.consensus.base import (
    ACCEPT_AT,
    Answer,
    Cause,
    Causes,
    Consensus,
    Fitted,
    Gold,
    Measured,
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
    "Action",
    "Agreement",
    "Alpha",
    "Answer",
    "Cause",
    "Causes",
    "ClassAgreement",
    "Consensus",
    "Fitted",
    "Gold",
    "Measured",
    "Method",
    "PairAgreement",
    "Parameters",
    "Policy",
    "Settled",
    "SettledShape",
    "Skill",
    "agree",
    "agreement",
    "expected_drop",
    "next_action",
    "total",
]
