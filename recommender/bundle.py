"""A trained recommender on disk: one file of arrays and a JSON manifest. Nothing in it runs when loaded."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import write_text
from recommender.features import Entities, FeatureSpace
from recommender.model import Factors, HybridRecommender, Parameters

_FORMAT = 1
_MANIFEST = "manifest.json"
_PACKAGES = ("feast-coldstart", "lightfm-next", "numpy", "scikit-learn")


class BundleError(ColdStartError):
    """A folder that is no usable bundle."""


def write_bundle(model: HybridRecommender, path: Path, about: dict[str, Any]) -> None:
    """Write arrays, then the manifest that names them: whoever reads sees the old bundle or the new one."""
    arrays = {
        **_pack_entities("user", model.users), **_pack_entities("item", model.items),
        **_pack_space("user", model._user_space), **_pack_space("item", model._item_space),
        **{f"lightfm_{name}": array for name, array in asdict(model._factors).items()},
        "seen_indptr": model._seen.indptr, "seen_indices": model._seen.indices,
        "metric": model._metric, "counts": model._counts,
    }  # fmt: skip
    path.mkdir(parents=True, exist_ok=True)
    scratch = path / f".unfinished-{os.getpid()}.npz"
    try:
        np.savez(scratch, **arrays)
        digest = _sha256(scratch)
        name = f"arrays-{digest[:16]}.npz"
        os.replace(scratch, path / name)
    finally:
        scratch.unlink(missing_ok=True)
    parameters = asdict(model.parameters)
    if math.isinf(parameters["evidence_scale"]):
        parameters["evidence_scale"] = None
    manifest = {
        "format": _FORMAT,
        "arrays": name,
        "sha256": digest,
        "embedding_fingerprint": model.fingerprint,
        "users": len(model.users),
        "items": len(model.items),
        "interactions": int(model._seen.nnz),
        "parameters": parameters,
        "versions": {package: version(package) for package in _PACKAGES},
        **about,
    }
    write_text(path / _MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    for old in path.glob("arrays-*.npz"):
        if old.name != name:
            old.unlink()


def read_manifest(path: Path) -> dict[str, Any]:
    """What a bundle says about itself."""
    try:
        manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{path} holds no bundle ({_MANIFEST} is missing); `coldstart train` writes one") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path / _MANIFEST} is damaged: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise BundleError(f"{path} is a bundle of format {found}; this version reads format {_FORMAT}")
    return manifest


def read_bundle(path: Path) -> HybridRecommender:
    """Load a bundle after checking that its arrays are the ones that were written."""
    manifest = read_manifest(path)
    file = path / str(manifest["arrays"])
    if not file.is_file():
        raise BundleError(f"{file} is missing; train again with `coldstart train`")
    found = _sha256(file)
    if found != manifest["sha256"]:
        raise BundleError(f"{file} was altered or cut: its sha256 is {found}, the manifest says {manifest['sha256']}")
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
    except (BadZipFile, ValueError, OSError) as error:
        raise BundleError(f"{file} cannot be read: {error}") from None
    parameters = dict(manifest["parameters"])
    if parameters["evidence_scale"] is None:
        parameters["evidence_scale"] = math.inf
    model = HybridRecommender(Parameters(**parameters))
    fingerprint = str(manifest["embedding_fingerprint"])
    model._users = _unpack_entities("user", arrays, fingerprint)
    model._items = _unpack_entities("item", arrays, fingerprint)
    model._user_space, model._item_space = _unpack_space("user", arrays), _unpack_space("item", arrays)
    model._factors = Factors(**{name: arrays[f"lightfm_{name}"] for name in Factors.__dataclass_fields__})
    indices = arrays["seen_indices"]
    model._seen = sp.csr_matrix(
        (np.ones(len(indices), np.float32), indices, arrays["seen_indptr"]),
        shape=(len(model._users), len(model._items)),
    )
    model._metric, model._counts = arrays["metric"], arrays["counts"]
    model._prepare()
    return model


def _pack_entities(side: str, entities: Entities) -> dict[str, NDArray[Any]]:
    return {
        **_pack_texts(f"{side}_ids", entities.ids),
        **_pack_texts(f"{side}_descriptions", entities.descriptions),
        **_pack_texts(f"{side}_attributes", [json.dumps(list(x)) for x in entities.attributes]),
        f"{side}_embeddings": entities.embeddings,
        f"{side}_profiles": entities.profiles,
        f"{side}_evidence": entities.evidence,
    }


def _unpack_entities(side: str, arrays: dict[str, NDArray[Any]], fingerprint: str) -> Entities:
    return Entities(
        _unpack_texts(f"{side}_ids", arrays), _unpack_texts(f"{side}_descriptions", arrays),
        [json.loads(labels) for labels in _unpack_texts(f"{side}_attributes", arrays)],
        arrays[f"{side}_embeddings"], arrays[f"{side}_profiles"], arrays[f"{side}_evidence"], fingerprint,
    )  # fmt: skip


def _pack_space(side: str, space: FeatureSpace) -> dict[str, NDArray[Any]]:
    return {
        **_pack_texts(f"{side}_space_ids", space.ids),
        **_pack_texts(f"{side}_space_tokens", space.tokens),
        **_pack_texts(f"{side}_space_attributes", space.attributes),
        f"{side}_space_codebook": space.codebook,
        f"{side}_space_identity": np.array(space.identity_weight),
    }


def _unpack_space(side: str, arrays: dict[str, NDArray[Any]]) -> FeatureSpace:
    ids, tokens, attributes = (
        _unpack_texts(f"{side}_space_{part}", arrays) for part in ("ids", "tokens", "attributes")
    )
    identity = float(arrays[f"{side}_space_identity"])
    return FeatureSpace(ids, tokens, attributes, arrays[f"{side}_space_codebook"], identity)


def _pack_texts(name: str, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Strings as bytes and offsets: an array of strings is as wide as its longest, or needs pickle."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return {f"{name}.bytes": np.frombuffer(b"".join(encoded), dtype=np.uint8), f"{name}.offsets": offsets}


def _unpack_texts(name: str, arrays: dict[str, NDArray[Any]]) -> list[str]:
    data, offsets = arrays[f"{name}.bytes"].tobytes(), arrays[f"{name}.offsets"].tolist()
    return [data[a:b].decode("utf-8", "surrogatepass") for a, b in pairwise(offsets)]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
