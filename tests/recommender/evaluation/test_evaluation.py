from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import coldstart_udfs
import recommender
from coldstart_udfs import Encoder
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.settings import ENRICHMENT_FILE, Enrichment
from recommender.cli.evaluate import evaluate as command
from recommender.cli.evaluate import show_evaluation
from recommender.data.contract import ContractError
from recommender.data.dataset import Dataset, files_in, read_dataset
from recommender.evaluation import baselines, comparison
from recommender.evaluation.comparison import Evaluation, evaluate, measure
from recommender.evaluation.resume import Finished
from recommender.measure.splits import make_splits
from tests.support.word_model import BACKEND, word_model
from tests.support.world import world

OTHERS = ["popularity", "TF-IDF cosine"]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return Dataset("world", *world())


@pytest.fixture(scope="module")
def found(data) -> Evaluation:
    return evaluate(data, "item_cold", seeds=2, methods=OTHERS, tuning=0)


def test_the_result_is_json_in_the_promised_shape(found) -> None:
    result = json.loads(json.dumps(found.result, allow_nan=False))
    assert {"dataset", "split", "seeds", "rows", "versions"} <= set(result)
    assert (result["dataset"], result["split"], result["seeds"]) == ("world", "item_cold", 2)
    promised = {"method", "candidates", "ndcg@20", "recall@20", "precision@10", "auc", "ci_low", "ci_high", "fit_s",
                "score_s", "coverage", "cold_share", "ndcg@20_std", "users", "tuning_s", "trials",
                "settings"}  # fmt: skip
    assert all(set(row) == promised for row in result["rows"])
    assert [(row["candidates"], row["method"]) for row in result["rows"]] == [
        (name, method) for name in ("cold", "warm", "overall") for method in (*OTHERS, "coldstart")
    ]
    for row in result["rows"]:
        assert (row["ci_low"] is None) is (row["method"] == "coldstart")
    assert result["versions"]["encoder"] == "stub"


def test_text_beats_popularity_on_new_items_and_the_interval_says_so(found) -> None:
    popularity, _, ours = found.result["rows"][:3]
    assert popularity["auc"] == 0.5
    assert ours["auc"] > 0.7
    assert 0 < popularity["ci_low"] < ours["ndcg@20"] - popularity["ndcg@20"] < popularity["ci_high"]


def test_rows_are_means_over_seeds_of_what_the_details_hold(found, data) -> None:
    row = next(row for row in found.result["rows"] if row["method"] == "TF-IDF cosine")
    values = found.details.per_user["TF-IDF cosine", "cold"]
    splits = [make_splits(data.interactions, data.users, data.items, "item_cold", seed=seed)[0] for seed in (0, 1)]
    each = [measure(split, baselines.METHODS["TF-IDF cosine"](split, seed))["cold"]
            for seed, split in enumerate(splits)]  # fmt: skip
    np.testing.assert_array_equal(values, np.concatenate([metrics.ndcg for metrics in each]))
    means = [metrics.ndcg.mean() for metrics in each]
    assert row["ndcg@20"] == pytest.approx(np.mean(means))
    assert row["ndcg@20_std"] == pytest.approx(abs(means[0] - means[1]) / np.sqrt(2))
    assert len(found.details.history["cold"]) == len(values)
    asked = splits[0].candidates("cold").users
    first = found.details.history["cold"][: len(asked)]
    bought = [len({i for u, i in zip(splits[0].train.users, splits[0].train.items, strict=True) if u == user})
              for user in asked]  # fmt: skip
    assert first.tolist() == bought
    np.testing.assert_array_equal(
        found.details.users["cold"], np.concatenate([split.candidates("cold").users for split in splits])
    )
    assert np.bincount(found.details.draws["cold"]).tolist() == [len(metrics.ndcg) for metrics in each]
    assert found.details.split.asked.tolist() == splits[0].asked.tolist()
    assert list(found.details.model.items.ids) == list(data.items.ids)


def test_the_last_note_says_the_seconds_of_each_method(found) -> None:
    note = found.result["notes"][-1]
    by_method = re.findall(r"([A-Za-z][\w\- ]*) ([\d.]+)(?:,|$)", note.split(";")[1])
    said = {name: float(seconds) for name, seconds in by_method}
    ours = [row for row in found.result["rows"] if row["method"] == "coldstart"]
    assert set(said) == {*OTHERS, "coldstart"}
    assert said["coldstart"] == pytest.approx(2 * (ours[0]["fit_s"] + ours[0]["score_s"]), abs=0.06)
    in_all = re.search(r"scoring: ([\d.,]+) in all", note)
    assert in_all is not None
    assert float(in_all.group(1)) == pytest.approx(sum(said.values()), abs=0.2)


