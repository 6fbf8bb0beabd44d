"""For Feast's universal suite, as FULL_REPO_CONFIGS_MODULE: its stock DuckDB configurations with our offline store.

The classes are called as Feast's own are, with ColdStart in front: `compare.py` takes that off to find the same test in
both runs. Only importable inside of a checkout of Feast's tests, whose package is called `tests` too.
"""

from tests.universal.feature_repos.duckdb_repo_configuration import (
    AVAILABLE_ONLINE_STORES,
    DuckDBDataSourceCreator,
    DuckDBDeltaDataSourceCreator,
)

from coldstart_udfs.feast import ColdStartDuckDBOfflineStoreConfig

__all__ = ["AVAILABLE_OFFLINE_STORES", "AVAILABLE_ONLINE_STORES"]


class ColdStartDuckDBDataSourceCreator(DuckDBDataSourceCreator):
    def create_offline_store_config(self):
        return ColdStartDuckDBOfflineStoreConfig()


class ColdStartDuckDBDeltaDataSourceCreator(DuckDBDeltaDataSourceCreator):
    def create_offline_store_config(self):
        return ColdStartDuckDBOfflineStoreConfig()


AVAILABLE_OFFLINE_STORES = [
    ("local", ColdStartDuckDBDataSourceCreator),
    ("local", ColdStartDuckDBDeltaDataSourceCreator),
]
