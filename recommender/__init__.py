"""Hybrid recommendations for strangers: LightFM on hybrid features plus the enriched-profile score.

`register(con, bundle=…)` gives a DuckDB connection `recommend()`, `audience()`, `score()` and `explain()`;
`install_stubs(con)` makes a file with views over them say what is missing. Importing this package loads
neither DuckDB nor LightFM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recommender.sql import install_stubs, register

__all__ = ["install_stubs", "register"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")
    from recommender import sql

    return getattr(sql, name)