def test_the_interval_is_around_the_difference_of_the_table(found) -> None:
    for kind in ("cold", "warm", "overall"):
        rows = {row["method"]: row for row in found.result["rows"] if row["candidates"] == kind}
        for method in OTHERS:
            lead = rows["coldstart"]["ndcg@20"] - rows[method]["ndcg@20"]
            low, high = rows[method]["ci_low"], rows[method]["ci_high"]
            assert -1 <= low < lead < high <= 1
            if max(-low, high) < 1:  # two seeds tell so little that an interval may end where NDCG does
                assert (low + high) / 2 == pytest.approx(lead)


def test_the_truth_scores_one_and_its_opposite_nothing(data) -> None:
    (held,) = make_splits(data.interactions, data.users, data.items, "warm")
    truth = held.wanted.toarray()
    best, worst = (measure(held, lambda rows, sign=sign: sign * truth[rows])["warm"] for sign in (1, -1))
    np.testing.assert_allclose([best.ndcg.min(), best.recall.min(), best.auc.min()], 1)
    assert worst.auc.max() == 0


def test_three_rankings_of_the_same_scores(data) -> None:
    cutoff = datetime(2024, 8, 1)
    late = np.where(data.interactions.items < 15, np.datetime64("2024-09-01", "us"), data.interactions.timestamps)
    (held,) = make_splits(
        replace(data.interactions, timestamps=late), data.users, data.items, "temporal", cutoff=cutoff
    )
    found = measure(held, lambda rows: np.where(held.cold, 1.0, 0.0)[None].repeat(len(rows), 0))
    assert set(found) == {"cold", "warm", "overall"}
    assert set(found["cold"].auc) == set(found["warm"].auc) == {0.5}
    assert len(found["cold"].shown) + len(found["warm"].shown) == len(found["overall"].shown) == 100
    assert found["overall"].auc.mean() != 0.5


def test_k_shot_has_rows_for_each_number_of_shots_and_details_pool_them(data) -> None:
    found = evaluate(data, "k_shot", seeds=1, shots=(1, 5), methods=["popularity"])
    rows = [row for row in found.result["rows"] if row["method"] == "coldstart" and row["candidates"] == "overall"]
    assert [row["shots"] for row in rows] == [1, 5]
    assert rows[0]["users"] == rows[1]["users"]
    assert rows[0]["ndcg@20_std"] is None
    users = int(rows[0]["users"])
    assert found.details.history["overall"].tolist() == [1] * users + [5] * users
    assert len(found.details.per_user["coldstart", "overall"]) == 2 * users
    assert found.details.split.shots == 1


class Watched:
    """What is fitted, in order: the methods of `OTHERS`, and our recommender by the progress that it reports."""

    def __init__(self) -> None:
        self.fitted: list[str] = []

    def report(self, stage: str, done: int, total: int) -> None:
        if stage == "fit" and done == total:
            self.fitted.append("coldstart")


def watched(monkeypatch, *, stop_at: str = "") -> Watched:
    """Have the methods say when they are fitted, and one of them be stopped by Ctrl-C."""
    watched = Watched()

    def counting(name: str, fit: Callable) -> Callable:
        def wrapped(*arguments):
            watched.fitted.append(name)
            if name == stop_at:
                raise KeyboardInterrupt
            return fit(*arguments)

        return wrapped

    for name in OTHERS:
        monkeypatch.setitem(baselines.METHODS, name, counting(name, baselines.METHODS[name]))
    return watched


