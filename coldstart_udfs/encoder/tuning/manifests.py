"""The manifest of a tuned encoder: what it was made from, what the guard measured, and whether it recommends."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from coldstart_udfs.encoder.model_files import ModelFiles
from coldstart_udfs.encoder.modules import read_json
from coldstart_udfs.encoder.multilingual import MULTILINGUAL
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import write_text

TUNED = "tuned.json"
_LEARNED = "learned_items.json"


@dataclass(frozen=True)
class TunedManifest:
    """What is known of a tuned encoder; `tuned.json` in its folder.

    Attributes:
        fingerprint: of the folder under the backend `torch`.
        parent: the encoder that was tuned, as `Encoder` takes it; None is the default.
        parent_backend: "static" if the table of token vectors of the parent's backend `static` was tuned, else "torch".
        parent_fingerprint: of the parent under this backend.
        data_sha256: of the tables.
        split: which items and interactions were learned from, and which were set aside.
        settings: of the tuning.
        steps: number of steps of the chosen state.
        figures: NDCG@20 by measurement, with the bounds of the differences.
        recommends: whether the guard found that the recommender ranks better with it.
        verdict: the same as a sentence, with the figures.
        accepted: when somebody decided to recommend with it all the same; None: nobody did.
        built: date and time, UTC.
        versions: of the packages that made it.
    """

    fingerprint: str
    parent: str | None
    parent_backend: str
    parent_fingerprint: str
    data_sha256: str
    split: dict[str, Any]
    settings: dict[str, Any]
    steps: int
    figures: dict[str, float]
    recommends: bool
    verdict: str
    built: str
    versions: dict[str, str]
    accepted: str | None = None

    def write(self, folder: Path) -> None:
        """Write it into the folder of the model."""
        write_text(folder / TUNED, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")


def read_tuned(folder: Path) -> TunedManifest | None:
    """The manifest in a model's folder; None if the model is not tuned.

    Raises:
        ColdStartError: it is damaged.
    """
    found = read_json(folder / TUNED)
    if not found:
        return None
    try:
        return TunedManifest(**found)
    except TypeError as error:
        raise ColdStartError(
            f"{folder / TUNED} is damaged ({error}); `coldstart encoder tune` makes the encoder again"
        ) from None


def write_learned(folder: Path, items: Sequence[str]) -> None:
    """Write the ids of the items that a tuned encoder has learned from into its folder."""
    write_text(folder / _LEARNED, json.dumps(list(items), ensure_ascii=False) + "\n")


def read_learned(model: str | None) -> frozenset[str]:
    """The ids of the items that an encoder has learned from; none if it is not tuned.

    Args:
        model: as in `enrichment.json`. Only a folder can hold a tuned encoder.
    """
    if model is None or not os.path.isdir(model):
        return frozenset()
    return frozenset(map(str, read_json(Path(model) / _LEARNED) or ()))


def tuned_from(files: ModelFiles) -> TunedManifest | None:
    """The manifest of an encoder; None if it is not tuned. Encoders that belong to this package are not looked at."""
    return None if files.model in (None, MULTILINGUAL) else read_tuned(files.folder)


def check_recommends(model: str | None) -> None:
    """Check that an encoder may make the vectors of a recommender.

    Args:
        model: as in `enrichment.json`. Only a folder can hold a tuned encoder.

    Raises:
        ColdStartError: it was tuned, the guard refused it, and nobody has accepted it.
    """
    if model is None or not os.path.isdir(model):
        return
    manifest = read_tuned(Path(model))
    if manifest is None or manifest.recommends or manifest.accepted:
        return
    parent = "null" if manifest.parent is None else json.dumps(manifest.parent)
    raise ColdStartError(
        f"the tuned encoder {model} is refused for recommending: {manifest.verdict}. Set \"model\" to {parent} in "
        f"enrichment.json, as before it was tuned; or decide otherwise with `coldstart encoder accept {model}`. SQL "
        "and search can use it as it is"
    )


def accept(folder: Path) -> TunedManifest:
    """Decide to recommend with a tuned encoder whatever the guard said; its figures stay in the manifest.

    Raises:
        ColdStartError: the folder holds no tuned encoder.
    """
    manifest = read_tuned(folder)
    if manifest is None:
        raise ColdStartError(f"{folder} has no {TUNED}; give a folder that `coldstart encoder tune` wrote")
    accepted = replace(manifest, accepted=datetime.now(UTC).isoformat(timespec="seconds"))
    accepted.write(folder)
    return accepted
