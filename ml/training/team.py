"""Several processes that train one model: each takes a share of every batch, and their gradients are added up.

Started by torchrun, which says in the environment who is who; a process that nobody started so is alone.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Team:
    """Rank and number of processes. `talk`: the group for words between processors, which waits for no GPU.

    Every method but the properties is a meeting: all processes call it, or none.
    """

    rank: int = 0
    count: int = 1
    talk: Any = None

    @classmethod
    def join(cls) -> "Team":
        """The team that torchrun started this process for."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return ALONE
        backend = "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            backend = "nccl"
        dist.init_process_group(backend)
        return cls(dist.get_rank(), count, dist.new_group(backend="gloo"))

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def share(self, rows: int) -> Tensor:
        """This process's rows of a batch: [about rows / count]."""
        return torch.arange(rows).tensor_split(self.count)[self.rank]

    def worst(self, word: int) -> int:
        """The highest that any process says."""
        if self.count == 1:
            return word
        told = torch.tensor([word])
        dist.all_reduce(told, dist.ReduceOp.MAX, group=self.talk)
        return int(told)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Each tensor becomes its sum over the processes."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, total in zip(
            tensors, flat.split_with_sizes([tensor.numel() for tensor in tensors]), strict=True
        ):
            tensor.copy_(total.view_as(tensor))

    def wait(self) -> None:
        self.worst(0)


ALONE: Final = Team()
