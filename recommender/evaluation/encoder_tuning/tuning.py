"""Tune a shop's encoder, judge it, and write its folder: `coldstart encoder tune`."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from coldstart_udfs.console import Report, no_report
from coldstart_udfs.encoder.encoder import Encoder
from coldstart_udfs.encoder.multilingual import model_files
from coldstart_udfs.encoder.tuning.manifests import TunedManifest, write_learned
from coldstart_udfs.encoder.tuning.settings import TuningSettings
from coldstart_udfs.encoder.tuning.training import OnStep, TunedVectors, tune_encoder
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import write_text
from recommender.data.dataset import Dataset
from recommender.data.events import EventWeights
from recommender.evaluation.encoder_tuning.guard import Verdict, described, judge
from recommender.evaluation.encoder_tuning.parts import Parts, parts_of
from recommender.evaluation.encoder_tuning.stopping import RidgeRanking
from recommender.evaluation.resume import Finished

# The least cosine of a vector that the written folder makes to the one that was measured: rounding of bfloat16.
_LEAST_COSINE = 0.99
_PACKAGES = ("feast-coldstart", "torch", "transformers", "sentence-transformers")


@dataclass(frozen=True)
class Tuned:
    """A tuned encoder.

    Attributes:
        manifest: as in its folder.
        vectors: of the items before and after, and how the tuning went.
        verdict: of the guard.
    """

    manifest: TunedManifest
    vectors: TunedVectors
    verdict: Verdict


def tune_for_shop(
    data: Dataset, parent: str | None, out: Path, *, static: bool = False, settings: TuningSettings | None = None,
    weights: EventWeights | None = None, cutoff: datetime | None = None, data_sha256: str = "",
    on_step: OnStep = lambda step, values: None, report: Report = no_report,
) -> Tuned:
    """Tune an encoder by what users of a shop take together, and judge it by the whole recommender.

    Three fifths of the items, by group, are learned from, and only from interactions before the cut-off. A fifth tells
    when to stop, a fifth belongs to the guard. Beside `out` lies `.{name}.unfinished` until the encoder is written: the
    same call continues from there.

    Args:
        data: of the shop; its own embeddings are not used.
        parent: the encoder to tune, as `Encoder` takes it.
        out: the folder to write, which must not exist.
        static: tune the table of token vectors of the parent's backend `static`.
        settings: of the tuning; its seed also draws the items that are set aside.
        weights: of events.
        cutoff: see `parts_of`.
        data_sha256: of the tables, for the manifest.
        on_step: see `tune_encoder`.
        report: called with (stage, done, total).

    Raises:
        ColdStartError: `out` exists, the shop is too small, no step was better than none, or see `tune_encoder`.
    """
    settings, weights = settings or TuningSettings(), weights or EventWeights()
    if out.exists():
        raise ColdStartError(f"{out} exists; give another --out, or delete it: shops may use it by its fingerprint")
    groups = list(data.items.ids) if data.groups is None else data.groups
    parts = parts_of(data.interactions, groups, weights, seed=settings.seed, cutoff=cutoff)
    static = static and not model_files(parent).is_static  # a static model is its own table
    base = Encoder(parent, backend="static" if static else "torch", cache=False)
    unfinished = out.absolute().with_name(f".{out.name}.unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    folder = unfinished / "model"
    shutil.rmtree(folder, ignore_errors=True)
    ranking = RidgeRanking(data.items, parts.known, parts.taken, parts.stopping)
    vectors = tune_encoder(
        base.files, data.items.descriptions, parts.known, folder, judge=ranking, settings=settings, static=static,
        unfinished=unfinished / "steps", on_step=on_step, report=report,
    )  # fmt: skip
    if not vectors.steps:
        shutil.rmtree(unfinished)
        raise ColdStartError(
            f"no state after the first step ranks the items set aside better than {base.name} itself (NDCG@20 "
            f"{vectors.qualities[0]:.4f}), so nothing is written; recommend with {base.name}, or give more interactions"
        )
    _describe_folder(folder, base)
    tuned = Encoder(folder, backend="torch", cache=False)
    _check(tuned, data, vectors)
    key = hashlib.blake2b(vectors.before.tobytes() + vectors.after.tobytes(), digest_size=16)
    key.update(repr((settings, cutoff, tuned.fingerprint, len(data.interactions))).encode())
    verdict = judge(
        described(data, base, vectors.before), described(data, tuned, vectors.after), parts.guard, parts.later,
        ~parts.learned, seed=settings.seed, finished=Finished(unfinished / "guard", key.hexdigest()), report=report,
    )  # fmt: skip
    manifest = _manifest(base, tuned, parts, settings, vectors, verdict, ranking, data_sha256, cutoff)
    manifest.write(folder)
    write_learned(folder, [data.items.ids[row] for row in np.flatnonzero(parts.learned).tolist()])
    folder.chmod(0o755)
    os.replace(folder, out)
    shutil.rmtree(unfinished)
    return Tuned(manifest, vectors, verdict)


def _manifest(
    base: Encoder, tuned: Encoder, parts: Parts, settings: TuningSettings, vectors: TunedVectors, verdict: Verdict,
    ranking: RidgeRanking, data_sha256: str, cutoff: datetime | None,
) -> TunedManifest:  # fmt: skip
    figures = {
        "stopping: cosine before": ranking.cosine(vectors.before),
        "stopping: cosine after": ranking.cosine(vectors.after),
        "stopping: ridge before": vectors.qualities[0], "stopping: ridge after": vectors.qualities[vectors.steps],
    }  # fmt: skip
    for one in verdict.compared:
        figures |= one.figures()
    split: Mapping[str, object] = parts.told() | {"cutoff": None if cutoff is None else cutoff.isoformat()}
    return TunedManifest(
        fingerprint=tuned.fingerprint, parent=base.files.source, parent_backend=base.backend,
        parent_fingerprint=base.fingerprint, data_sha256=data_sha256, split=dict(split),
        settings=settings.as_json() | {"arithmetic": vectors.arithmetic, "steps": vectors.planned},
        steps=vectors.steps, figures={name: round(value, 6) for name, value in figures.items()},
        recommends=verdict.recommends, verdict=str(verdict), built=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={name: version(name) for name in _PACKAGES},
    )  # fmt: skip


def _describe_folder(folder: Path, base: Encoder) -> None:
    """Write the model card: the languages are those of the parent."""
    languages = ", ".join(f'"{code}"' for code in base.files.languages)
    front = f"---\nlanguage: [{languages}]\n---\n" if languages else ""
    write_text(
        folder / "README.md",
        f"{front}Tuned from {base.name} by what users of a shop take together: similar texts are bought by the same "
        "people. `tuned.json` says how, and what was measured. The licence is that of the parent.\n",
    )


def _check(tuned: Encoder, data: Dataset, vectors: TunedVectors) -> None:
    """Compare a few vectors of the written folder with those that are measured."""
    given = np.flatnonzero(vectors.after.any(axis=1))
    rows = given[np.unique(np.linspace(0, len(given) - 1, 16).astype(np.int64))]
    made = tuned.encode([data.items.descriptions[row] for row in rows.tolist()])
    cosine = float((made * vectors.after[rows]).sum(axis=1).mean())
    if not cosine >= _LEAST_COSINE:
        raise ColdStartError(
            f"the folder of the tuned encoder makes vectors with a cosine of {cosine:.3f} to those that were tuned, "
            f"and is not used; the network of {tuned.name} cannot be saved whole: tune another model"
        )
