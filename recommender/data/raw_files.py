"""The raw files of a folder as tables of a connection, made into the contract's by `ingest.sql` where there is one."""

from __future__ import annotations

from pathlib import Path

import duckdb

from coldstart_udfs.quoting import quote_name, quote_text
from coldstart_udfs.tabular import FileError, kind_of, read_file, sheets_of, table_name
from recommender.data.contract import FACTS, TABLES, ContractError
from recommender.data.rdf import is_rdf, read_rdf


def read_contract_files(con: duckdb.DuckDBPyConnection, source: Path, encoding: str | None) -> dict[str, str]:
    """Read the files items, users, interactions and, if there is one, facts of a folder.

    Returns:
        The file of each table that there is.

    Raises:
        ContractError: a file cannot be read, or two are the same table.
    """
    files = tables_of(source)
    origins = {}
    for table in (*TABLES, FACTS):
        if table.name in files:
            read_table(con, files[table.name], table.name, encoding)
            origins[table.name] = str(files[table.name])
    return origins


def run_script(con: duckdb.DuckDBPyConnection, source: Path, script: Path, encoding: str | None) -> dict[str, str]:
    """Read every file that can be read, run the script, and keep the tables of the contract that it leaves.

    Args:
        con: a connection without tables.
        source: the folder of the files.
        script: the script.
        encoding: of CSV and JSON files.

    Returns:
        The script, by the name of each table of the contract that it left.

    Raises:
        ContractError: the script failed, or a table is missing and a file could not be read.
    """
    files, problems = _files(source)
    unread = [problem for _, problem in problems]
    for name, path in files.items():
        try:
            read_table(con, path, name, encoding)
        except ContractError as error:
            # The script may read this file itself.
            unread.append(str(error))
    (own,) = con.execute("SELECT current_database()").fetchall()[0]
    folder = str(source.absolute())
    # DuckDB takes a comma for the end of a folder.
    con.execute(f"SET file_search_path = {quote_text('' if ',' in folder else folder)}")
    try:
        con.execute(script.read_text(encoding="utf-8-sig"))
        # A view is read here: it may need the files of the folder.
        left = _keep_contract_tables(con, own)
    except (duckdb.Error, UnicodeDecodeError) as error:
        raise ContractError("\n".join([f"{script} failed: {error}", *unread])) from None
    con.execute("RESET file_search_path; SET TimeZone = 'UTC'")
    if unread and not left >= {table.name for table in TABLES}:
        raise ContractError("\n".join(unread))
    return {table.name: f"{script} (table {table.name})" for table in (*TABLES, FACTS) if table.name in left}


def _keep_contract_tables(con: duckdb.DuckDBPyConnection, own: str) -> set[str]:
    """Make plain tables of the contract's tables, and drop what else the script left in the connection's own database.

    Tables may be views, temporary, or have constraints and indexes. Other databases that the script attached are
    detached; nothing in them is touched.
    """
    con.execute(f"USE {quote_name(own)}.main")
    query = "SELECT table_catalog, table_schema, table_name, table_type FROM information_schema.tables"
    ours = [entry for entry in con.execute(query).fetchall() if entry[0] in (own, "temp")]
    wanted = {table.name for table in (*TABLES, FACTS)}
    for catalog, schema, name, _ in ours:
        if name.lower() in wanted and schema == "main":
            copied = quote_name(f"{name.lower()} of the script")
            con.execute(f"CREATE TABLE {copied} AS FROM {'.'.join(map(quote_name, (catalog, schema, name)))}")
    # Views first: they may depend on tables.
    for catalog, schema, name, kind in sorted(ours, key=lambda entry: entry[3] != "VIEW"):
        what = "VIEW" if kind == "VIEW" else "TABLE"
        con.execute(f"DROP {what} IF EXISTS {'.'.join(map(quote_name, (catalog, schema, name)))} CASCADE")
    left = set()
    for _, _, name, _ in con.execute(query).fetchall():
        if name.endswith(" of the script"):
            left.add(name.removesuffix(" of the script"))
            con.execute(f"ALTER TABLE {quote_name(name)} RENAME TO {quote_name(name.removesuffix(' of the script'))}")
    attached = "SELECT database_name FROM duckdb_databases() WHERE NOT internal AND database_name <> $1"
    for (name,) in con.execute(attached, [own]).fetchall():
        con.execute(f"DETACH {quote_name(name)}")
    return left


def read_table(con: duckdb.DuckDBPyConnection, path: Path, name: str, encoding: str | None) -> None:
    """Read one file, see `coldstart_udfs.tabular.read_file`; RDF becomes subject, predicate and object.

    Raises:
        ContractError: it cannot be read.
    """
    if is_rdf(path):
        read_rdf(con, path, name)
        return
    try:
        read_file(con, path, name, encoding=encoding)
    except FileError as error:
        raise ContractError(str(error)) from None


def tables_of(folder: Path) -> dict[str, Path]:
    """Return the files of a folder that can be read, by the names of their tables in lower case.

    Raises:
        ContractError: two files are the same table of the contract, or a workbook cannot be opened.
    """
    found, problems = _files(folder)
    contract = {table.name for table in (*TABLES, FACTS)}
    serious = [problem for name, problem in problems if name in contract]
    if serious:
        raise ContractError("\n".join(serious))
    return found


def _files(folder: Path) -> tuple[dict[str, Path], list[tuple[str, str]]]:
    """Files by the names of their tables, and names with what is wrong with their files.

    A workbook of several sheets is a table for each sheet. DuckDB does not tell upper from lower case.
    """
    found: dict[str, Path] = {}
    problems = []
    for path in sorted(folder.iterdir()):
        kind = kind_of(path) or (path.suffix.lower() if is_rdf(path) else None)
        if kind is None or not path.is_file() or path.name.startswith((".", "~$")):
            continue
        names = [table_name(path)]
        if kind == ".xlsx":
            try:
                sheets = sheets_of(path)
                names = sheets if len(sheets) > 1 else names
            except FileError as error:
                problems.append((names[0].lower(), str(error)))
                continue
        for name in map(str.lower, names):
            if name in found:
                problems.append((name, f"{found[name]} and {path} are both table {name!r}; keep one"))
            else:
                found[name] = path
    return found, problems
