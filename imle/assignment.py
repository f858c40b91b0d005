"""The state of the matching: which noise every example has committed to."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

NEVER = 2**30  # age of an example that has no sample yet


@dataclass
class Assignment:
    """Which noise every example has committed to, and what the next round must know."""

    noise: Tensor  # (N, noise_dim)
    distance: Tensor  # (N,) from example to sample at the last matching, Euclidean in search space
    candidate: Tensor  # (N,) int64, which of all draws of the fit the noise was
    age: Tensor  # (N,) int64, epochs since the last matching
    swapped_noise: Tensor  # (S, noise_dim) samples that are pulled to their nearest example
    swapped_example: Tensor  # (S,) int64, that example
    eps: Tensor  # () float64, ε of `Reject` at the last pool, 0 before the first
    drawn: Tensor  # () int64, candidates drawn so far

    @classmethod
    def empty(cls, n: int, noise_dim: int, device: torch.device) -> "Assignment":
        """Before the first round."""
        return cls(
            noise=torch.zeros(n, noise_dim, device=device),
            distance=torch.full((n,), torch.inf, device=device),
            candidate=torch.full((n,), -1, device=device),
            age=torch.full((n,), NEVER, device=device),
            swapped_noise=torch.zeros(0, noise_dim, device=device),
            swapped_example=torch.zeros(0, dtype=torch.long, device=device),
            eps=torch.zeros((), dtype=torch.float64),
            drawn=torch.zeros((), dtype=torch.long),
        )

    def tensors(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {f"assignment.{f.name}": getattr(self, f.name) for f in fields(self)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """From a checkpoint."""
        for f in fields(self):
            setattr(self, f.name, tensors[f"assignment.{f.name}"].to(getattr(self, f.name).device))

    def distinct_share(self) -> float:
        """How many different samples the examples have, over the number of examples."""
        return len(self.candidate.unique()) / len(self.candidate)
