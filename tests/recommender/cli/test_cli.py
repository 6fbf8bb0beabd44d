"""The commands on a small real shop, each in a process of its own."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from coldstart_udfs import Encoder
from coldstart_udfs.settings import Enrichment
from tests.support.commands import ROOT, must, run


@pytest.fixture(scope="module")
def trained(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shop after `coldstart train` and the `feast apply` that follows."""
    folder = tmp_path_factory.mktemp("trained") / "shop"
    # Not the registry: it names the first shop's online store, and applying the copy would drop that one's tables.
    shutil.copytree(shop, folder, ignore=shutil.ignore_patterns("*.db*"))
    must("feast", "-c", "feature_repo", "apply", cwd=folder)
    must("feast", "-c", "feature_repo", "materialize", "2010-01-01T00:00:00", "2012-01-01T00:00:00", cwd=folder)
    must("coldstart", "train", "--cutoff", "2011-08-01", cwd=folder)
    return folder


def test_training_writes_bundle_and_settings_with_their_origin(trained: Path) -> None:
    manifest = json.loads((trained / "data" / "bundle" / "manifest.json").read_text())
    settings = Enrichment.read(trained / "feature_repo" / "enrichment.json")
    assert manifest["parameters"]["alpha"] == settings.alpha
    assert manifest["cutoff"].startswith("2011-08-01")
    # What "auto" came to when the profiles were written is recorded, and everything after keeps to it.
    assert settings.backend == "onnx-int8"
    assert manifest["embedding_fingerprint"] == Encoder(backend="onnx-int8").fingerprint
    assert set(settings.source) == {"alpha", "beta", "evidence_scale", "event_weights", "half_life_days"}
    # No data tell β, which is no part of a score.
    assert (settings.beta, settings.source["beta"]) == (1.0, "default")
    assert settings.source["alpha"] == manifest["parameters"]["source"]["alpha"]
    assert all(manifest["parameters"]["source"].values())


def test_apply_after_training_shows_the_change_and_answers_follow(trained: Path) -> None:
    path = trained / "feature_repo" / "enrichment.json"
    settings = Enrichment.read(path)
    # Another α than the bundle's, whatever training chose.
    replace(settings, alpha=settings.alpha + 3).write(path)
    assert f"alpha={settings.alpha + 3}" in must("feast", "-c", "feature_repo", "apply", cwd=trained)
    early = run("coldstart", "recommend", "--description", "a red lamp", cwd=trained)
    assert early.returncode == 2
    assert "run `feast apply` after `coldstart train`" in early.stderr
    skewed = run("coldstart", "skew", "--limit", "50", cwd=trained)
    assert skewed.returncode == 1
    assert "its inputs agree: another α" in skewed.stdout

    settings.write(path)
    assert f"alpha={settings.alpha}" in must("feast", "-c", "feature_repo", "apply", cwd=trained)
    assert "16 of 16 features agree" in must("coldstart", "skew", cwd=trained)

    asked = ("recommend", "--description", "a red lamp", "-k", "5", "--explain")
    shown = must("coldstart", *asked, cwd=trained)
    assert "new (cold)" in shown
    assert "because" in shown
    rows = rows_of(must("coldstart", *asked[:-1], cwd=trained))
    assert len(rows) == 5
    for _, _, _, score, *parts in rows:
        assert sum(map(float, parts)) == pytest.approx(float(score), abs=0.03)

    shown = must("coldstart", "audience", "--description", "SET OF 6 HERB GARDEN TIN POTS", "-k", "3", cwd=trained)
    assert len(rows_of(shown)) == 3
    known = a_user(trained)
    assert "(warm)" in must("coldstart", "recommend", "--user-id", known, cwd=trained)

    item = rows_of(must("coldstart", "recommend", "--user-id", known, "-k", "1", cwd=trained))[0]
    rows = rows_of(must("coldstart", "explain", "--user-id", known, "--item-id", item[1], cwd=trained))
    *terms, (total, _, score) = rows
    assert (total, float(score)) == ("score", pytest.approx(float(item[3]), abs=0.006))
    assert sum(float(value) for _, _, value in terms) == pytest.approx(float(score), abs=0.0006 * len(terms))
    asked = ("explain", "--user-id", known, "--description", "a red lamp", "--item-id", item[1])
    said = must("coldstart", *asked, cwd=trained)
    assert {"red", "lamp"} <= {term for term, kind, _ in rows_of(said) if kind == "word"}


