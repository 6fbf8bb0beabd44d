"""A trained recommender on disk: one file of arrays and a JSON manifest. Nothing in it runs when loaded."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import scipy.sparse as sp
from filelock import FileLock
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import write_text
from recommender.data.entities import Entities
from recommender.model.feature_matrix import Vocabulary
from recommender.model.fitted import Fitted
from recommender.model.known import KnownEntities
from recommender.model.lightfm import Factors, FeatureSpace
from recommender.model.parameters import Parameters
from recommender.model.predicted import AttributePopularity, PredictedProfiles
from recommender.model.rows import SparseRows

_FORMAT = 2
_MANIFEST = "manifest.json"
_PACKAGES = ("feast-coldstart", "lightfm-next", "numpy", "scipy", "scikit-learn")
_NEEDED = ("arrays", "sha256", "embedding_fingerprint", "parameters", "manifest_sha256")
# The name of what is not whole yet; killed in the middle, a process leaves it behind.
_UNFINISHED = "unfinished.npz"

Arrays = dict[str, NDArray[Any]]


class BundleError(ColdStartError):
    """A folder that is no usable bundle."""


def write_bundle(fitted: Fitted, path: Path, about: dict[str, Any]) -> None:
    """Write arrays, then the manifest that names them: whoever reads sees the old bundle or the new one.

    One process writes at a time, and takes away what an earlier one that was killed left behind.

    Raises:
        BundleError: the disk is full, or the folder cannot be written; the bundle that was there is as it was.
    """
    popularity = fitted.attribute_popularity
    late = len(fitted.items) - popularity.lifts.shape[1]
    arrays: Arrays = {
        **_pack_entities("user", fitted.users.whole), **_pack_entities("item", fitted.items.whole),
        **_pack_space("user", fitted.user_space), **_pack_space("item", fitted.item_space),
        **_pack_sparse("history", fitted.history.whole), **_pack_sparse("seen", fitted.seen.whole),
        **_pack_sparse("behaviour", fitted.widened(fitted.item_item)),
        "metric": fitted.item_metric, "scales": fitted.usual_deviations,
        "lightfm_users": fitted.factors.users, "lightfm_items": fitted.factors.items,
        "lightfm_biases": fitted.factors.biases, "taste": fitted.predicted_profiles.weights,
        "lifts": np.pad(popularity.lifts, ((0, 0), (0, late))), **_pack_texts("groups", popularity.labels),
    }  # fmt: skip
    try:
        path.mkdir(parents=True, exist_ok=True)
        with FileLock(path / ".lock"):
            _write(fitted, path, arrays, about)
    except OSError as error:
        raise BundleError(
            f"{path} cannot be written: {error}; the bundle that was there is as it was. Free some space, mend the "
            "folder's permissions, or choose another folder"
        ) from None


def _write(fitted: Fitted, path: Path, arrays: Arrays, about: dict[str, Any]) -> None:
    scratch = path / _UNFINISHED
    before = set(path.glob("arrays-*.npz"))
    name = ""
    try:
        np.savez(scratch, **arrays)  # type: ignore[arg-type]
        digest = _sha256(scratch)
        name = f"arrays-{digest[:16]}.npz"
        manifest = {
            "format": _FORMAT,
            "arrays": name,
            "sha256": digest,
            "bytes": scratch.stat().st_size,
            "embedding_fingerprint": fitted.items.fingerprint,
            "users": len(fitted.users),
            "items": len(fitted.items),
            "warm_items": len(fitted.item_space.ids),
            "interactions": int(fitted.history.whole.nnz),
            "feature_space": {
                side: {"identities": len(space.ids), "words": len(space.vocabulary.words),
                       "attributes": len(space.vocabulary.attributes)}
                for side, space in (("user", fitted.user_space), ("item", fitted.item_space))
            },
            "parameters": fitted.parameters.as_json(),
            "versions": {package: version(package) for package in _PACKAGES},
            **about,
        }  # fmt: skip
        text = json.dumps(manifest, ensure_ascii=False)
        manifest["manifest_sha256"] = _manifest_digest(json.loads(text))
        os.replace(scratch, path / name)
        write_text(path / _MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    except OSError:
        if name and path / name not in before:
            (path / name).unlink(missing_ok=True)
        raise
    finally:
        scratch.unlink(missing_ok=True)
    for old in before - {path / name}:
        old.unlink()
    for killed in path.glob(".unfinished-*"):
        shutil.rmtree(killed, ignore_errors=True)


def read_manifest(path: Path) -> dict[str, Any]:
    """What a bundle says about itself.

    Raises:
        BundleError: there is none, it is damaged, or of another format.
    """
    try:
        manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError(f"{path} holds no bundle ({_MANIFEST} is missing); `coldstart train` writes one") from None
    except OSError as error:
        raise BundleError(f"{path / _MANIFEST} cannot be read: {error}; mend its permissions") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path / _MANIFEST} is damaged: {error}; train again with `coldstart train`") from None
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise BundleError(
            f"{path} is a bundle of format {found}; this version reads format {_FORMAT}: train again with "
            "`coldstart train`"
        )
    missing = [name for name in _NEEDED if name not in manifest]
    if missing:
        raise BundleError(f"{path / _MANIFEST} lacks {missing}; train again with `coldstart train`")
    if _manifest_digest(manifest) != manifest["manifest_sha256"]:
        raise BundleError(
            f"{path / _MANIFEST} was altered: it is not what `coldstart train` wrote; restore it, or train again"
        )
    return manifest


def verified(path: Path) -> tuple[dict[str, Any], Path]:
    """The manifest of a bundle and its file of arrays, which is the one that was written.

    Raises:
        BundleError: it is missing, cut or altered.
    """
    manifest = read_manifest(path)
    return manifest, _verified(path, manifest)


def _verified(path: Path, manifest: dict[str, Any]) -> Path:
    file = path / Path(str(manifest["arrays"])).name
    if not file.is_file():
        raise BundleError(f"{file} is missing; train again with `coldstart train`")
    try:
        found = _sha256(file)
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error}; train again with `coldstart train`") from None
    if found != manifest["sha256"]:
        raise BundleError(
            f"{file} was altered or cut: its sha256 is {found}, the manifest says {manifest['sha256']}; train again "
            "with `coldstart train`"
        )
    return file


def read_bundle(path: Path) -> Fitted:
    """Load a bundle after checking that its arrays are the ones that were written."""
    manifest = read_manifest(path)
    try:
        return _assemble(path, manifest, _verified(path, manifest))
    except BundleError:
        # Whoever saves meanwhile takes the old arrays away: then there is a new manifest.
        if read_manifest(path)["sha256"] == manifest["sha256"]:
            raise
        return read_bundle(path)


def _assemble(path: Path, manifest: dict[str, Any], file: Path) -> Fitted:
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
    except (BadZipFile, ValueError, OSError) as error:
        raise BundleError(f"{file} cannot be read: {error}; train again with `coldstart train`") from None
    try:
        fingerprint = str(manifest["embedding_fingerprint"])
        users, items = (_unpack_entities(side, arrays, fingerprint) for side in ("user", "item"))
        shape, labels = (len(users), len(items)), _unpack_texts("groups", arrays)
        history, seen = (_unpack_sparse(name, arrays, shape) for name in ("history", "seen"))
        fitted = Fitted(
            parameters=Parameters.of_json(manifest["parameters"]),
            users=KnownEntities(users),
            items=KnownEntities(items),
            history=SparseRows(history),
            seen=SparseRows(seen),
            user_space=_unpack_space("user", arrays),
            item_space=_unpack_space("item", arrays),
            factors=Factors(arrays["lightfm_users"], arrays["lightfm_items"], arrays["lightfm_biases"]),
            item_metric=arrays["metric"],
            item_item=_unpack_sparse("behaviour", arrays, (shape[1], shape[1])),
            predicted_profiles=PredictedProfiles(arrays["taste"], labels),
            attribute_popularity=AttributePopularity(labels, arrays["lifts"]),
            usual_deviations=arrays["scales"],
        )
        _check_shapes(fitted)
    except ColdStartError as error:
        raise BundleError(f"{path} is no bundle of this version: {error}; train again with `coldstart train`") from None
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise BundleError(
            f"{path} is no bundle of this version: {error!r}; train again with `coldstart train`"
        ) from None
    return fitted


def _check_shapes(fitted: Fitted) -> None:
    """Arrays and feature spaces that belong together: a bundle put together by hand would score wrongly."""
    vocabulary, items, factors = fitted.item_space.vocabulary, len(fitted.items), fitted.factors
    d = fitted.items.embeddings.shape[1]
    columns = d + len(vocabulary.words) + len(vocabulary.attributes)
    for name, found, expected in (
        ("LightFM's user features", factors.users.shape, (fitted.user_space.width, factors.users.shape[-1])),
        ("LightFM's item features", factors.items.shape, (fitted.item_space.width, factors.users.shape[-1])),
        ("LightFM's item biases", factors.biases.shape, (fitted.item_space.width,)),
        ("the item metric", fitted.item_metric.shape, (columns, columns)),
        ("the users' vectors", fitted.users.embeddings.shape, (len(fitted.users), d)),
        ("the users' profiles", fitted.users.profiles.shape, (len(fitted.users), d)),
        ("the items' profiles", fitted.items.profiles.shape, (items, d)),
        ("the attributes' popularity", fitted.attribute_popularity.lifts.shape,
         (len(fitted.attribute_popularity.labels), items)),
        ("the usual deviations", fitted.usual_deviations.shape, (2,)),
    ):  # fmt: skip
        if found != expected:
            raise BundleError(f"the shape of {name} is {found}, the feature space has {expected}")
    for matrix in (fitted.history.whole, fitted.seen.whole, fitted.item_item):
        matrix.check_format(full_check=True)


def _manifest_digest(manifest: dict[str, Any]) -> str:
    rest = {name: value for name, value in manifest.items() if name != "manifest_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _pack_entities(side: str, entities: Entities) -> Arrays:
    return {
        **_pack_texts(f"{side}_ids", entities.ids),
        **_pack_texts(f"{side}_descriptions", entities.descriptions),
        **_pack_texts(f"{side}_attributes", [json.dumps(list(x)) for x in entities.attributes]),
        f"{side}_embeddings": entities.embeddings,
        f"{side}_profiles": entities.profiles,
        f"{side}_evidence": entities.evidence,
    }


def _unpack_entities(side: str, arrays: Arrays, fingerprint: str) -> Entities:
    return Entities(
        _unpack_texts(f"{side}_ids", arrays), _unpack_texts(f"{side}_descriptions", arrays),
        [json.loads(labels) for labels in _unpack_texts(f"{side}_attributes", arrays)],
        arrays[f"{side}_embeddings"], arrays[f"{side}_profiles"], arrays[f"{side}_evidence"], fingerprint,
    )  # fmt: skip


def _pack_space(side: str, space: FeatureSpace) -> Arrays:
    return {
        **_pack_texts(f"{side}_space_ids", space.ids),
        **_pack_texts(f"{side}_space_words", space.vocabulary.words),
        **_pack_texts(f"{side}_space_attributes", space.vocabulary.attributes),
        f"{side}_space_idf": space.vocabulary.idf,
        f"{side}_space_identity": np.array(space.identity_weight),
    }


def _unpack_space(side: str, arrays: Arrays) -> FeatureSpace:
    ids, words, attributes = (_unpack_texts(f"{side}_space_{part}", arrays) for part in ("ids", "words", "attributes"))
    vocabulary = Vocabulary(words, arrays[f"{side}_space_idf"], attributes)
    return FeatureSpace(ids, vocabulary, float(arrays[f"{side}_space_identity"]))


def _pack_sparse(name: str, matrix: sp.csr_matrix) -> Arrays:
    return {f"{name}_{part}": getattr(matrix, part) for part in ("data", "indices", "indptr")}


def _unpack_sparse(name: str, arrays: Arrays, shape: tuple[int, int]) -> sp.csr_matrix:
    parts = tuple(arrays[f"{name}_{part}"] for part in ("data", "indices", "indptr"))
    return sp.csr_matrix(parts, shape=shape)


def _pack_texts(name: str, texts: Sequence[str]) -> Arrays:
    """Strings as bytes and offsets: an array of strings is as wide as its longest, or needs pickle."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return {f"{name}.bytes": np.frombuffer(b"".join(encoded), dtype=np.uint8), f"{name}.offsets": offsets}


def _unpack_texts(name: str, arrays: Arrays) -> list[str]:
    data, offsets = arrays[f"{name}.bytes"].tobytes(), arrays[f"{name}.offsets"].tolist()
    return [data[a:b].decode("utf-8", "surrogatepass") for a, b in pairwise(offsets)]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
