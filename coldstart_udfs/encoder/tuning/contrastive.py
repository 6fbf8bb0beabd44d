"""The loss by which an encoder learns to tell labels apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_TEMPERATURE = 0.07


def contrastive_loss(vectors: torch.Tensor, labelled: torch.Tensor) -> torch.Tensor:
    """How much nearer a text is to others than to those of its own label.

    For each text, the mean of -log softmax(cosine/τ) over the other texts of its label, τ being 0.07; the softmax is
    over all other texts of the batch (Khosla et al. 2020, Supervised Contrastive Learning, NeurIPS, arXiv:2004.11362).

    Args:
        vectors: (b, d), rows of length 1.
        labelled: (l, b), 1 where a text has a label; at least two in each row. Texts of no row count as texts of other
            labels.

    Returns:
        the loss, a tensor of no dimensions.

    >>> import torch
    >>> pairs = torch.eye(2).repeat_interleave(2, dim=0)  # four texts, two and two alike
    >>> apart, mixed = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1.]]), torch.tensor([[1, 0, 1, 0], [0, 1, 0, 1.]])
    >>> bool(contrastive_loss(pairs, apart) < contrastive_loss(pairs, mixed))
    True
    """
    import torch

    vectors = vectors.float()
    itself = torch.eye(len(vectors), dtype=torch.bool)
    logits = (vectors @ vectors.T / _TEMPERATURE).masked_fill(itself, float("-inf"))
    logarithms = (logits - logits.logsumexp(dim=1, keepdim=True)).masked_fill(itself, 0)
    same = (labelled.T @ labelled > 0).float().masked_fill(itself, 0)
    others = same.sum(dim=1)
    known = others > 0
    return -((logarithms * same).sum(dim=1)[known] / others[known]).mean()
