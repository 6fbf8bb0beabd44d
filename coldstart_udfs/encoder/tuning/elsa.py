"""The loss by which an encoder learns which items the same users take."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Users of whom a batch has fewer items tell nothing of what belongs together.
FEWEST = 2


def elsa_loss(vectors: torch.Tensor, taken: torch.Tensor) -> torch.Tensor:
    """How far the items that a user took are from those that the vectors predict of them.

    With Z the unit vectors of b items and X what u users took of them, the vectors predict P = X·Z·Zᵀ − X: the
    similarity of an item to all that the user took, without the similarity of an item to itself, which is 1. The loss
    is the mean over users of ‖P/‖P‖ − X/‖X‖‖². It needs no negatives and no temperature.

    The formula is that of ELSA (Vančura et al. 2022, Scalable Linear Shallow Autoencoder for Collaborative Filtering,
    RecSys, https://doi.org/10.1145/3523227.3551482), by which beeFormer trains text encoders (Vančura et al. 2024,
    beeFormer: Bridging the Gap Between Semantic and Interaction Similarity in Recommender Systems, RecSys,
    https://doi.org/10.1145/3640457.3691707).

    Args:
        vectors: Z, (b, d), rows of length 1.
        taken: X, (u, b), 1 for what a user took; at least two in each row.

    Returns:
        the loss, from 0 to 4, a tensor of no dimensions.

    >>> import torch
    >>> alike = torch.nn.functional.normalize(torch.ones(2, 3), dim=1)
    >>> round(float(elsa_loss(alike, torch.ones(1, 2))), 6)
    0.0
    """
    from torch.nn.functional import normalize

    # In float32 whatever the arithmetic of the network is: small differences count here.
    vectors = vectors.float()
    predicted = (taken @ vectors) @ vectors.T - taken
    difference = normalize(predicted, dim=1) - normalize(taken, dim=1)
    return (difference**2).sum(dim=1).mean()
