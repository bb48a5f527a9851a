"""What every detector can do, whatever its architecture."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, Self, TypeAlias

import torch
from torch import Tensor, nn

from ml.boxes import Targets
from ml.decode import Found
from ml.schema import Layout

EMBEDDING_SIZE = 128


class Model(Protocol):
    """A detector of boxes and joints. Pictures are [B, 3, H, W] in 0–255, sides multiples of `stride`."""

    layout: Layout
    stride: int
    training: bool

    def losses(self, pictures: Tensor, targets: Targets) -> dict[str, Tensor]:
        """The parts of the loss, each a scalar; their sum is what training makes small."""
        ...

    def detect(self, pictures: Tensor, *, score_threshold: float, limit: int) -> tuple[list[Found], Tensor]:
        """(one `Found` per picture, embeddings [B, 128] of length 1)."""
        ...

    def rows_of(self, name: str) -> str:
        """What the first axis of the named tensor counts.

        It is "classes", "joints" (three a joint), "heatmaps" (one a joint), or "" for anything else.
        """
        ...

    def train(self, mode: bool = True) -> Self: ...
    def to(self, device: torch.device) -> Self: ...
    def modules(self) -> Iterator[nn.Module]: ...
    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any: ...


Build: TypeAlias = Callable[[Layout], Model]


class UnusableArchitecture(ValueError):
    """No detector can be built by this name for these classes; the message says what to do."""
