"""Hybrid recommendations for strangers: LightFM on hybrid features plus the enriched-profile score.

`register(con, bundle=…)` gives a DuckDB connection `recommend()`, `audience()`, `score()`, `expected_demand()` and
`explain()`; `install_stubs(con)` makes a file with views over them say what is missing. Importing this package loads
neither DuckDB nor LightFM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recommender.data.entities import Entities, describe
    from recommender.data.interactions import Interactions
    from recommender.model.recommender import HybridRecommender
    from recommender.sql.catalogue import install_stubs, register

__all__ = ["Entities", "HybridRecommender", "Interactions", "describe", "install_stubs", "register"]

_HOMES = {
    "Entities": "recommender.data.entities",
    "HybridRecommender": "recommender.model.recommender",
    "Interactions": "recommender.data.interactions",
    "describe": "recommender.data.entities",
    "install_stubs": "recommender.sql.catalogue",
    "register": "recommender.sql.catalogue",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
