"""A link from a source shop to a target shop: what a profile in the one says of the other.

A link is a folder with a manifest (`link.json`) and one file of arrays, without pickle. It maps a profile of the source
to an expected profile in the target's embedding space, and to lifts of the target's items: how much more often than
others such a person takes items of each topic. Topics are groups of items whose texts are alike, on several levels.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError, FingerprintError
from coldstart_udfs.files import write_text
from coldstart_udfs.profile import Vectors

MANIFEST = "link.json"
_FORMAT = 1
# What is added to both rates of a topic: a lift of few buyers is small. And the least share that a rate, or the part of
# a profile along the centre, counts as.
_PRIOR, _LEAST = 0.1, 0.05
_ARRAYS: dict[str, tuple[str, ...]] = {
    "centre": ("d",), "whitening": ("d", "d"), "profile_bias": ("e",), "profile_map": ("d", "e"), "rates": ("c",),
    "rate_bias": ("c",), "rate_map": ("d", "c"), "topics": ("c", "e"), "levels": ("c",),
}  # fmt: skip


@dataclass(frozen=True)
class LinkAbout:
    """What a link says about itself.

    Attributes:
        source: the source shop's folder, absolute.
        method: "shared users", or "shared space" where too few users are in both.
        source_fingerprint: the encoder of the source's profiles.
        target_fingerprint: the encoder of the target's items.
        shared_users: number of users in both shops who agreed; the map was learned from them.
        ridge: λ of the map, per user.
        strength: what a lift is multiplied by when it is added to a score; 0 if the map did not help.
        figures: NDCG@20 on held-out users, without and with the link, and the 95 % interval of the difference.
    """

    source: str
    method: str
    source_fingerprint: str
    target_fingerprint: str
    shared_users: int
    ridge: float
    strength: float
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Link:
    """The map of a link, with d numbers in a profile of the source, e in an embedding of the target, and c topics.

    Attributes:
        about: what it says about itself.
        centre: (d,), the mean embedding of the source's items.
        whitening: (d, d), makes all directions in which they differ count.
        profile_bias: (e,), with `profile_map` the expected unit profile in the target.
        profile_map: (d, e).
        rates: (c,), the share of the users who take something of each topic.
        rate_bias: (c,), with `rate_map` that share among people with such a profile.
        rate_map: (d, c).
        topics: (c, e), the centre of each topic.
        levels: (c,), the level of each topic; an item has one topic on each level.
    """

    about: LinkAbout
    centre: NDArray[np.float32]
    whitening: Vectors
    profile_bias: NDArray[np.float32]
    profile_map: Vectors
    rates: NDArray[np.float32]
    rate_bias: NDArray[np.float32]
    rate_map: Vectors
    topics: Vectors
    levels: NDArray[np.int64]

    def mapped(self, profiles: Vectors) -> Vectors:
        """(n, e) float32: the expected unit profiles in the target; zero rows where a profile is zero.

        Args:
            profiles: (n, d) float32, of the source.
        """
        known = np.asarray(profiles.any(axis=1))
        found = self.profile_bias + self._directions(profiles) @ self.profile_map
        return np.asarray(found * known[:, None], dtype=np.float32)

    def lifts(self, profiles: Vectors, topics_of: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, m): by how much the logarithm of an item's rate is greater for each user; zero where a profile is zero.

        Args:
            profiles: (n, d) float32, of the source.
            topics_of: (m, levels), of `topics_of`.
        """
        rates = self.rate_bias + self._directions(profiles) @ self.rate_map
        lift = np.log(np.maximum((rates + _PRIOR) / (self.rates + _PRIOR), _LEAST)).astype(np.float32)
        lift[~profiles.any(axis=1)] = 0
        # An item without words has no topic: its lift is that of the column of zeros after the topics.
        padded = np.hstack([lift, np.zeros((len(lift), 1), np.float32)])
        return np.asarray(padded[:, topics_of].mean(axis=2))

    def topics_of(self, embeddings: Vectors) -> NDArray[np.int64]:
        """(m, levels): the topic of each item on each level, the nearest; c for items without words.

        Args:
            embeddings: (m, e) float32, of the target's items.
        """
        distance = (self.topics**2).sum(axis=1) - 2 * embeddings @ self.topics.T
        found = np.empty((len(embeddings), len(np.unique(self.levels))), np.int64)
        for column, level in enumerate(np.unique(self.levels)):
            places = np.flatnonzero(self.levels == level)
            found[:, column] = places[np.argmin(distance[:, places], axis=1)]
        found[~embeddings.any(axis=1)] = len(self.topics)
        return found

    def _directions(self, profiles: Vectors) -> Vectors:
        return directions(profiles, self.centre, self.whitening)

    def write(self, folder: Path) -> None:
        """Write manifest and arrays; the manifest comes last, so that a reader sees the old link or the new one."""
        folder.mkdir(parents=True, exist_ok=True)
        before = set(folder.glob("arrays-*.npz"))
        scratch = folder / "unfinished.npz"
        np.savez(scratch, **{name: getattr(self, name) for name in _ARRAYS})
        digest = _sha256(scratch)
        name = f"arrays-{digest[:16]}.npz"
        scratch.replace(folder / name)
        manifest = {"format": _FORMAT, "arrays": name, "sha256": digest, **asdict(self.about)}
        write_text(folder / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
        for old in before - {folder / name}:
            old.unlink()

    @classmethod
    def read(cls, folder: Path) -> Link:
        """Read a link; one that is read again and has not changed is that of before.

        Raises:
            ColdStartError: there is none, it is of another format, cut or altered.
        """
        manifest = read_manifest(folder)
        return _read(folder.resolve(), manifest["arrays"], json.dumps(manifest, sort_keys=True))


def directions(profiles: Vectors, centre: NDArray[np.floating[Any]], whitening: Vectors) -> Vectors:
    """(n, d) float32: in which direction profiles lie from the mean item, as unit vectors: U((P·s - centre)·whitening).

    s makes P·s as long along the centre as the centre is: how many items a profile sums up, and their weights, do not
    count. A zero profile is a zero vector.

    Args:
        profiles: (n, d) float32.
        centre: (d,), the mean embedding of the items that profiles sum up.
        whitening: (d, d).
    """
    along, length = profiles @ centre, np.linalg.norm(centre)
    least = _LEAST * np.linalg.norm(profiles, axis=1) * length
    scale = length**2 / np.maximum(np.maximum(along, least), 1e-12)
    found = unit((profiles * scale[:, None] - centre) @ whitening)
    return np.asarray(found * np.asarray(profiles.any(axis=1))[:, None], dtype=np.float32)


def unit(vectors: Vectors) -> Vectors:
    """(n, d) float32: the vectors with length 1; zero ones stay zero."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9), dtype=np.float32)


def is_linked(repo: Path) -> bool:
    """Whether a Feast repository has a link to another shop."""
    return (link_folder(repo) / MANIFEST).is_file()


def link_folder(repo: Path) -> Path:
    """Where the link of a Feast repository is."""
    return repo / "data" / "link"


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a link says about itself.

    Raises:
        ColdStartError: there is none, it is of another format, or damaged.
    """
    file = folder / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ColdStartError(f"{folder} has no link ({MANIFEST} is missing); `coldstart link` writes one") from None
    except (OSError, ValueError) as error:
        raise ColdStartError(f"{file} cannot be read: {error}; run `coldstart link` again") from None
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != _FORMAT:
        raise ColdStartError(
            f"{file} has the format {found!r}; this version reads {_FORMAT}: run `coldstart link` again"
        )
    if not isinstance(manifest.get("arrays"), str):
        raise ColdStartError(f"{file} cannot be read: it names no file of arrays; run `coldstart link` again")
    return dict(manifest)


def same_encoders(about: LinkAbout, *, source: str | None = None, target: str | None = None) -> None:
    """Raise a FingerprintError if profiles of the source, or items of the target, are of another encoder."""
    shops = (source, about.source_fingerprint, "source"), (target, about.target_fingerprint, "target")
    for found, expected, shop in shops:
        if found is not None and found != expected:
            raise FingerprintError(
                found=found, found_in=f"the {shop} shop", expected=expected, expected_by="the link",
                remedy="Run `coldstart link` again.",
            )  # fmt: skip


@lru_cache(maxsize=4)
def _read(folder: Path, name: str, manifest: str) -> Link:
    about: dict[str, Any] = json.loads(manifest)
    digest = about.pop("sha256", "")
    for key in ("format", "arrays"):
        about.pop(key)
    file = folder / name
    try:
        if _sha256(file) != digest:
            raise ValueError("its bytes are not those that were written")
        with np.load(file, allow_pickle=False) as opened:
            arrays = {key: opened[key] for key in _ARRAYS}
        _check(arrays)
        return Link(LinkAbout(**about), **arrays)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ColdStartError(f"{file} cannot be used: {error}; run `coldstart link` again") from None


def _check(arrays: dict[str, NDArray[Any]]) -> None:
    """Raise a ValueError unless the shapes fit together and all numbers are finite."""
    sizes: dict[str, int] = {}
    for name, shape in _ARRAYS.items():
        array = arrays[name]
        wanted = tuple(sizes.setdefault(letter, size) for letter, size in zip(shape, array.shape, strict=False))
        if array.shape != wanted or array.ndim != len(shape) or not np.isfinite(array).all():
            raise ValueError(f"{name} has the shape {array.shape}, or numbers that are not finite")


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