def test_an_evaluation_that_was_stopped_goes_on_where_it_was(data, found, monkeypatch, tmp_path) -> None:
    unfinished = tmp_path / "out.json.unfinished"
    how = {"split": "item_cold", "seeds": 2, "methods": OTHERS, "tuning": 0, "unfinished": unfinished}
    with monkeypatch.context() as stopping:
        watched(stopping, stop_at="TF-IDF cosine")
        with pytest.raises(KeyboardInterrupt):
            evaluate(data, **how)
    with monkeypatch.context() as going_on:
        seen = watched(going_on)
        again = evaluate(data, **how, report=seen.report)
        assert seen.fitted == ["TF-IDF cosine", "coldstart", *OTHERS]
    with monkeypatch.context() as all_there:
        seen = watched(all_there)
        third = evaluate(data, **how, report=seen.report)
        assert seen.fitted == []
        other = replace(data, interactions=data.interactions.select(np.arange(1_200) > 3))
        evaluate(
            other, "item_cold", seeds=1, methods=["popularity"], tuning=0, unfinished=unfinished, report=seen.report
        )
        assert seen.fitted == ["coldstart", "popularity"], "results of other data are no results"
    for late in (again, third):
        for row, expected in zip(late.result["rows"], found.result["rows"], strict=True):
            assert {**row, "fit_s": 0, "score_s": 0} == {**expected, "fit_s": 0, "score_s": 0}
    assert list(third.details.model.users.ids) == list(data.users.ids)


def test_results_under_other_weights_types_of_events_or_code_are_no_results(
    data, monkeypatch, tmp_path
) -> None:
    unfinished = tmp_path / "out.json.unfinished"
    seen = watched(monkeypatch)

    def run(data: Dataset, settings: Enrichment | None = None) -> list[str]:
        seen.fitted.clear()
        evaluate(
            data, "item_cold", seeds=1, methods=["popularity"], tuning=0, settings=settings, unfinished=unfinished,
            report=seen.report,
        )  # fmt: skip
        return list(seen.fitted)

    anew = ["coldstart", "popularity"]
    assert run(data) == anew
    assert run(data) == []
    assert run(data, Enrichment(event_weights={"view": 0.3})) == anew
    assert run(data, Enrichment(event_weights={"view": 0.3})) == []
    assert run(data, Enrichment(event_weights={"view": 0.4})) == anew
    viewed = replace(data, interactions=replace(data.interactions, event_types=("view",)))
    assert run(viewed, Enrichment(event_weights={"view": 0.4})) == anew
    for package in (coldstart_udfs, recommender):
        changed = tmp_path / package.__name__
        changed.mkdir()
        (changed / "__init__.py").write_text("changed = True")
        monkeypatch.setattr(package, "__file__", str(changed / "__init__.py"))
        assert run(viewed) == anew
        assert run(viewed) == []


def test_our_recommender_weighs_events_and_evidence_as_it_is_told(data) -> None:
    viewed = replace(data, interactions=replace(data.interactions, event_types=("view",)))
    settings = Enrichment(event_weights={"view": 0.25}, evidence_scale=7.0)
    model = evaluate(viewed, "item_cold", seeds=1, methods=[], settings=settings).details.model
    assert set(model.fitted.history.whole.data.tolist()) == {0.25}
    assert model.parameters.evidence_scale == 7.0


