"""Compare encoders on a table of texts: languages, speed, nearest texts, and how well they rank new items."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import duckdb
import numpy as np

from coldstart_udfs.console import Report, no_report
from coldstart_udfs.encoder.encoder import Encoder
from coldstart_udfs.encoder.multilingual import MULTILINGUAL, is_installed
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.quoting import quote_name
from coldstart_udfs.tabular import read_file
from coldstart_udfs.text.languages import Detector
from recommender.data.dataset import read_dataset
from recommender.evaluation.baselines import ridge_map
from recommender.evaluation.comparison import measure
from recommender.measure.splits import make_splits

# Number of different texts that are encoded to measure speed, and of texts whose nearest one is shown.
SAMPLE, SHOWN = 300, 3
# Number of divisions into known and new items.
SEEDS = 3
# Texts before the clock starts: the first ones also load the model.
_WARM_UP = 8


@dataclass(frozen=True)
class Compared:
    """One encoder on the sample.

    Attributes:
        name: the model's name.
        backend: what runs it.
        dimensions: length of its vectors.
        known: the share of the texts, 0 to 1, that are in its languages or too short to tell; None if its model names
            no languages.
        texts_per_second: different texts of the sample, on this machine, without the cache.
        nearest: for each text of `Comparison.shown`, the most similar other text of the sample.
        ndcg: mean NDCG@20 of users on held-out items, which `ridge_map` ranks by these vectors alone, over three seeds;
            None without interactions.
    """

    name: str
    backend: str
    dimensions: int
    known: float | None
    texts_per_second: float
    nearest: tuple[str, ...]
    ndcg: float | None


@dataclass(frozen=True)
class Comparison:
    """The result of `compare_encoders`.

    Attributes:
        texts: number of different texts in the sample.
        shown: the texts whose nearest one is shown.
        encoders: in the order in which they were given.
    """

    texts: int
    shown: tuple[str, ...]
    encoders: tuple[Compared, ...]


def installed(models: Sequence[str] = ()) -> Iterator[tuple[str | None, str]]:
    """(model, backend) of the encoders that are installed, without a download, then of the given models."""
    yield None, "auto"
    if find_spec("model2vec"):
        yield None, "static"
    if is_installed():
        yield MULTILINGUAL, "auto"
    yield from ((model, "auto") for model in models if model != MULTILINGUAL or not is_installed())


def compare_encoders(
    items: Path, encoders: Sequence[tuple[str | None, str]], *, text: str = "description",
    interactions: Path | None = None, report: Report = no_report,
) -> Comparison:
    """Encode a sample of texts with each encoder.

    Args:
        items: a file of `coldstart_udfs.tabular.read_file`; with interactions, the items of the data contract.
        encoders: (model, backend) of each, as for `Encoder`.
        text: the column with the texts.
        interactions: the interactions of the data contract, for NDCG@20.
        report: called with (encoder, done, total).

    Raises:
        ColdStartError: the file has no such column, or fewer than two different texts; as `Encoder`.
        ContractError: the files break the data contract.
    """
    sample = _sample(items, text)
    places = np.linspace(0, len(sample), min(SHOWN, len(sample)), endpoint=False).astype(int)
    compared = []
    for done, (model, backend) in enumerate(encoders):
        encoder = Encoder(model, backend=backend, cache=False)
        report(encoder.name, done, len(encoders))
        encoder.encode(sample[:_WARM_UP])
        began = time.perf_counter()
        vectors = encoder.encode(sample)
        seconds = time.perf_counter() - began
        detector = Detector(encoder.files.languages)
        foreign = [detector.is_foreign(detector.language(one)) for one in sample]
        similar = vectors[places] @ vectors.T
        similar[np.arange(len(places)), places] = -np.inf
        ndcg = None if interactions is None else _ndcg(items, interactions, model, encoder.backend)
        compared.append(Compared(
            encoder.name, encoder.backend, vectors.shape[1], 1 - float(np.mean(foreign)) if detector.own else None,
            len(sample) / seconds, tuple(sample[place] for place in similar.argmax(axis=1)), ndcg,
        ))  # fmt: skip
    report("encoders", len(encoders), len(encoders))
    return Comparison(len(sample), tuple(sample[place] for place in places), tuple(compared))


def _ndcg(items: Path, interactions: Path, model: str | None, backend: str) -> float:
    data = read_dataset(items, None, interactions, model=model, backend=backend)
    # λ in the scale of the vectors: those of some encoders lie close together.
    ridge = float(data.items.embeddings.var(axis=0).sum())
    found = []
    for seed in range(SEEDS):
        (split,) = make_splits(data.interactions, data.users, data.items, "item_cold", seed=seed)
        scorer = ridge_map(split, seed, text="vectors", ridge=ridge)
        found.append(float(measure(split, scorer)["cold"].ndcg.mean()))
    return float(np.mean(found))


def _sample(path: Path, text: str) -> list[str]:
    """Different texts, the same ones in every run."""
    with duckdb.connect() as con:
        read_file(con, path, "given")
        if text not in (columns := con.table("given").columns):
            raise ColdStartError(f"{path} has no column {text!r}; it has {columns}")
        column = f"trim({quote_name(text)}::VARCHAR)"
        rows = con.execute(
            f"SELECT DISTINCT {column} AS text FROM given WHERE {column} <> '' ORDER BY hash(text), text LIMIT {SAMPLE}"
        ).fetchall()
    if len(rows) < 2:
        raise ColdStartError(f"{path}: column {text!r} has {len(rows)} different texts; at least 2 are compared")
    return [row[0] for row in rows]
