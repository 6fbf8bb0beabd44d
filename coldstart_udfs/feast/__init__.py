"""The Feast plugin: enriched on-demand views, the offline store, and operations on a repository."""

from __future__ import annotations

import atexit
import sys
from typing import TYPE_CHECKING, Any

from coldstart_udfs.feast.linked import LinkedViews, Linker, linked_views
from coldstart_udfs.feast.transform import REQUEST_DESCRIPTION, Enricher
from coldstart_udfs.feast.views import EnrichedViews, enriched_views

if TYPE_CHECKING:
    from coldstart_udfs.feast.offline.store import ColdStartDuckDBOfflineStore, ColdStartDuckDBOfflineStoreConfig

__all__ = [
    "REQUEST_DESCRIPTION",
    "ColdStartDuckDBOfflineStore",
    "ColdStartDuckDBOfflineStoreConfig",
    "EnrichedViews",
    "Enricher",
    "LinkedViews",
    "Linker",
    "enriched_views",
    "linked_views",
]


def __getattr__(name: str) -> Any:
    # Feast finds the store by this path. Its base class takes seconds to import, so it is imported when asked for.
    if name in ("ColdStartDuckDBOfflineStore", "ColdStartDuckDBOfflineStoreConfig"):
        from coldstart_udfs.feast.offline import store as offline_store

        return getattr(offline_store, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@atexit.register
def _close_ibis() -> None:
    """Close and drop the DuckDB connection that Feast's `duckdb` store leaves open in ibis (docs/upstream/25)."""
    ibis = sys.modules.get("ibis")
    backend = ibis.options.default_backend if ibis else None
    if ibis and backend and backend.name == "duckdb":
        backend.disconnect()
        ibis.options.default_backend = None