def test_a_folder_of_something_else_is_left_alone(data, tmp_path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ColdStartError, match="move it away"):
        evaluate(data, "item_cold", seeds=1, methods=[], unfinished=tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_what_cannot_be_compared_says_so(data, monkeypatch) -> None:
    with pytest.raises(ColdStartError, match="unknown method 'best'; choose from random, popularity"):
        evaluate(data, "item_cold", methods=["best"])
    with pytest.raises(ColdStartError, match="seeds is 0"):
        evaluate(data, "item_cold", seeds=0)
    with pytest.raises(ColdStartError, match="tuning is -1"):
        evaluate(data, "item_cold", tuning=-1)
    nothing = np.full((100, 100), np.nan)
    monkeypatch.setitem(baselines.METHODS, "popularity", lambda split, seed: lambda rows: nothing[: len(rows)])
    with pytest.raises(ColdStartError, match="popularity: scores must be"):
        evaluate(data, "item_cold", seeds=1, methods=["popularity"])


# -- reading ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return word_model(tmp_path_factory.mktemp("model") / "words", ("lamp", *map(str, range(80))))


@pytest.fixture
def files(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    rows = [f"{n:02},2024-01-01,lamp {n},{n // 2},{'red' if n % 2 else 'blue'}" for n in range(80)]
    (tmp_path / "items.csv").write_text("\n".join(["item_id,event_timestamp,description,stem,colour", *rows]))
    events = [f"{user:03},{item:02},2024-{1 + (user + item) % 9:02}-0{1 + item % 9}" for user in range(25)
              for item in rng.choice(80, 8, replace=False)]  # fmt: skip
    (tmp_path / "interactions.csv").write_text("\n".join(["user_id,item_id,event_timestamp", *events]))
    return tmp_path


def test_users_are_those_of_the_interactions_where_there_is_no_file_of_them(files, model) -> None:
    read = read_dataset(*files_in(files), model=model, backend=BACKEND)
    assert read.name == files.name
    assert list(read.users.ids) == [f"{user:03}" for user in range(25)]
    assert not any(read.users.descriptions)
    assert list(read.items.attributes[0]) == ["stem=0", "colour=blue"]
    assert len(read.interactions) == 200
    assert read.groups is None
    assert read.searchers is None


def test_files_may_have_any_name_and_parquet_may_hold_numbers_as_ids(files, model) -> None:
    with duckdb.connect() as con:
        for table, name in (("items", "things"), ("interactions", "deeds")):
            types = "{'item_id': 'INTEGER'}"
            con.execute(f"COPY (FROM read_csv('{files / table}.csv', types = {types})) TO '{files / name}.parquet'")
    read = read_dataset(files / "things.parquet", None, files / "deeds.parquet", model=model, backend=BACKEND)
    assert sorted(read.items.ids, key=int) == [str(n) for n in range(80)]
    assert len(read.interactions) == 200


def test_a_column_of_groups_is_read_and_is_no_attribute(files, model) -> None:
    read = read_dataset(*files_in(files), model=model, backend=BACKEND, group_column="stem")
    assert list(read.groups) == [str(n // 2) for n in range(80)]
    assert list(read.items.attributes[3]) == ["colour=red"]
    (held,) = make_splits(read.interactions, read.users, read.items, "item_cold", groups=read.groups)
    assert (held.cold[::2] == held.cold[1::2]).all()
    with pytest.raises(ColdStartError, match=r"items.csv has no column 'stm' for groups; .*'stem'"):
        read_dataset(*files_in(files), group_column="stm")


def test_what_is_wrong_with_a_file_is_said_of_the_users_own_file(files) -> None:
    path = files / "interactions.csv"
    path.write_text(path.read_text() + "\n001,99,2024-01-01\n")
    with pytest.raises(ContractError, match=f"^{path}: column 'item_id': 1 row has an id that is not in the table"):
        read_dataset(*files_in(files))
    path.write_text("user,item_id,event_timestamp\n1,2,2024-01-01\n")
    with pytest.raises(ContractError, match=f"^{path}: column 'user_id' is missing; the columns are"):
        read_dataset(*files_in(files))
    with pytest.raises(ContractError, match=r"gone\.csv does not exist"):
        read_dataset(files / "gone.csv", None, path)
    (files / "items.doc").write_text("no table")
    with pytest.raises(ContractError, match=r"items\.doc has an unknown ending; possible are \.parquet, \.csv"):
        read_dataset(files / "items.doc", None, path)
    path.unlink()
    with pytest.raises(ContractError, match=r"has no interactions\.parquet \(or \.csv, \.jsonl, \.xlsx\)"):
        files_in(files)


# -- the command --------------------------------------------------------------------------------------------------


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command)
    return app


def invoke(app: typer.Typer, *arguments: str | Path):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def repo(tmp_path, model) -> Path:
    """A repository whose encoder is the small one."""
    repo = tmp_path / "feature_repo"
    repo.mkdir()
    (repo / "feature_store.yaml").touch()
    Enrichment(model=model, backend=BACKEND).write(repo / ENRICHMENT_FILE)
    return repo


def leave(monkeypatch, methods: list[str]) -> None:
    """No other methods than these to compare with.

    The table of methods is replaced, not changed: an entry that is deleted and put back stands at the end of it.
    """
    left = {name: fit for name, fit in baselines.METHODS.items() if name in methods}
    for module in (baselines, comparison):
        monkeypatch.setattr(module, "METHODS", left)


def test_the_command_prints_the_table_and_writes_the_json(app, files, repo, monkeypatch) -> None:
    leave(monkeypatch, OTHERS)
    out = files / "out.json"
    result = invoke(
        app, "--items", files / "items.csv", "--interactions", files / "interactions.csv", "--split", "temporal",
        "--cutoff", "2024-07-01", "--seeds", "1", "--group-column", "stem", "--repo", repo, "--json", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.output + str(result.exception)
    written = json.loads(out.read_text())
    assert {row["method"] for row in written["rows"]} == {*OTHERS, "coldstart"}
    assert not (files / "out.json.unfinished").exists()


def test_with_a_repository_its_settings_and_its_encoder_are_evaluated(app, files, repo, model, monkeypatch) -> None:
    leave(monkeypatch, ["popularity"])
    rows = {}
    for half_life in (5.0, 500.0):
        Enrichment(half_life_days=half_life, model=model, backend=BACKEND).write(repo / ENRICHMENT_FILE)
        out = files / "out.json"
        result = invoke(app, "--data", files, "--seeds", "1", "--repo", repo, "--json", out)
        assert result.exit_code == 0, result.output + str(result.exception)
        written = json.loads(out.read_text())
        assert written["versions"]["encoder"] == Encoder(model, backend=BACKEND).fingerprint
        rows[half_life] = {row["method"]: row["auc"] for row in written["rows"] if row["candidates"] == "overall"}
    assert rows[5.0]["popularity"] == rows[500.0]["popularity"]
    assert rows[5.0]["coldstart"] != rows[500.0]["coldstart"]


def test_an_encoder_that_is_named_comes_before_the_repositorys(app, files, repo) -> None:
    Enrichment(model="./of-the-repository").write(repo / ENRICHMENT_FILE)
    asked = ("--data", files, "--seeds", "1", "--repo", repo)
    assert "'./of-the-repository' does not exist" in str(invoke(app, *asked).exception)
    assert "'./named' does not exist" in str(invoke(app, *asked, "--model", "./named").exception)
    (repo / "feature_store.yaml").unlink()
    assert "feature_store.yaml" in str(invoke(app, *asked).exception)


def test_a_second_evaluation_into_one_file_is_refused_while_the_first_runs(app, files, repo, monkeypatch) -> None:
    leave(monkeypatch, ["popularity"])
    out, page = files / "out.json", files / "report.html"
    asked = ("--data", files, "--seeds", "1", "--tuning", "0", "--repo", repo, "--json")
    refused = []

    def fit_beside_another(split, seed):
        for other in ((out,), (files / "other.json", "--html", page)):
            refused.append(str(invoke(app, *asked, *other, "--split", "warm").exception))
        return popularity(split, seed)

    popularity = baselines.METHODS["popularity"]
    monkeypatch.setitem(baselines.METHODS, "popularity", fit_beside_another)
    result = invoke(app, *asked, out, "--html", page, "--split", "item_cold")
    assert result.exit_code == 0, result.output + str(result.exception)
    for said, path in zip(refused, (out, page), strict=True):
        assert f"{path} is being written by `coldstart evaluate` (process {os.getpid()} on " in said
    assert json.loads(out.read_text())["split"] == "item_cold"
    assert sorted(path.name for path in files.iterdir() if "out" in path.name) == ["out.json"]


def test_results_of_two_jobs_in_one_folder_are_never_mixed(tmp_path) -> None:
    mine, other = Finished(tmp_path / "kept", "a"), Finished(tmp_path / "kept", "b")
    made = [job.get("popularity", lambda value=value: {"x": np.array([value])})
            for job, value in ((mine, 1), (other, 2), (mine, 3), (other, 4))]  # fmt: skip
    assert [int(arrays["x"][0]) for arrays in made] == [1, 2, 1, 2]
    assert mine.folder("model") != other.folder("model")


def test_every_row_is_printed_with_what_was_left_out(found, capsys, monkeypatch) -> None:
    show_evaluation({**found.result, "notes": ["implicit ALS is omitted: it is not installed"]})
    printed = capsys.readouterr().out
    for method in (*OTHERS, "coldstart"):
        assert printed.count(method) == 3  # a row for each kind of candidates
    assert "world, item_cold, 2 seeds" in printed
    assert "implicit ALS is omitted: it is not installed" in printed


def test_arguments_that_contradict_each_other_say_so(app, files) -> None:
    for arguments, said in (
        (("--items", "a.csv", "--data", files), "--data stands for all three files"),
        (("--users", "a.csv"), "--users alone is not enough; give --items and --interactions"),
        (("--shots", "one"), "--shots is 'one'; give numbers with commas"),
        (("--data", files, "--json", files), "is a folder; name a file in it"),
    ):
        error = invoke(app, *arguments).exception
        assert isinstance(error, ColdStartError)
        assert said in str(error)
