"""Tune an encoder so that it tells labels apart: `coldstart encoder tune-labels`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.console import Report, no_report
from coldstart_udfs.encoder.encoder import Encoder
from coldstart_udfs.encoder.tuning.contrastive import contrastive_loss
from coldstart_udfs.encoder.tuning.manifests import TunedManifest
from coldstart_udfs.encoder.tuning.settings import TuningSettings
from coldstart_udfs.encoder.tuning.training import TunedVectors, tune_encoder
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import write_text
from coldstart_udfs.profile import Vectors
from coldstart_udfs.text.classify import Learned, learn, name_as_text
from coldstart_udfs.text.examples import examples_of

# Chosen on ten examples of each label from the training part of banking77, judged on other questions of it.
LABEL_SETTINGS = TuningSettings(layers=1, learning_rate=5e-4, batch=256)
# Of so many examples of a label one is held out.
_HELD_OUT = 5
_PACKAGES = ("feast-coldstart", "torch", "transformers", "sentence-transformers")


@dataclass(frozen=True)
class TunedForLabels:
    """An encoder that was tuned to tell labels apart.

    Attributes:
        manifest: as in its folder; it does not recommend, because nobody asked how it ranks.
        held_out: number of examples that were not learned from.
        before: the share of them that `classify()` gets right under the parent; NaN if there are none.
        after: the same under the tuned encoder.
        seconds: of the steps.
    """

    manifest: TunedManifest
    held_out: int
    before: float
    after: float
    seconds: float


def tune_for_labels(
    parent: str | None, texts: Iterable[str | None], labels: Iterable[str | None], out: Path, *,
    settings: TuningSettings | None = None, report: Report = no_report,
) -> TunedForLabels:
    """Tune the top layers of an encoder so that texts of one label, and its name, are near each other.

    Of a label with five examples or more, a fifth is held out, to tell what is gained. After an interruption the same
    call continues from `.{name}.unfinished` beside `out`.

    Args:
        parent: the encoder to tune, as `Encoder` takes it.
        texts: n texts.
        labels: n labels; as for `Classifier.fit`.
        out: the folder to write, which must not exist.
        settings: of the tuning; None: `LABEL_SETTINGS`. Its seed also draws the examples that are held out.
        report: called with (stage, done, total).

    Raises:
        ColdStartError: `out` exists, there are no two labels, or see `tune_encoder`.
    """
    settings = settings or LABEL_SETTINGS
    if out.exists():
        raise ColdStartError(f"{out} exists; give another --out, or delete it: tables may have its fingerprint")
    examples = examples_of(texts, labels)
    held_out = _held_out(examples, settings.seed)
    base = Encoder(parent, backend="torch", cache=False)
    names = sorted({label for label, _ in examples})
    column = {label: row for row, label in enumerate(names)}
    all_texts = [*map(name_as_text, names), *(text for _, text in examples)]
    owner = np.array([*range(len(names)), *(column[label] for label, _ in examples)])
    known = np.concatenate([np.ones(len(names), bool), ~held_out])
    labelled = sp.csr_matrix((known.astype(np.float32), (owner, np.arange(len(owner)))))
    labelled.eliminate_zeros()
    unfinished = out.absolute().with_name(f".{out.name}.unfinished")
    folder = unfinished / "model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    found = tune_encoder(
        base.files, all_texts, labelled, folder, judge=None, loss=contrastive_loss, settings=settings,
        unfinished=unfinished / "steps", report=report,
    )  # fmt: skip
    write_text(folder / "README.md", f"Tuned from {base.name} to tell labels apart; `tuned.json` says how.\n")
    before, after = (_right(examples, held_out, all_texts, vectors) for vectors in (found.before, found.after))
    manifest = _manifest(base, folder, examples, held_out, settings, found, {"before": before, "after": after})
    manifest.write(folder)
    folder.chmod(0o755)
    os.replace(folder, out)
    shutil.rmtree(unfinished)
    return TunedForLabels(manifest, int(held_out.sum()), before, after, found.seconds)


def _held_out(examples: Sequence[tuple[str, str]], seed: int) -> NDArray[np.bool_]:
    """(n,) whether an example is held out."""
    drawn = np.random.default_rng(seed)
    labels = np.array([label for label, _ in examples])
    found = np.zeros(len(examples), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        found[drawn.choice(rows, len(rows) // _HELD_OUT, replace=False)] = True
    return found


class _Known:
    """The vectors that texts have, in the place of an encoder."""

    def __init__(self, texts: Sequence[str], vectors: Vectors) -> None:
        self._rows, self._vectors = {text: row for row, text in enumerate(texts)}, vectors

    def encode(self, texts: Sequence[str]) -> Vectors:
        return self._vectors[[self._rows[text] for text in texts]]


def _right(
    examples: Sequence[tuple[str, str]], held_out: NDArray[np.bool_], texts: Sequence[str], vectors: Vectors
) -> float:
    """The share of the held-out examples that are labelled right by the others; NaN if there are none."""
    if not held_out.any():
        return float("nan")
    known = _Known(texts, vectors)
    learned: Learned = learn(known, [one for one, out in zip(examples, held_out, strict=True) if not out])
    asked = [one for one, out in zip(examples, held_out, strict=True) if out]
    found = learned.probabilities(known.encode([text for _, text in asked]), [text for _, text in asked])
    return float(np.mean([learned.labels[best] == label for best, (label, _) in zip(found.argmax(axis=1), asked,
                                                                                     strict=True)]))  # fmt: skip


def _manifest(
    base: Encoder, folder: Path, examples: Sequence[tuple[str, str]], held_out: NDArray[np.bool_],
    settings: TuningSettings, found: TunedVectors, right: Mapping[str, float],
) -> TunedManifest:  # fmt: skip
    figures = {f"held-out accuracy {when}": round(value, 6) for when, value in right.items() if not np.isnan(value)}
    return TunedManifest(
        fingerprint=Encoder(folder, backend="torch", cache=False).fingerprint, parent=base.files.source,
        parent_backend=base.backend, parent_fingerprint=base.fingerprint,
        data_sha256=hashlib.sha256(json.dumps(examples).encode()).hexdigest(),
        split={"labels": len({label for label, _ in examples}), "learned from": int((~held_out).sum()),
               "held out": int(held_out.sum())},
        settings=settings.as_json() | {"arithmetic": found.arithmetic, "steps": found.planned},
        steps=found.steps, figures=figures, recommends=False,
        verdict="it was tuned to tell labels apart, and not asked how well a recommender ranks with it",
        built=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={name: version(name) for name in _PACKAGES},
    )  # fmt: skip
