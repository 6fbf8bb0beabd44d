"""The dbt plugin: alone on cursors as dbt makes them, and the example project under the real dbt command.

dbt needs other versions of some packages than the rest, so its command is that of an environment of its own:
COLDSTART_DBT, or .venv/dbt/bin/dbt, which `make test-services` sets up.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import duckdb
import numpy as np
import pytest

from coldstart_udfs import Encoder
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.settings import Enrichment
from tests.support.commands import RAW, ROOT
from tests.support.encoders import StubEncoder

DBT = Path(os.environ.get("COLDSTART_DBT", ROOT / ".venv" / "dbt" / "bin" / "dbt"))
ITEMS = 300


class BasePlugin:
    """As dbt-duckdb's, of which these tests need no more."""

    def __init__(self, name: str, plugin_config: dict[str, Any], credentials: object = None) -> None:
        self.name, self.creds = name, credentials
        self.initialize(plugin_config)  # type: ignore[attr-defined]


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`coldstart_udfs.dbt.Plugin` over stand-ins for dbt, which is not in this environment."""
    for name in ("dbt", "dbt.adapters", "dbt.adapters.duckdb", "dbt.adapters.duckdb.plugins"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["dbt.adapters.duckdb.plugins"].BasePlugin = BasePlugin  # type: ignore[attr-defined]
    errors = ModuleType("dbt_common.exceptions")
    errors.DbtRuntimeError = type("DbtRuntimeError", (RuntimeError,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dbt_common", ModuleType("dbt_common"))
    monkeypatch.setitem(sys.modules, "dbt_common.exceptions", errors)
    monkeypatch.delitem(sys.modules, "coldstart_udfs.dbt", raising=False)
    module = importlib.import_module("coldstart_udfs.dbt")
    monkeypatch.delitem(sys.modules, "coldstart_udfs.dbt")
    return module.Plugin


def test_each_threads_cursor_has_the_functions(plugin: Any, stub: StubEncoder) -> None:
    door = plugin("coldstart", {"model": stub})

    def work(number: int) -> object:
        with con.cursor() as cursor:
            door.configure_cursor(cursor)
            return cursor.sql(f"SELECT embed('text {number}')").fetchall()[0][0]

    with duckdb.connect() as con:
        door.configure_connection(con)
        with ThreadPoolExecutor(3) as threads:
            vectors = list(threads.map(work, range(9)))
    assert vectors == [pytest.approx(StubEncoder.vector(f"text {number}")) for number in range(9)]


def test_a_cursor_that_was_not_configured_does_not_see_the_macros(plugin: Any) -> None:
    with duckdb.connect() as con:
        plugin("coldstart", {}).configure_connection(con)
        with con.cursor() as cursor, pytest.raises(duckdb.CatalogException, match="embed"):
            cursor.sql("SELECT embed('a')")


def test_the_config_goes_to_register(plugin: Any, tmp_path: Path) -> None:
    settings = tmp_path / "enrichment.json"
    Enrichment(alpha=7).write(settings)
    with duckdb.connect() as con:
        plugin("coldstart", {"enrichment": str(settings), "cache": False}).configure_connection(con)
        assert con.sql("SELECT alpha(0)").fetchall() == [(7,)]


def test_an_unknown_key_is_named_with_the_possible_ones(plugin: Any) -> None:
    with pytest.raises(ColdStartError, match=r"config \['modle'\]; possible are \['model', 'backend', 'cache', 'enri"):
        plugin("coldstart", {"modle": "x", "cache": True})


def test_the_settings_that_dbt_duckdb_mixes_into_the_config_are_no_keys_of_ours(plugin: Any) -> None:
    credentials = SimpleNamespace(settings={"memory_limit": "1GB"})
    plugin("coldstart", {"memory_limit": "1GB", "cache": False}, credentials)


def test_what_register_refuses_reaches_dbt_as_its_own_kind_of_error(plugin: Any) -> None:
    with duckdb.connect() as con, pytest.raises(ColdStartError, match="backend is 'tpu'") as caught:
        plugin("coldstart", {"backend": "tpu"}).configure_connection(con)
    assert isinstance(caught.value, RuntimeError)


def test_without_dbt_the_import_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dbt", None)
    monkeypatch.delitem(sys.modules, "coldstart_udfs.dbt", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'feast-coldstart\[dbt\]'"):
        importlib.import_module("coldstart_udfs.dbt")


@dataclass(frozen=True)
class Project:
    """A copy of the example, its transactions beside it, and the dbt command for it."""

    folder: Path
    items: int | None = ITEMS

    @property
    def transactions(self) -> Path:
        return self.folder.parent / "transactions.parquet"

    def dbt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DBT_")}
        names = {"transactions": "../transactions.parquet", "items": self.items}
        return subprocess.run(
            [str(DBT), "--no-use-colors", *arguments, "--vars", json.dumps(names)], cwd=self.folder, env=environment,
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip

    def build(self) -> list[dict[str, Any]]:
        done = self.dbt("build")
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        results: list[dict[str, Any]] = json.loads((self.folder / "target" / "run_results.json").read_text())["results"]
        return results

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.folder / "target" / "shop.duckdb")) as con:
            return con.execute(query).fetchall()

    def embedded_at(self) -> dict[str, str]:
        return dict(self.sql("SELECT item_id, embedded_at::VARCHAR FROM item_embeddings"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    if not DBT.exists():
        pytest.skip(f"{DBT} does not exist; `make test-services` sets it up, or set COLDSTART_DBT")
    project = Project(tmp_path_factory.mktemp("dbt") / "dbt_shop")
    shutil.copytree(ROOT / "examples" / "dbt_shop", project.folder, ignore=shutil.ignore_patterns("target", "logs"))
    shutil.copy(RAW / "transactions.parquet", project.transactions)
    project.build()
    return project


@pytest.fixture
def project(built: Project, tmp_path: Path) -> Iterator[Project]:
    """As after the first build, to be changed at will."""
    shutil.copytree(built.folder.parent, tmp_path / "copy")
    yield Project(tmp_path / "copy" / built.folder.name)
    shutil.rmtree(tmp_path / "copy")


@pytest.mark.service
def test_the_first_build_embeds_every_item_on_three_threads_and_its_tests_pass(built: Project) -> None:
    results = json.loads((built.folder / "target" / "run_results.json").read_text())["results"]
    assert {result["status"] for result in results} == {"success", "pass"}
    assert len({result["thread_id"] for result in results}) == 3
    assert sum(result["unique_id"].startswith("test.") for result in results) > 30
    counted = built.sql("SELECT (SELECT count(*) FROM item_embeddings), (SELECT sum(evidence) FROM user_profiles), "
                        "(SELECT count(*) FROM stg_interactions)")  # fmt: skip
    assert counted[0][0] == ITEMS
    assert counted[0][1] == counted[0][2]
    # Five have signed up, one of them without a word.
    assert built.sql("SELECT DISTINCT user_id, count(*) FROM signup_items GROUP BY 1 ORDER BY 1") == [
        ("17850", 10), ("new-1", 10), ("new-2", 10), ("new-3", 10)
    ]  # fmt: skip


@pytest.mark.service
def test_dbts_embeddings_are_the_encoders(built: Project) -> None:
    rows = built.sql("SELECT description, embedding, embedding_fingerprint FROM item_embeddings ORDER BY item_id")
    encoder = Encoder(backend="torch", cache=False)  # dbt's environment has no onnxruntime
    assert {row[2] for row in rows} == {encoder.fingerprint}
    vectors = np.array([row[1] for row in rows])
    np.testing.assert_allclose(vectors, encoder.encode([row[0] for row in rows]), atol=1e-6)


@pytest.mark.service
def test_a_second_build_embeds_nothing(project: Project) -> None:
    before = project.embedded_at()
    assert {result["status"] for result in project.build()} == {"success", "pass"}
    assert project.embedded_at() == before


@pytest.mark.service
def test_only_what_changed_came_or_went_is_touched(project: Project) -> None:
    before = project.embedded_at()
    changed, gone = sorted(before)[3], sorted(before)[5]
    with duckdb.connect() as con:
        con.execute(f"CREATE TABLE t AS FROM '{project.transactions}'")
        con.execute("UPDATE t SET description = 'A LAMP OF ANOTHER KIND' WHERE upper(stock_code) = $1", [changed])
        con.execute("DELETE FROM t WHERE upper(stock_code) = $1", [gone])
        con.execute(f"COPY t TO '{project.transactions}'")
    project.build()
    after = project.embedded_at()
    new = {item for item, when in after.items() if before.get(item) != when}
    assert before.keys() - after.keys() == {gone}
    (came,) = after.keys() - before.keys()  # the next in line of the first 300
    assert new == {changed, came}
    assert project.sql(f"SELECT description FROM item_embeddings WHERE item_id = '{changed}'") == [
        ("A LAMP OF ANOTHER KIND",)
    ]


@pytest.mark.service
def test_vectors_of_another_encoder_are_made_anew(project: Project) -> None:
    before = project.embedded_at()
    other = sorted(before)[7]
    project.sql(f"UPDATE item_embeddings SET embedding_fingerprint = 'another' WHERE item_id = '{other}'")
    project.build()
    assert {item for item, when in project.embedded_at().items() if before[item] != when} == {other}
    assert len(project.sql("SELECT DISTINCT embedding_fingerprint FROM item_embeddings")) == 1


@pytest.mark.service
def test_staging_follows_the_rules_of_ingest_sql(project: Project) -> None:
    done = Project(project.folder, items=None).dbt("run", "--select", "staging")
    assert done.returncode == 0, done.stdout
    with duckdb.connect() as con:
        con.execute(f"ATTACH '{project.folder / 'target' / 'shop.duckdb'}' AS dbt")
        con.execute(f"CREATE VIEW transactions AS FROM '{project.transactions}'")
        con.execute((RAW / "ingest.sql").read_text())
        for table in ("items", "users", "interactions"):
            columns = ", ".join(row[0] for row in con.sql(f"DESCRIBE {table}").fetchall())
            ours, theirs = f"(SELECT {columns} FROM dbt.stg_{table})", f"(FROM {table})"
            assert con.sql(f"({ours} EXCEPT ALL {theirs}) UNION ALL ({theirs} EXCEPT ALL {ours})").fetchall() == []


@pytest.mark.service
def test_dbt_prints_an_unknown_key_as_one_sentence(project: Project) -> None:
    profiles = project.folder / "profiles.yml"
    profiles.write_text(profiles.read_text().replace("cache: true", "modle: x"))
    done = project.dbt("build")
    assert done.returncode == 2
    assert "the plugin coldstart_udfs.dbt has config ['modle']; possible are ['model'," in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
