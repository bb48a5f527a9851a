"""Which pictures to label next, on plain numpy without torch.

`choose` scores stored detections and picks by a named strategy; the strategies themselves are in
`STRATEGIES`.
"""

from ml.acquisition.base import Pick, Pool, Reason, Strategy
from ml.acquisition.choice import STRATEGIES, Candidates, choose
from ml.acquisition.uncertainty import class_weights

__all__ = ["STRATEGIES", "Candidates", "Pick", "Pool", "Reason", "Strategy", "choose", "class_weights"]
