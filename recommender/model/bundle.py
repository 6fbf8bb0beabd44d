"""A trained recommender on disk: one file of arrays and a JSON manifest. Nothing in it runs when loaded."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import scipy.sparse as sp
from filelock import FileLock

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import write_text
from recommender.data.entities import Entities
from recommender.model.bundle_arrays import Arrays, label_lists, read_arrays, sparse, texts
from recommender.model.feature_matrix import Vocabulary
from recommender.model.fitted import Fitted, Maps
from recommender.model.freshness import Births
from recommender.model.known import KnownEntities
from recommender.model.lightfm import Factors, FeatureSpace
from recommender.model.parameters import Parameters
from recommender.model.predicted import AttributePopularity, PredictedProfiles
from recommender.model.rows import SparseRows
from recommender.model.trends import WINDOWS, Trends

_FORMAT = 5
_MANIFEST = "manifest.json"
_PACKAGES = ("feast-coldstart", "lightfm-next", "numpy", "scipy", "scikit-learn", "rjieba", "icu4py")
_NEEDED = ("arrays", "sha256", "embedding_fingerprint", "parameters", "manifest_sha256")
_OF_ARRAYS = (*_NEEDED, "format", "bytes", "users", "items", "warm_items", "interactions", "feature_space")
# The name of what is not whole yet; killed in the middle, a process leaves it behind.
_UNFINISHED = "unfinished.npz"

# A manifest is a few kilobytes.
_MOST_MANIFEST = 2**24
_LONGEST_NAME = 100


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
        **_pack_sparse("item_item", fitted.widened(fitted.item_item)),
        "metric": fitted.item_metric, "maps": fitted.maps.weights, "map_centre": fitted.maps.centre,
        "item_came": fitted.births.moments.astype(np.int64),
        "moment": np.array(fitted.births.now, "datetime64[us]").astype(np.int64),
        "trends": fitted.trends.popularity, "newness": fitted.trends.newness,
        "activity": fitted.trends.activity,
        "lightfm_users": fitted.factors.users, "lightfm_items": fitted.factors.items,
        "lightfm_biases": fitted.factors.biases, "predicted": fitted.predicted_profiles.weights,
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
            "id": digest[:16],
            **_counts(fitted),
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
    file = path / _MANIFEST
    try:
        if file.stat().st_size > _MOST_MANIFEST:
            raise ValueError(f"it has {file.stat().st_size:,} bytes")
        manifest = json.loads(file.read_text(encoding="utf-8"))
        digest = _manifest_digest(manifest) if isinstance(manifest, dict) else ""
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError(f"{path} holds no bundle ({_MANIFEST} is missing); `coldstart train` writes one") from None
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error}; mend its permissions") from None
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file} is damaged: {error}; train again with `coldstart train`") from None
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise BundleError(
            f"{path} is a bundle of format {found}; this version reads format {_FORMAT}: train again with "
            "`coldstart train`"
        )
    missing = [name for name in _NEEDED if name not in manifest]
    if missing:
        raise BundleError(f"{path / _MANIFEST} lacks {missing}; train again with `coldstart train`")
    if digest != manifest["manifest_sha256"]:
        raise BundleError(
            f"{path / _MANIFEST} was altered: it is not what `coldstart train` wrote; restore it, or train again"
        )
    if not isinstance(manifest["arrays"], str) or len(manifest["arrays"]) > _LONGEST_NAME:
        raise BundleError(f"{file} names no file of arrays; train again with `coldstart train`")
    return manifest


def bundle_id(manifest: dict[str, Any]) -> str:
    """What a bundle is called. It stays when a user is erased from the arrays."""
    return str(manifest.get("id") or manifest["sha256"][:16])


def about_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """The entries of a manifest that are not of its arrays: where the bundle comes from."""
    return {name: value for name, value in manifest.items() if name not in _OF_ARRAYS}


def verified(path: Path) -> tuple[dict[str, Any], Path]:
    """The manifest of a bundle and its file of arrays, which is the one that was written.

    Raises:
        BundleError: it is missing, cut or altered.
    """
    manifest = read_manifest(path)
    return manifest, _verified(path, manifest)


def _verified(path: Path, manifest: dict[str, Any]) -> Path:
    file = path / Path(manifest["arrays"]).name
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
    """Load a bundle after checking that its arrays are the ones that were written, and all that they promise.

    Raises:
        BundleError: it is missing, altered, or contradicts itself; the message says what is wrong.
    """
    manifest = read_manifest(path)
    before = _identity(path, manifest)
    try:
        return _assemble(path, manifest, _verified(path, manifest))
    except (BundleError, OSError) as error:
        # A process that saves meanwhile takes the old arrays away; the new ones may have the same name.
        if _identity(path, read_manifest(path)) != before:
            return read_bundle(path)
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{path} cannot be read: {error}; train again with `coldstart train`") from None


def _identity(path: Path, manifest: dict[str, Any]) -> tuple[Any, ...]:
    """What differs between two savings of a bundle, also of the same arrays."""
    try:
        status = (path / Path(manifest["arrays"]).name).stat()
    except OSError:
        return (manifest["sha256"],)
    return manifest["sha256"], status.st_ino, status.st_mtime_ns


def _assemble(path: Path, manifest: dict[str, Any], file: Path) -> Fitted:
    try:
        arrays = read_arrays(file)
    except ColdStartError as error:
        _refuse(file, error)
    except MemoryError:
        raise BundleError(f"{file} does not fit into memory: it has {file.stat().st_size:,} bytes") from None
    try:
        fitted = _fitted(manifest, arrays)
        _check_shapes(fitted)
    except ColdStartError as error:
        _refuse(file, error)
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RuntimeError) as error:
        _refuse(file, error)
    try:
        _check_manifest(manifest, fitted, file)
    except ColdStartError as error:
        _refuse(path / _MANIFEST, error)
    return fitted


def _refuse(file: Path, error: Exception) -> NoReturn:
    what = str(error) if isinstance(error, ColdStartError) else repr(error)
    raise BundleError(f"{file} is no bundle of this version: {what}; train again with `coldstart train`") from None


def _fitted(manifest: dict[str, Any], arrays: Arrays) -> Fitted:
    fingerprint = manifest["embedding_fingerprint"]
    if not isinstance(fingerprint, str):
        raise ColdStartError(f"the manifest's embedding_fingerprint is {fingerprint!r}, no text")
    users, items = (_unpack_entities(side, arrays, fingerprint) for side in ("user", "item"))
    user_space, item_space = (
        _unpack_space(side, arrays, entities) for side, entities in (("user", users), ("item", items))
    )
    shape, labels = (len(users), len(items)), texts("groups", arrays, unique=True)
    history, seen = (sparse(name, arrays, shape) for name in ("history", "seen"))
    return Fitted(
        parameters=Parameters.of_json(manifest["parameters"]),
        users=KnownEntities(users),
        items=KnownEntities(items),
        history=SparseRows(history),
        seen=SparseRows(seen),
        user_space=user_space,
        item_space=item_space,
        factors=Factors(arrays["lightfm_users"], arrays["lightfm_items"], arrays["lightfm_biases"]),
        item_metric=arrays["metric"],
        item_item=sparse("item_item", arrays, (shape[1], shape[1])),
        maps=Maps(arrays["maps"], arrays["map_centre"]),
        trends=Trends(arrays["trends"], arrays["newness"], arrays["activity"]),
        births=Births(arrays["item_came"].view("datetime64[us]"), np.datetime64(int(arrays["moment"]), "us")),
        predicted_profiles=PredictedProfiles(arrays["predicted"], labels),
        attribute_popularity=AttributePopularity(labels, arrays["lifts"]),
    )


def _check_shapes(fitted: Fitted) -> None:
    """Arrays and feature spaces that belong together: a bundle put together by hand would score wrongly."""
    vocabulary, items, factors = fitted.item_space.vocabulary, len(fitted.items), fitted.factors
    d, groups = fitted.items.embeddings.shape[1], len(fitted.attribute_popularity.labels)
    columns = d + len(vocabulary.words) + len(vocabulary.attributes)
    predicted, mapped = fitted.predicted_profiles.weights.shape, factors.users.shape[-1] + 2 + len(WINDOWS)
    for name, found, expected in (
        ("LightFM's user features", factors.users.shape, (fitted.user_space.width, factors.users.shape[-1])),
        ("LightFM's item features", factors.items.shape, (fitted.item_space.width, factors.users.shape[-1])),
        ("LightFM's item biases", factors.biases.shape, (fitted.item_space.width,)),
        ("the item metric", fitted.item_metric.shape, (columns, columns)),
        ("the users' vectors", fitted.users.embeddings.shape, (len(fitted.users), d)),
        ("the users' profiles", fitted.users.profiles.shape, (len(fitted.users), d)),
        ("the items' profiles", fitted.items.profiles.shape, (items, d)),
        ("the predicted profiles", predicted, (predicted[0] and d + groups, d)),
        ("the attributes' popularity", fitted.attribute_popularity.lifts.shape, (groups, items)),
        ("the maps", fitted.maps.weights.shape, (columns, mapped)),
        ("the maps' means", fitted.maps.centre.shape, (mapped,)),
        ("when items came", fitted.births.moments.shape, (items,)),
        ("the trends", fitted.trends.popularity.shape, (len(WINDOWS), fitted.trends.popularity.shape[-1])),
        ("the items' newness", fitted.trends.newness.shape, fitted.trends.popularity.shape[1:]),
    ):  # fmt: skip
        if found != expected:
            raise ColdStartError(f"the shape of {name} is {found}, the feature space has {expected}")
    if (fitted.item_metric != fitted.item_metric.T).any():
        raise ColdStartError("the item metric is not symmetric")
    rows = fitted.items.rows(fitted.item_space.ids)
    if (rows < 0).any() or rows.max(initial=-1) >= fitted.trends.popularity.shape[1]:
        raise ColdStartError("the trends do not have all items with history")
    if len(fitted.trends.activity) > len(fitted.users):
        raise ColdStartError(
            f"the trends have the activity of {len(fitted.trends.activity)} users, and there are {len(fitted.users)}"
        )


def _check_manifest(manifest: dict[str, Any], fitted: Fitted, file: Path) -> None:
    """The counts that a manifest gives are those of the arrays."""
    for name, found in (*_counts(fitted).items(), ("bytes", file.stat().st_size)):
        if manifest.get(name, found) != found:
            raise ColdStartError(f"its {name} are {manifest[name]!r}, those of the arrays {found!r}")


def _counts(fitted: Fitted) -> dict[str, Any]:
    return {
        "users": len(fitted.users),
        "items": len(fitted.items),
        "warm_items": len(fitted.item_space.ids),
        "interactions": int(fitted.history.whole.nnz),
        "feature_space": {
            side: {"identities": len(space.ids), "words": len(space.vocabulary.words),
                   "attributes": len(space.vocabulary.attributes)}
            for side, space in (("user", fitted.user_space), ("item", fitted.item_space))
        },
    }  # fmt: skip


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
        texts(f"{side}_ids", arrays, unique=True), texts(f"{side}_descriptions", arrays),
        label_lists(f"{side}_attributes", arrays),
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


def _unpack_space(side: str, arrays: Arrays, entities: Entities) -> FeatureSpace:
    ids, words, attributes = (
        texts(f"{side}_space_{part}", arrays, unique=True) for part in ("ids", "words", "attributes")
    )
    idf = arrays[f"{side}_space_idf"]
    if len(idf) != len(words) or (idf <= 0).any():
        raise ColdStartError(f"{side}_space_idf is not a positive number for each of {len(words):,} words")
    unknown = set(ids) - set(entities.ids)
    if unknown:
        raise ColdStartError(f"{side}_space_ids names {len(unknown):,} that are not in {side}_ids")
    return FeatureSpace(ids, Vocabulary(words, idf, attributes), float(arrays[f"{side}_space_identity"]))


def _pack_sparse(name: str, matrix: sp.csr_matrix) -> Arrays:
    return {f"{name}_{part}": getattr(matrix, part) for part in ("data", "indices", "indptr")}


def _pack_texts(name: str, texts: Sequence[str]) -> Arrays:
    """Strings as bytes and offsets: an array of strings is as wide as its longest, or needs pickle."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return {f"{name}.bytes": np.frombuffer(b"".join(encoded), dtype=np.uint8), f"{name}.offsets": offsets}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
