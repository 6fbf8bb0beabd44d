"""`coldstart train --search N`: real Optuna on a made-up shop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coldstart_udfs.errors import ColdStartError
from recommender.tuning import search as module
from recommender.tuning.divisions import Division
from recommender.tuning.held_out_rankings import quality
from recommender.tuning.search import search
from recommender.tuning.weights import tune
from tests.support.searching import PARAMETERS, search_data, tried

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def data() -> Division:
    return search_data()


def test_the_first_trial_is_the_defaults_and_one_trial_changes_nothing(data: Division, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    measured: list[tuple[int, Mapping[str, float]]] = []
    found = search(
        PARAMETERS, data, trials=1, storage=tmp_path / "new" / "s.jsonl",
        progress=lambda done, total: told.append((done, total)),
        on_trial=lambda trial, values: measured.append((trial, values)),
    )  # fmt: skip
    assert told == [(0, 1), (1, 1)]
    best = tune(PARAMETERS, [data])
    tuned = best.parameters
    assert measured == [(1, {"ndcg@20": pytest.approx(quality(best.fitted, data.wanted).mean())})]
    assert replace(found, source={}) == replace(tuned, source={})
    assert found.source["components"] == "searched: the best of 1 settings on held-out interactions"
    assert found.source["metric_ridge"] == tuned.source["metric_ridge"]


def test_the_best_settings_are_used_and_are_no_worse_than_the_defaults(data: Division, tmp_path: Path) -> None:
    found = search(PARAMETERS, data, trials=4, storage=tmp_path / "s.jsonl")
    settings = [replace(PARAMETERS, **{name: type(getattr(PARAMETERS, name))(value) for name, value in one.items()})
                for one in tried(tmp_path / "s.jsonl")]  # fmt: skip
    values = [float(quality(tune(one, [data]).fitted, data.wanted).mean()) for one in settings]
    assert len(settings) == 4
    best = settings[int(np.argmax(values))]
    assert all(getattr(found, name) == getattr(best, name) for name in module._SPACE)
    assert max(values) >= values[0]
    assert {found.source[name] for name in module._SPACE} == {
        "searched: the best of 4 settings on held-out interactions"
    }


def test_a_larger_number_adds_to_what_was_tried_and_repeats_none_of_it(data: Division, tmp_path: Path) -> None:
    storage = tmp_path / "s.jsonl"
    search(PARAMETERS, data, trials=2, storage=storage)
    before = tried(storage)
    told: list[int] = []
    search(PARAMETERS, data, trials=4, storage=storage, progress=lambda done, total: told.append(done))
    assert told == [2, 3, 4]
    after = tried(storage)
    assert after[:2] == before
    assert len({tuple(sorted(one.items())) for one in after}) == 4
    again = search(PARAMETERS, data, trials=3, storage=storage)
    assert tried(storage) == after  # it has more than that already
    assert again.source["epochs"].startswith("searched: the best of 4 ")


def test_other_data_other_words_and_other_defaults_are_other_searches(data: Division, tmp_path: Path) -> None:
    storage = tmp_path / "s.jsonl"
    search(PARAMETERS, data, trials=1, storage=storage)
    renamed = replace(data.items, descriptions=[f"new {text}" for text in data.items.descriptions])
    later = data.wanted.select(np.arange(len(data.wanted)) > 5)
    for other in (
        (PARAMETERS, replace(data, items=renamed)),
        (PARAMETERS, replace(data, wanted=later)),
        (replace(PARAMETERS, epochs=10), data),
    ):
        told: list[int] = []
        search(*other, trials=1, storage=storage, progress=lambda done, total, told=told: told.append(done))
        assert told == [0, 1]


KILLED = """
import sys
from pathlib import Path
import recommender.tuning.search as module
from tests.support.searching import PARAMETERS, search_data
def stop(*args, **kwargs):
    print("in a trial", flush=True)
    import time; time.sleep(60)
module.tune = stop
module.search(PARAMETERS, search_data(), trials=2, storage=Path(sys.argv[1]))
"""


def test_a_search_that_is_killed_in_its_first_trial_tries_the_defaults_when_it_goes_on(
    data: Division, tmp_path: Path
) -> None:
    storage = tmp_path / "s.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(storage)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "in a trial\n"
        os.kill(process.pid, signal.SIGKILL)
    assert [file.name for file in tmp_path.iterdir()] == [storage.name]  # no lock is left that somebody waits for
    found = search(PARAMETERS, data, trials=1, storage=storage)
    assert (found.components, found.epochs) == (PARAMETERS.components, PARAMETERS.epochs)
    assert found.source["epochs"].startswith("searched: the best of 1 ")


def test_what_diverges_is_passed_over_and_what_is_wrong_is_said(
    data: Division, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ColdStartError, match="must have the same ids in the same order"):
        search(PARAMETERS, replace(data, users=data.users.take(np.arange(3))), trials=1, storage=tmp_path / "a.jsonl")
    diverging = replace(PARAMETERS, learning_rate=1e30)
    monkeypatch.setitem(module._SPACE, "learning_rate", lambda trial, name: 1e30)
    with pytest.raises(ColdStartError, match="none of 4 settings could be fitted: LightFM diverged"):
        search(diverging, data, trials=2, storage=tmp_path / "b.jsonl")


def test_errors_name_the_file_the_number_and_the_extra(
    data: Division, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = tmp_path / "foreign.jsonl"
    foreign.write_text("this is a diary\n")
    with pytest.raises(ColdStartError, match=r"foreign\.jsonl is no journal of a search"):
        search(PARAMETERS, data, trials=1, storage=foreign)
    assert foreign.read_text() == "this is a diary\n"
    with pytest.raises(ColdStartError, match="--search 0: give how many settings to try"):
        search(PARAMETERS, data, trials=0, storage=tmp_path / "s.jsonl")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ColdStartError, match=r"--search needs Optuna: pip install 'feast-coldstart\[search\]'"):
        search(PARAMETERS, data, trials=1, storage=tmp_path / "s.jsonl")
