"""A plugin for dbt-duckdb: the SQL functions in the models of a dbt project.

In profiles.yml, in an output of `type: duckdb`; `config` may be left out:

    plugins:
      - module: coldstart_udfs.dbt
        config: {enrichment: enrichment.json}
"""

from __future__ import annotations

import inspect
from typing import Any

import duckdb

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.sql.connection import register

try:
    from dbt.adapters.duckdb.plugins import BasePlugin
    from dbt_common.exceptions import DbtRuntimeError
except ModuleNotFoundError as error:
    raise ImportError(
        "coldstart_udfs.dbt is a plugin for dbt-duckdb, which is not installed here: pip install 'feast-coldstart[dbt]'"
    ) from error

__all__ = ["Plugin", "PluginError"]


class PluginError(DbtRuntimeError, ColdStartError):  # type: ignore[misc]  # dbt's own come without types
    """A ColdStartError that dbt prints as one line; for other errors dbt prints the traceback."""


class Plugin(BasePlugin):  # type: ignore[misc]
    """Registers the functions for dbt's threads; its config is the keyword arguments of `register`."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        """Take the config from profiles.yml.

        Raises:
            ColdStartError: it has a key that `register` does not take.
        """
        parameters = inspect.signature(register).parameters.values()
        possible = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
        # dbt-duckdb mixes the profile's `settings`, which are DuckDB's, into the config of every plugin.
        mixed_in = getattr(self.creds, "settings", None) or {}
        self._config = {key: value for key, value in plugin_config.items() if key in possible or key not in mixed_in}
        unknown = [key for key in self._config if key not in possible]
        if unknown:
            raise PluginError(f"the plugin coldstart_udfs.dbt has config {unknown}; possible are {possible}")

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Register the Python functions on the long-lived connection, for the whole database instance."""
        self._register(conn)

    def configure_cursor(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Make the macros on the cursor of a thread: they are TEMP macros, which other connections do not see."""
        self._register(cursor)

    def _register(self, con: duckdb.DuckDBPyConnection) -> None:
        try:
            register(con, **self._config)
        except ColdStartError as error:
            raise PluginError(str(error)) from error
