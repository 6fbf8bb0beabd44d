from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from coldstart_udfs.made_from import MadeFrom, data_hash, erased, warn_of_changed_data


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "items.csv").write_text("item_id\nlamp\n")
    (tmp_path / "repo" / "data").mkdir(parents=True)
    return tmp_path


def made(shop: Path) -> MadeFrom:
    known = MadeFrom.of_data(shop / "repo", shop / "data", {"items": 1}, sha256=data_hash(shop / "data"))
    known.write(shop / "repo")
    return known


@pytest.mark.parametrize("name", [".items.csv.lock", "items_by_stem.parquet", "evaluation.json", "bundle.search.jsonl"])
@pytest.mark.parametrize("scripted", [False, True])
def test_only_files_of_tables_count(shop: Path, name: str, scripted: bool) -> None:
    if scripted:
        (shop / "data" / "ingest.sql").write_text("CREATE TABLE items AS FROM things")
    before = data_hash(shop / "data")
    (shop / "data" / name).write_text("new")
    assert (data_hash(shop / "data") == before) == (name != "items_by_stem.parquet" or not scripted)
    (shop / "data" / "items.csv").write_text("item_id\nmug\n")
    changed = data_hash(shop / "data")
    assert changed != before
    (shop / "data" / "facts.csv").write_text("subject,predicate,object\nmug,made of,clay\n")
    assert data_hash(shop / "data") != changed


def test_what_was_written_is_read_and_a_missing_or_foreign_file_says_nothing(shop: Path) -> None:
    assert MadeFrom.of_repo(shop / "repo") is None
    known = made(shop)
    assert MadeFrom.of_repo(shop / "repo") == known
    assert known.data == "../data"
    (shop / "repo" / "data" / "made_from.json").write_text('["of another program"]')
    assert MadeFrom.of_repo(shop / "repo") is None


def test_an_erasure_is_followed_only_if_the_sources_were_of_the_tables(shop: Path) -> None:
    known = made(shop)
    (shop / "data" / "items.csv").write_text("item_id\n")
    erased(shop / "repo", shop / "data", before="of other tables")
    assert MadeFrom.of_repo(shop / "repo") == known
    erased(shop / "repo", shop / "data", before=known.sha256)
    assert MadeFrom.of_repo(shop / "repo") == replace(known, sha256=data_hash(shop / "data"))


def test_changed_tables_are_warned_of_and_unchanged_or_absent_ones_are_not(shop: Path) -> None:
    warn_of_changed_data(shop / "repo")
    made(shop)
    warn_of_changed_data(shop / "repo")
    (shop / "data" / "items.csv").write_text("item_id\n")
    with pytest.warns(UserWarning, match=r"made from other data \(1 items\) .*; run `coldstart profiles --data "):
        warn_of_changed_data(shop / "repo")
    (shop / "data" / "items.csv").unlink()
    (shop / "data").rmdir()
    warn_of_changed_data(shop / "repo")