def test_inspect_tells_what_a_bundle_is_and_that_it_is_whole(trained: Path, tmp_path: Path) -> None:
    shown = must("coldstart", "bundles", "inspect", cwd=trained)
    manifest = json.loads(must("coldstart", "bundles", "inspect", "data/bundle", "--json", cwd=trained))
    assert manifest == json.loads((trained / "data" / "bundle" / "manifest.json").read_text())
    values = {row[0]: row[1] for row in rows_of(shown)}
    assert values["data_sha256"] == manifest["data_sha256"]
    assert values["embedding_fingerprint"] == manifest["embedding_fingerprint"]
    assert values["feature_space.item.words"] == f"{manifest['feature_space']['item']['words']:,}"
    assert values["evidence_scale"] == "inf"
    weights = manifest["parameters"]["weights"]
    assert values["cold_offset"] == f"{weights['cold_offset']:g}"
    assert weights["warm"]["item_item"][1] > 0
    for part in weights["warm"].keys() | weights["cold"].keys():
        pairs = [*weights["warm"].get(part, (0, 0)), *weights["cold"].get(part, (0, 0))]
        assert [part, *(f"{value:.2f}" for value in pairs)] in rows_of(shown)
    assert f"arrays verified: {manifest['arrays']}" in shown

    bundle = tmp_path / "bundle"
    shutil.copytree(trained / "data" / "bundle", bundle)
    arrays = bundle / manifest["arrays"]
    arrays.write_bytes(arrays.read_bytes()[:-1])
    cut = run("coldstart", "bundles", "inspect", bundle, cwd=tmp_path)
    assert (cut.returncode, cut.stdout) == (2, "")
    assert "was altered or cut" in cut.stderr


def test_sql_answers_from_a_bundle_as_the_command_line_does(trained: Path) -> None:
    user = a_user(trained)
    query = f"SELECT rank, item_id FROM recommend(user_id := '{user}', k := 3) ORDER BY rank"
    answer = json.loads(must("coldstart", "sql", "--bundle", "data/bundle", "--json", "-c", query, cwd=trained))
    rows = rows_of(must("coldstart", "recommend", "--user-id", user, "-k", "3", cwd=trained))
    assert [(str(row["rank"]), row["item_id"]) for row in answer] == [(row[0], row[1]) for row in rows]


def test_evaluate_prints_and_writes_the_table(trained: Path) -> None:
    query = "COPY (SELECT *, left(item_id, 5) AS stem FROM 'data/items.parquet') TO 'by_stem.parquet'"
    must("coldstart", "sql", "-c", query, cwd=trained)
    files = ("--items", "by_stem.parquet", "--interactions", "data/interactions.parquet")
    shown = must(
        "coldstart", "evaluate", *files, "--group-column", "stem", "--seeds", "1", "--tuning", "0",
        "--json", "table.json", "--html", "table.html", cwd=trained,
    )  # fmt: skip
    table = json.loads((trained / "table.json").read_text())
    assert (table["split"], table["seeds"]) == ("item_cold", 1)
    assert {row["candidates"] for row in table["rows"]} == {"cold", "warm", "overall"}
    methods = {row["method"] for row in table["rows"]}
    assert {"coldstart", "popularity", "EASE"} <= methods
    assert all(method in shown for method in methods)
    assert (trained / "table.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("recommend", "--description", "x", "--bundle", "nowhere"), "nowhere holds no bundle"),
        (("recommend",), "--description TEXT, --user-id ID, or both"),
        (("audience",), "--description TEXT, --item-id ID, or both"),
        (("train", "--cutoff", "1999-01-01"), "are before the cut-off 1999-01-01"),
        (("train", "--repo", "nowhere"), "nowhere is no Feast repository"),
        (("profiles", "--data", "nowhere"), "nowhere is not a folder"),
        (("weigh", "--data", "nowhere"), "nowhere is not a folder"),
        (("evaluate", "--group-column", "stem"), "has no column 'stem' for groups"),
        (("bundles", "inspect", "nowhere"), "nowhere holds no bundle"),
        (("explain", "--item-id", "22430"), "--description TEXT, --user-id ID, or both"),
        (("init", "."), "exists already"),
    ],
)
def test_bad_input_is_one_line_and_status_two(shop: Path, command: tuple[str, ...], message: str) -> None:
    result = run("coldstart", *command, cwd=shop)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_settings_of_a_new_shop_are_the_defaults(tmp_path: Path) -> None:
    must("coldstart", "init", "my_shop", cwd=tmp_path)
    repo = tmp_path / "my_shop" / "feature_repo"
    assert Enrichment.read(repo / "enrichment.json") == Enrichment(
        source=dict.fromkeys(("alpha", "beta", "evidence_scale", "event_weights", "half_life_days"), "default")
    )
    expected = {path.name for path in (ROOT / "feature_repo").iterdir() if path.name not in ("data", "__pycache__")}
    assert {path.name for path in repo.iterdir()} == expected | {"enrichment.json"}


def test_init_with_a_language_chooses_an_encoder_that_knows_it(tmp_path: Path) -> None:
    must("coldstart", "init", "laden", "--language", "de", cwd=tmp_path)
    assert Enrichment.read(tmp_path / "laden" / "feature_repo" / "enrichment.json").model == "multilingual"
    refused = run("coldstart", "init", "other", "--language", "klingon", cwd=tmp_path)
    assert refused.returncode == 2
    assert "language is 'klingon'; the encoder 'multilingual' knows" in refused.stderr
    assert not (tmp_path / "other").exists()


def a_user(folder: Path) -> str:
    import duckdb

    return str(duckdb.sql(f"SELECT min(user_id) FROM '{folder}/data/users.parquet'").fetchall()[0][0])


def rows_of(shown: str) -> list[list[str]]:
    """The cells of a printed table, row by row."""
    lines = (line for line in shown.splitlines() if line.startswith("│"))
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
