"""`coldstart train --search N`: what LightFM is fitted with, by trial on validation data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from coldstart_udfs.errors import ColdStartError
from recommender.model.lightfm import DivergedError
from recommender.model.pair_order import OnStep
from recommender.model.parameters import Parameters
from recommender.tuning.divisions import Division
from recommender.tuning.held_out_rankings import quality
from recommender.tuning.weights import tune

# A trial of another version is another result.
_PACKAGES = ("feast-coldstart", "lightfm-next", "numpy", "scipy")
_NO_OPTUNA = "--search needs Optuna: pip install 'feast-coldstart[search]'"


def search(
    parameters: Parameters, division: Division, *, trials: int, storage: Path,
    progress: Callable[[int, int], None] = lambda done, total: None, on_trial: OnStep | None = None,
) -> Parameters:
    """Try `trials` settings of LightFM, each with all weights learned; the best by NDCG@20 of what is held out.

    The first trial is `parameters` as they are, so that the result is never worse on this data. Each finished trial
    is in `storage` at once: a search that was stopped goes on there, and a larger N adds to it.

    Args:
        parameters: what is not searched.
        division: what is learned from, and what is wanted then.
        trials: how many in all, those of earlier runs on the same data counted.
        storage: a journal file of Optuna's; made where it is missing.
        progress: told (finished, all) trials.
        on_trial: called after each trial of this run that could be fitted, with its number from 1 on, counted with
            those of earlier runs, and {"ndcg@20": its quality}.

    Raises:
        ColdStartError: Optuna is not installed, or the file is no journal.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise ColdStartError(_NO_OPTUNA) from None
    if trials < 1:
        raise ColdStartError(f"--search {trials}: give how many settings to try, at least 1")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage.parent.mkdir(parents=True, exist_ok=True)
    _must_be_journal(storage)
    try:
        study = optuna.create_study(
            study_name=_fingerprint(parameters, division),
            direction="maximize", load_if_exists=True, storage=JournalStorage(JournalFileBackend(str(storage))),
        )  # fmt: skip
    except (ValueError, KeyError) as error:
        raise ColdStartError(f"{storage} is no journal of a search: {error}; move it away") from None
    states = optuna.trial.TrialState
    before = study.get_trials(deepcopy=False)
    # A sampler that began anew would draw again what was tried before the stop.
    study.sampler = optuna.samplers.TPESampler(seed=parameters.seed + len(before))
    # What was running when the search was stopped counts for nothing, the first trial included.
    if not any(trial.state.is_finished() or trial.state == states.WAITING for trial in before):
        study.enqueue_trial({name: getattr(parameters, name) for name in _SPACE})

    def count(*wanted: Any) -> int:
        return sum(trial.state in wanted for trial in study.get_trials(deepcopy=False))

    def objective(trial: Any) -> float:
        settings = replace(parameters, **{name: suggest(trial, name) for name, suggest in _SPACE.items()})
        try:
            tuned = tune(settings, [division])
        except DivergedError as error:
            raise optuna.TrialPruned(str(error)) from None
        trial.set_user_attr("parameters", tuned.parameters.as_json())
        values = quality(tuned.fitted, division.wanted)
        return float(values.mean()) if len(values) else 0.0

    progress(count(states.COMPLETE), trials)
    while count(states.COMPLETE) < trials and count(states.COMPLETE, states.PRUNED) < 2 * trials:
        study.optimize(objective, n_trials=1)
        trial = study.trials[-1]
        if on_trial is not None and trial.state == states.COMPLETE:
            on_trial(trial.number + 1, {"ndcg@20": trial.value})
        progress(count(states.COMPLETE), trials)
    finished = count(states.COMPLETE)
    if not finished:
        raise ColdStartError(f"none of {count(states.PRUNED)} settings could be fitted: LightFM diverged; "
                             "give weights of interactions in purchases, around 1")
    best = Parameters.of_json(study.best_trial.user_attrs["parameters"])
    searched = f"searched: the best of {finished} settings on held-out interactions"
    return replace(best, source=best.source | dict.fromkeys(_SPACE, searched))


# A component costs as much as an epoch; ranges around what LightFM's users take.
_SPACE: dict[str, Callable[[Any, str], Any]] = {
    "components": lambda trial, name: trial.suggest_int(name, 16, 128, step=16),
    "epochs": lambda trial, name: trial.suggest_int(name, 5, 30, step=5),
    "learning_rate": lambda trial, name: trial.suggest_float(name, 0.01, 0.1, log=True),
    "regularisation": lambda trial, name: trial.suggest_float(name, 0.0, 1e-5),
    "item_identity_weight": lambda trial, name: trial.suggest_float(name, 0.0, 1.0),
}


def _must_be_journal(storage: Path) -> None:
    """Optuna would add its lines to whatever file stands there."""
    if not storage.exists():
        return
    with storage.open("rb") as file:
        first = file.readline()
    if first and not first.startswith(b'{"op_code"'):
        raise ColdStartError(f"{storage} is no journal of a search; move it away")


def _fingerprint(parameters: Parameters, division: Division) -> str:
    """Trials on other data, with other defaults or by other versions are another study."""
    versions = [version(package) for package in _PACKAGES]
    known = (parameters.as_json(), division.users.fingerprint, versions)
    digest = hashlib.blake2b(repr(known).encode(), digest_size=12)
    for side in (division.users, division.items):
        labels = [list(one) for one in side.attributes]
        digest.update(repr((list(side.ids), list(side.descriptions), labels)).encode())
        for values in (side.embeddings, side.profiles, side.evidence):
            digest.update(np.ascontiguousarray(values).tobytes())
    for part in (division.learned, division.wanted, division.seen or division.learned):
        digest.update(repr(list(part.event_types)).encode())
        for name in ("users", "items", "weights", "timestamps", "events", "returned"):
            digest.update(np.ascontiguousarray(getattr(part, name)).tobytes())
    return digest.hexdigest()
