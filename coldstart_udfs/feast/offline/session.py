"""The DuckDB connection of a job: with the repository's settings, in UTC, and with our functions if needed."""

from __future__ import annotations

import difflib
import os
import re
import tempfile
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import duckdb

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.quoting import quote_text
from coldstart_udfs.settings import Enrichment

if TYPE_CHECKING:
    from feast import RepoConfig

Setting: TypeAlias = bool | int | float | str

# Settings that the store itself makes: naive timestamps are in UTC in Feast, but in the machine's zone in DuckDB.
_OURS = {"timezone": "Feast's timestamps are UTC"}


def repo_folder(config: RepoConfig) -> Path:
    """The absolute path of the repository; the working directory if Feast has no path."""
    return Path(config.repo_path or ".").resolve()


def open_connection(
    config: RepoConfig, *, functions: bool = False, fingerprint: bool = False
) -> duckdb.DuckDBPyConnection:
    """Open a connection for one job; the caller closes it.

    Args:
        config: configuration of the repository; `extensions` and `settings` of its offline store are applied.
        functions: register `embed()` and the others, with the encoder of the repository's enrichment.json.
        fingerprint: set the variable `encoder_fingerprint` to that encoder's fingerprint; its files are read.

    Raises:
        ColdStartError: DuckDB cannot load an extension or does not accept a setting.
    """
    repo = repo_folder(config)
    con = duckdb.connect()
    try:
        # One folder for each connection: DuckDB's default, `.tmp` in the working directory, is shared by processes.
        spill = Path(tempfile.gettempdir()) / f"coldstart-duckdb-{os.getpid()}-{uuid.uuid4().hex}"
        con.execute(f"SET temp_directory = {quote_text(str(spill))}")
        con.execute(f"SET file_search_path = {quote_text(str(repo))}")
        # Names in SQL mean tables, not variables of the calling Python code.
        con.execute("SET python_enable_replacements = false")
        # Scans of Arrow have no row count, for which DuckDB plans an ASOF JOIN as a nested loop, 100 times slower.
        con.execute("SET asof_loop_join_threshold = 0")
        settings = getattr(config.offline_store, "settings", {})
        # First DuckDB's own settings, such as the folder of extensions; others exist once extensions are loaded.
        own = {name for (name,) in con.execute("SELECT name FROM duckdb_settings()").fetchall()}
        _set(con, {name: value for name, value in settings.items() if name.lower() in own})
        _load(con, getattr(config.offline_store, "extensions", ()))
        _set(con, {name: value for name, value in settings.items() if name.lower() not in own})
        con.execute("SET TimeZone = 'UTC'")
        if functions:
            from coldstart_udfs.sql.connection import register

            register(con, enrichment=Enrichment.of_repo(repo))
        if fingerprint:
            con.execute(f"SET VARIABLE encoder_fingerprint = {quote_text(_fingerprint(repo))}")
    except BaseException:
        con.close()
        raise
    return con


def _fingerprint(repo: Path) -> str:
    from coldstart_udfs.encoder.encoder import shared_encoder

    settings = Enrichment.of_repo(repo)
    return shared_encoder(settings.model, backend=settings.backend).fingerprint


def _load(con: duckdb.DuckDBPyConnection, extensions: Iterable[str]) -> None:
    for name in extensions:
        try:
            try:
                con.load_extension(name)
            except duckdb.IOException:
                con.install_extension(name)
                con.load_extension(name)
        except duckdb.Error as error:
            raise ColdStartError(
                f"offline_store.extensions: DuckDB {duckdb.__version__} cannot load {name!r}; install it where there "
                f"is a network with `python -c \"import duckdb; duckdb.connect().install_extension('{name}')\"`. "
                f"DuckDB says: {first_line(error)}"
            ) from None


def _set(con: duckdb.DuckDBPyConnection, settings: Mapping[str, Setting]) -> None:
    for name, value in settings.items():
        if name.lower() in _OURS:
            raise ColdStartError(f"offline_store.settings: {name} cannot be set, {_OURS[name.lower()]}; take it out")
        # The name is put into SQL without quotes, so it must be an identifier.
        problem = "" if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", name) else "it is not a name"
        if not problem:
            try:
                con.execute(f"SET {name} = {_literal(value)}")
                continue
            except duckdb.Error as error:
                problem = first_line(error)
        known = [row[0] for row in con.execute("SELECT name FROM duckdb_settings()").fetchall()]
        hint = ""
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3)
            hint = f" Did you mean {' or '.join(close)}?" if close else ""
            if name.startswith("s3_"):
                hint = " It comes with `extensions: [httpfs]`."
        shown = "…" if re.search("secret|token|password|key", name, re.IGNORECASE) else repr(value)
        raise ColdStartError(f"offline_store.settings: {name} = {shown} is not possible: {problem.rstrip(':')}.{hint}")


def _literal(value: Setting) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return quote_text(value) if isinstance(value, str) else repr(value)


def first_line(error: BaseException) -> str:
    """The first line of an error, without the query and traceback that DuckDB may add."""
    return str(error).strip().split("\n")[0].rstrip(".")
