"""Low-rank adapters: each weight matrix of a layer learns a product of two small ones, which is added to it."""

from __future__ import annotations

from typing import Any


def add_adapters(layers: Any, rank: int) -> None:
    """Let the linear maps in some layers learn W + B·A in place of W.

    B begins as zero, so that nothing changes before the first step (Hu et al. 2022, LoRA: Low-Rank Adaptation of Large
    Language Models, ICLR, arXiv:2106.09685; its scale α/r is 1 here).

    Args:
        layers: a module of torch whose parameters do not learn.
        rank: number of rows of A, and of columns of B.
    """
    import torch
    from torch.nn.utils import parametrize

    class Adapter(torch.nn.Module):
        def __init__(self, height: int, width: int) -> None:
            super().__init__()
            self.down = torch.nn.Parameter(torch.randn(rank, width) / rank)
            self.up = torch.nn.Parameter(torch.zeros(height, rank))

        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight + self.up @ self.down

    linear: list[Any] = [one for one in layers.modules() if isinstance(one, torch.nn.Linear)]
    for module in linear:
        parametrize.register_parametrization(module, "weight", Adapter(*module.weight.shape))
        module.parametrizations.weight.original.requires_grad_(False)


def merge_adapters(layers: Any) -> None:
    """Put the sum in the place of each matrix that has an adapter."""
    from torch.nn.utils import parametrize

    for module in list(layers.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
