"""The commands on a small real shop, each in a process of its own."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from coldstart_udfs import Encoder
from coldstart_udfs.profile import Enrichment
from tests.conftest import ROOT, must, run


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
    assert manifest["parameters"]["beta"] == settings.beta
    assert manifest["cutoff"].startswith("2011-08-01")
    # What "auto" came to when the profiles were written is recorded, and everything after keeps to it.
    assert settings.backend == "onnx-int8"
    assert manifest["embedding_fingerprint"] == Encoder(backend="onnx-int8").fingerprint
    assert set(settings.source) == {"alpha", "beta", "evidence_scale"}
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

    shown = must("coldstart", "recommend", "--description", "a red lamp", "-k", "5", cwd=trained)
    assert "new (cold)" in shown
    rows = [line for line in shown.splitlines() if line.startswith("│")]
    assert len(rows) == 5
    for row in rows:
        *_, score, text, behaviour, popularity, _ = (cell.strip() for cell in row.split("│"))
        assert float(text) + float(behaviour) + float(popularity) == pytest.approx(float(score), abs=0.02)

    shown = must("coldstart", "audience", "--description", "SET OF 6 HERB GARDEN TIN POTS", "-k", "3", cwd=trained)
    assert len([line for line in shown.splitlines() if line.startswith("│")]) == 3
    known = json.loads(json.dumps(must("coldstart", "recommend", "--user-id", _a_user(trained), cwd=trained)))
    assert "(warm)" in known


def test_evaluate_prints_and_writes_the_table(trained: Path) -> None:
    shown = must("coldstart", "evaluate", "--group", "^[0-9]{5}", "--json", "table.json", cwd=trained)
    table = json.loads((trained / "table.json").read_text())
    assert [split["split"] for split in table["splits"]] == ["cold items", "cold users", "warm pairs"]
    for split in table["splits"]:
        assert [row["method"] for row in split["rows"]] == [
            "popularity", "TF-IDF cosine", "LightFM on ids", "LightFM on tokens", "coldstart",
        ]  # fmt: skip
        assert all(0 <= row[name] <= 1 for row in split["rows"] for name in table["metrics"])
        assert split["split"] in shown


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("recommend", "--description", "x", "--bundle", "nowhere"), "nowhere holds no bundle"),
        (("recommend",), "--description TEXT, --user-id ID, or both"),
        (("audience",), "--description TEXT, --item-id ID, or both"),
        (("train", "--cutoff", "1999-01-01"), "lie before the cut-off 1999-01-01"),
        (("train", "--repo", "nowhere"), "nowhere is no Feast repository"),
        (("profiles", "--data", "nowhere"), "nowhere is no folder"),
        (("evaluate", "--group", "("), "is no regular expression"),
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
        source={"alpha": "default", "beta": "default", "evidence_scale": "default"}
    )
    expected = {path.name for path in (ROOT / "feature_repo").iterdir() if path.name not in ("data", "__pycache__")}
    assert {path.name for path in repo.iterdir()} == expected | {"enrichment.json"}


def _a_user(folder: Path) -> str:
    import duckdb

    return str(duckdb.sql(f"SELECT min(user_id) FROM '{folder}/data/users.parquet'").fetchall()[0][0])
