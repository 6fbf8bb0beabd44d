"""Commands in the wrong order, or two at once, on the small shop: a sentence that names the command that mends it."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import Result
from typer.testing import CliRunner

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.feast.operations.forget import forget
from coldstart_udfs.feast.operations.put import put
from coldstart_udfs.locks import InUseError, whole, writing
from coldstart_udfs.made_from import MadeFrom
from recommender.cli.app import app
from recommender.data.tables import ingest
from recommender.pipeline import training
from recommender.pipeline.profiles import build_profiles
from recommender.pipeline.weighing import weigh
from tests.support.small_shop import LAST, apply

CUTOFF = LAST - timedelta(days=22)
MENDED = "run `coldstart profiles --data {shop}/data --repo {shop}/feature_repo`"


@pytest.fixture(scope="module")
def trained(unapplied_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    shop = tmp_path_factory.mktemp("trained") / "shop"
    shutil.copytree(unapplied_shop, shop)
    store = apply(shop / "feature_repo")
    store.materialize(LAST - timedelta(days=400), LAST + timedelta(days=1))
    train(shop)
    apply(shop / "feature_repo")
    return shop


@pytest.fixture
def shop(unapplied_shop: Path, tmp_path: Path) -> Path:
    shop = tmp_path / "shop"
    shutil.copytree(unapplied_shop, shop)
    apply(shop / "feature_repo")
    return shop


def train(shop: Path) -> None:
    training.train(shop / "data", shop / "feature_repo", shop / "data" / "bundle", cutoff=CUTOFF)


def invoke(shop: Path, *command: str) -> Result:
    """A command on the shop; its options name its folders."""
    known = {"recommend": ("repo", "bundle"), "skew": ("repo", "bundle"), "train": ("data", "repo", "bundle")}
    places = {"data": shop / "data", "repo": shop / "feature_repo", "bundle": shop / "data" / "bundle"}
    options = [word for name in known[command[0]] for word in (f"--{name}", str(places[name]))]
    return CliRunner().invoke(app, [*command, *options])


def other_words(shop: Path) -> None:
    """What a later `coldstart ingest` writes."""
    items = shop / "data" / "items.parquet"
    with duckdb.connect() as con:
        con.execute(f"CREATE TABLE items AS SELECT * REPLACE ('new ' || description AS description) FROM '{items}'")
        con.execute(f"COPY items TO '{items}' (FORMAT parquet)")


def test_training_after_ingest_without_profiles_is_refused(shop: Path) -> None:
    other_words(shop)
    with pytest.raises(ColdStartError) as refused:
        train(shop)
    said = str(refused.value)
    assert said.startswith(f"the sources of {shop}/feature_repo were made from other data (4 items, 4 users, 7 inter")
    assert MENDED.format(shop=shop) in said
    assert not (shop / "data" / "bundle").exists()
    build_profiles(shop / "data", shop / "feature_repo")
    train(shop)


def test_training_before_any_profiles_is_refused(shop: Path) -> None:
    for path in (shop / "feature_repo" / "data").iterdir():
        if path.suffix != ".db":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ColdStartError, match="has no sources yet; " + MENDED.format(shop=shop)):
        train(shop)


def test_profiles_that_were_killed_while_they_wrote_are_named(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        if target.name == "user_profiles.parquet":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        build_profiles(shop / "data", shop / "feature_repo")
    with pytest.raises(ColdStartError, match="was stopped while it wrote the sources .* " + MENDED.format(shop=shop)):
        train(shop)


def test_a_put_and_an_erasure_are_no_other_data(shop: Path, tmp_path: Path) -> None:
    repo = shop / "feature_repo"
    put(repo, "user", "eve", "a garden cafe", [])
    forget(repo, "user", "cy", data=shop / "data", cache=tmp_path / "cache.sqlite")
    train(shop)
    manifest = json.loads((shop / "data" / "bundle" / "manifest.json").read_text())
    known = MadeFrom.of_repo(repo)
    assert known is not None
    assert manifest["data_sha256"] == known.sha256


def test_descriptions_that_feast_does_not_return_are_noticed(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = training.read_features

    def without(rows: slice) -> None:
        def read_without(*arguments: Any) -> Any:
            users, items = read(*arguments)
            texts = list(items.descriptions)
            texts[rows] = [""] * len(texts[rows])
            return users, replace(items, descriptions=texts)

        monkeypatch.setattr(training, "read_features", read_without)

    without(slice(None))
    with pytest.raises(ColdStartError, match="no description for 4 of 4 items that have one, such as flag; run"):
        train(shop)
    without(slice(0, 1))
    with pytest.warns(UserWarning, match="no description for 1 of 4 items"):
        train(shop)


def test_answers_warn_of_a_bundle_of_other_data(trained: Path, tmp_path: Path) -> None:
    asked = ("recommend", "--description", "a lamp")
    fine = invoke(trained, *asked)
    assert fine.exit_code == 0, fine.output + str(fine.exception)
    assert "warning" not in fine.stderr
    known = MadeFrom.of_repo(trained / "feature_repo")
    assert known is not None
    try:
        replace(known, sha256="of other data").write(trained / "feature_repo")
        said = "data/bundle was trained on other data than the sources of "
        for command in (asked, ("skew",)):
            warned = invoke(trained, *command)
            assert warned.exit_code == 0, warned.output + str(warned.exception)
            assert warned.stderr.count(said) == 1
            assert "run `coldstart train`, then `feast -c" in warned.stderr
        replace(known, complete=False).write(trained / "feature_repo")
        assert "the last `coldstart profiles` was stopped" in invoke(trained, *asked).stderr
    finally:
        known.write(trained / "feature_repo")


def test_apply_warns_of_an_ingest_without_profiles(shop: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        apply(shop / "feature_repo")
    other_words(shop)
    with pytest.warns(UserWarning, match="were made from other data .*; run `coldstart profiles --data "):
        apply(shop / "feature_repo")


@contextmanager
def another(place: Path) -> Iterator[str]:
    """Another command that writes there; what is said of it."""
    with writing(place, command="coldstart other"):
        yield f"is being written by `coldstart other` (process {os.getpid()} on "


def test_commands_that_change_a_repository_or_the_tables_refuse_each_other(shop: Path, tmp_path: Path) -> None:
    data, repo = shop / "data", shop / "feature_repo"
    before = {path: path.read_bytes() for path in shop.rglob("*.parquet")}
    with another(whole(repo / "data")) as said:
        for call in (
            lambda: train(shop), lambda: weigh(data, repo), lambda: build_profiles(data, repo),
            lambda: forget(repo, "user", "cy", data=data, cache=tmp_path / "cache.sqlite"),
        ):  # fmt: skip
            with pytest.raises(InUseError) as refused:
                call()
            assert said in str(refused.value)
        put(repo, "user", "eve", "a garden cafe", [])  # takes no notice of training
    with another(data / "bundle") as said, pytest.raises(InUseError) as refused:
        train(shop)
    assert said in str(refused.value)
    with another(whole(data)) as said:
        for call in (
            lambda: ingest(data, data), lambda: forget(repo, "user", "cy", data=data, cache=tmp_path / "cache.sqlite")
        ):  # fmt: skip
            with pytest.raises(InUseError) as refused:
                call()
            assert said in str(refused.value)
    assert all(path.read_bytes() == content for path, content in before.items())


def test_one_search_at_a_time_writes_a_journal(shop: Path) -> None:
    with another(shop / "data" / "bundle") as said:
        refused = invoke(shop, "train", "--search", "1")
    assert said in str(refused.exception)
    assert not list((shop / "data").glob("bundle*"))
