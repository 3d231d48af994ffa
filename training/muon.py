"""Muon (Keller Jordan, 2024) for many matrices of one shape, orthogonalised together.

torch.optim.Muon takes one matrix after the other: for 32 small ones that is over a thousand launches a step, a third
of the time of an accelerator's whole step. The coefficients and the scale of the update are the ones used there.
"""

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5


def orthogonalised(stack: Tensor) -> Tensor:
    """Return the matrices of `stack` (N, rows, columns) with all singular values near 1 (Newton-Schulz)."""
    a, b, c = COEFFICIENTS
    x = stack.bfloat16()
    wide = x if x.shape[1] <= x.shape[2] else x.mT
    wide = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(ROUNDS):
        gram = wide @ wide.mT
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide if wide.shape == x.shape else wide.mT


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised, with the size that AdamW's would have."""

    def __init__(self, matrices: list[Tensor], *, lr: float, momentum: float = 0.95) -> None:
        """Take matrices of any shapes; those of one shape are one parameter group."""
        shapes: dict[torch.Size, list[Tensor]] = {}
        for matrix in matrices:
            shapes.setdefault(matrix.shape, []).append(matrix)
        super().__init__([{"params": group} for group in shapes.values()], {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        """Change every matrix by its gradient."""
        for group in self.param_groups:
            matrices, momentum = group["params"], group["momentum"]
            gradient = torch.stack([matrix.grad for matrix in matrices])
            state = self.state[matrices[0]]
            if not state:
                state["mean"] = torch.zeros_like(gradient)
            state["mean"].lerp_(gradient, 1 - momentum)
            update = orthogonalised(gradient.lerp(state["mean"], momentum)).to(gradient.dtype)
            size = 0.2 * max(matrices[0].shape) ** 0.5 * group["lr"]
            torch._foreach_add_(matrices, list(update.unbind(0)), alpha=-size)
