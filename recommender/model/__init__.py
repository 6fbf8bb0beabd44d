"""The hybrid recommender: R' = R + γ·P_u'ᵀ A P_i'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recommender.model.recommender import HybridRecommender

__all__ = ["HybridRecommender"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")
    from recommender.model.recommender import HybridRecommender

    return HybridRecommender
