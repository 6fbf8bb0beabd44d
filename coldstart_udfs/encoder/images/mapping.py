"""The map from the space of pictures into that of texts: a ridge regression, beside the names of classes.

With v(p) the vector of a picture, the map is

    M̂(p) = (1 - w)·u(Σ_c p_c·M(name_c) - ē) + w·u((v(p) - v̄)·W),    divided by its length, u(x) = x/|x|

W is the ridge regression (Hoerl and Kennard 1970, doi:10.1080/00401706.1970.10488634) of the texts' vectors on the
pictures' vectors over items that have both, each less its mean. p_c are the probabilities that the network's own
classifier gives its classes, whose names are texts: the convex combination of Norouzi et al. (2013, arXiv:1312.5650).
M̂(p) points from the mean text to what the picture shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.encoder.encoder import Encoder
from coldstart_udfs.encoder.images.encoder import ImageEncoder
from coldstart_udfs.encoder.images.lite0 import Classifier
from coldstart_udfs.encoder.model_files import read_json
from coldstart_udfs.errors import ColdStartError, FingerprintError
from coldstart_udfs.files import staged, write_text
from coldstart_udfs.profile import Vectors

MANIFEST, ARRAYS = "picture-map.json", "picture-map.safetensors"
_FORMAT = 1

# What is tried on held-out items: λ, for unit vectors, and the share w of the regression beside the names of classes.
RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0)
SHARES = (0.0, 0.2, 0.35, 0.5, 1.0)
# Fewer items tell nothing; more than the second number are not needed to choose two numbers.
_LEAST, _MOST = 20, 1_000
_FOLDS = 10
_TOP = 10
# The map has to rank better than each of so many maps of shuffled pairs: by chance it does in one case of twenty.
_SHUFFLES = 19

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class MapQuality:
    """How well a map finds the own text of held-out items, of the same group as none of the fitted ones.

    Attributes:
        items: items that were held out in turn.
        top_10: share of them whose own text is among the 10 nearest of all items' texts.
        chance: the same for texts at random.
        mean_log_rank: mean of log(rank of the own text), by which λ and w are chosen; lower is better.
        shuffled_top_10: `top_10` of the best map whose pairs of picture and text were shuffled.
        shuffled_mean_log_rank: `mean_log_rank` of that map.
    """

    items: int
    top_10: float
    chance: float
    mean_log_rank: float
    shuffled_top_10: float
    shuffled_mean_log_rank: float


@dataclass(frozen=True)
class PictureMap:
    """A fitted map; `PictureMap.fit` makes one, `save` and `load` keep it.

    Attributes:
        image_fingerprint: of the encoder of the pictures.
        text_fingerprint: of the encoder of the texts.
        ridge: λ.
        share: w, the weight of the regression beside the names of classes; 1 without a classifier.
        items: the number of items that it was fitted on; 0 of a map of names of classes alone.
        quality: on held-out items; None of a map of names of classes alone.
        weights: (picture dimensions, text dimensions) W.
        picture_mean: (picture dimensions,) v̄.
        classes: (1000, text dimensions) M(name_c); empty without a classifier.
        class_mean: (text dimensions,) ē.
        classifier: of the image encoder; None without one.
    """

    image_fingerprint: str
    text_fingerprint: str
    ridge: float
    share: float
    items: int
    quality: MapQuality | None
    weights: Vectors = field(repr=False)
    picture_mean: Vectors = field(repr=False)
    classes: Vectors = field(repr=False)
    class_mean: Vectors = field(repr=False)
    classifier: Classifier | None = field(repr=False, default=None)

    @classmethod
    def fit(
        cls, pictures: Vectors, texts: Sequence[str], *, image_encoder: ImageEncoder, encoder: Encoder,
        groups: Sequence[Any] | None = None, seed: int = 0,
    ) -> PictureMap:  # fmt: skip
        """Fit a map on items that have a picture and a text.

        λ and w are chosen on held-out items. Items of one group are held out together, so that a variant tells nothing
        of its sibling.

        Args:
            pictures: (n, picture dimensions) float32, a unit vector for each item; of several pictures their mean,
                divided by its length.
            texts: n texts.
            image_encoder: made the vectors.
            encoder: of the texts.
            groups: n values; equal ones are variants of one thing. Items with equal texts are in one group anyway.
            seed: of the shuffles, and of the choice of items where there are more than 1,000.

        Raises:
            ColdStartError: there are too few items or groups, the lengths differ, or the map ranks no better than maps
                of shuffled pairs.
        """
        if len(pictures) != len(texts) or (groups is not None and len(groups) != len(texts)):
            raise ColdStartError(
                f"{len(pictures)} pictures, {len(texts)} texts"
                + (f" and {len(groups)} groups" if groups is not None else "") + "; give one of each for each item"
            )
        rows = _group_rows(texts, groups)
        if len(texts) < _LEAST or rows.max(initial=-1) < 3:
            raise ColdStartError(
                f"{len(texts)} items in {rows.max(initial=-1) + 1} groups have both picture and text; a map needs at "
                f"least {_LEAST} items in 4 groups"
            )
        targets = encoder.encode(texts).astype(np.float64)
        classifier = image_encoder.classifier
        none = np.zeros((0, targets.shape[1]), np.float32)
        classes = encoder.encode(classifier.names) if classifier else none
        shown = classifier.probabilities(pictures) @ classes if classifier else np.zeros(targets.shape)
        ridge, share, quality = _choose(
            pictures.astype(np.float64), shown.astype(np.float64), targets, rows, classifier is not None, seed
        )
        if not quality.mean_log_rank < quality.shuffled_mean_log_rank:
            raise ColdStartError(
                f"the map from pictures to texts is not kept: of {quality.items} held-out items {quality.top_10:.0%} "
                f"have their own text among the 10 nearest, of maps of shuffled pairs up to "
                f"{quality.shuffled_top_10:.0%}. The pictures do not tell what the texts say; give more items, or "
                "pictures of the items themselves"
            )
        fitted = _Fold(pictures.astype(np.float64), shown.astype(np.float64))
        return cls(
            image_encoder.fingerprint, encoder.fingerprint, ridge, share, len(texts), quality,
            fitted.weights(targets, ridge).astype(np.float32), fitted.mean.astype(np.float32), classes,
            fitted.shown_mean.astype(np.float32), classifier,
        )  # fmt: skip

    @classmethod
    def of_classes(cls, image_encoder: ImageEncoder, encoder: Encoder) -> PictureMap:
        """The map of the names of classes alone, which needs no items: w is 0.

        Args:
            image_encoder: one with a classifier, as the default.
            encoder: of the texts.

        Raises:
            ColdStartError: the image encoder has no classes with names.
        """
        classifier = image_encoder.classifier
        if classifier is None:
            raise ColdStartError(
                f"{image_encoder.name} knows no classes by name; fit a map on items that have picture and text"
            )
        classes = encoder.encode(classifier.names)
        return cls(
            image_encoder.fingerprint, encoder.fingerprint, RIDGES[-1], 0.0, 0, None,
            np.zeros((image_encoder.dimensions, encoder.dimensions), np.float32),
            np.zeros(image_encoder.dimensions, np.float32), classes, classes.mean(axis=0), classifier,
        )  # fmt: skip

    def predict(self, pictures: Vectors) -> Vectors:
        """M̂(p), in the space of the texts.

        Args:
            pictures: (n, picture dimensions) float32, vectors of the map's image encoder.

        Returns:
            (n, text dimensions) float32 of length 1; a zero vector gives zero.
        """
        if pictures.shape[1] != len(self.picture_mean):
            raise ColdStartError(
                f"vectors of {pictures.shape[1]} numbers; the map takes those of {self.image_fingerprint}, of "
                f"{len(self.picture_mean)}"
            )
        regressed: Any = (pictures - self.picture_mean) @ self.weights
        shown: Any = regressed * 0
        if self.classifier is not None and self.share < 1:
            shown = self.classifier.probabilities(pictures) @ self.classes - self.class_mean
        found = _unit((1 - self.share) * _unit(shown) + self.share * _unit(regressed))
        found[~pictures.any(axis=1)] = 0
        return np.asarray(found, dtype=np.float32)

    def save(self, folder: str | Path) -> None:
        """Write `picture-map.json` and `picture-map.safetensors` into a folder, both or neither."""
        from safetensors.numpy import save_file

        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS}
        if self.classifier is not None:
            arrays |= {"class_weights": self.classifier.weights, "class_bias": self.classifier.bias}
        with staged(Path(folder)) as scratch:
            save_file(arrays, scratch / ARRAYS)
            quality = None if self.quality is None else asdict(self.quality)
            about = {name: getattr(self, name) for name in _NUMBERS} | {"quality": quality}
            write_text(scratch / MANIFEST, json.dumps({"format": _FORMAT, **about}, indent=2) + "\n")

    @classmethod
    def load(
        cls, folder: str | Path, *, image_fingerprint: str | None = None, text_fingerprint: str | None = None
    ) -> PictureMap:
        """Read a map.

        Args:
            folder: where `save` wrote it.
            image_fingerprint: of the encoder whose vectors it shall take; None does not check it.
            text_fingerprint: of the encoder among whose vectors its results shall lie; None does not check it.

        Raises:
            ColdStartError: there is no map, or it is damaged or of a later version.
            FingerprintError: it is a map of other encoders.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        place = Path(folder)
        if not (place / MANIFEST).is_file():
            raise ColdStartError(f"{place} holds no {MANIFEST}; `coldstart embed --image … --map` fits one")
        about = read_json(place / MANIFEST)
        if about.pop("format", None) != _FORMAT:
            raise ColdStartError(f"{place / MANIFEST} is of another version than {_FORMAT}; fit the map again")
        try:
            arrays: dict[str, Any] = load_file(place / ARRAYS)
            classifier = None
            if "class_weights" in arrays:
                from coldstart_udfs.encoder.images.lite0 import class_names

                classifier = Classifier(class_names(), arrays.pop("class_weights"), arrays.pop("class_bias"))
            measured = about.pop("quality")
            quality = None if measured is None else MapQuality(**measured)
            found = cls(**about, quality=quality, **arrays, classifier=classifier)
        except (OSError, SafetensorError, TypeError, KeyError) as error:
            raise ColdStartError(f"the map in {place} is damaged ({error}); fit it again") from None
        for what, wanted, own in (
            ("pictures", image_fingerprint, found.image_fingerprint),
            ("texts", text_fingerprint, found.text_fingerprint),
        ):
            if wanted is not None and wanted != own:
                raise FingerprintError(
                    found=own, found_in=str(place), expected=wanted, expected_by=f"the encoder of the {what}",
                    remedy="Fit the map again with this encoder.",
                )  # fmt: skip
        return found


_NUMBERS = ("image_fingerprint", "text_fingerprint", "ridge", "share", "items")
_ARRAYS = ("weights", "picture_mean", "classes", "class_mean")


class _Fold:
    """The regression on some items, for any texts and any λ: one singular value decomposition."""

    def __init__(self, pictures: Numbers, shown: Numbers) -> None:
        self.mean, self.shown_mean = pictures.mean(axis=0), shown.mean(axis=0)
        self._left, self._values, self._right = np.linalg.svd(pictures - self.mean, full_matrices=False)

    def weights(self, targets: Numbers, ridge: float) -> Numbers:
        """W for texts' vectors (n, text dimensions)."""
        return np.asarray((self._right.T * self._shrunken(ridge)) @ (self._left.T @ (targets - targets.mean(axis=0))))

    def of_texts(self, pictures: Numbers, ridge: float) -> Numbers:
        """(m, n) what m pictures take of each of the n texts: their product with the texts is the regression."""
        return np.asarray(((pictures - self.mean) @ self._right.T * self._shrunken(ridge)) @ self._left.T)

    def _shrunken(self, ridge: float) -> Numbers:
        return np.asarray(self._values / (self._values**2 + ridge))


class _HeldOut(NamedTuple):
    """Items that are held out together: which they are, what they take of the other texts by λ, and their classes."""

    rows: NDArray[np.int64]
    others: NDArray[np.int64]
    shares: tuple[Numbers, ...]
    named: Numbers


def _choose(
    pictures: Numbers, shown: Numbers, targets: Numbers, groups: NDArray[np.int64], named: bool, seed: int
) -> tuple[float, float, MapQuality]:
    """λ and w with the lowest mean log rank on held-out items, and how well they do beside shuffled pairs."""
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(seed)
    if len(targets) > _MOST:
        kept = np.sort(rng.choice(len(targets), _MOST, replace=False))
        pictures, shown, targets, groups = pictures[kept], shown[kept], targets[kept], groups[kept]
    shares = SHARES if named else (1.0,)
    with threadpool_limits(1):  # the matrices are small
        folds = []
        for held in _held_out(groups, rng):
            fold = _Fold(pictures[~held], shown[~held])
            taken = tuple(fold.of_texts(pictures[held], ridge) for ridge in RIDGES)
            folds.append(
                _HeldOut(np.flatnonzero(held), np.flatnonzero(~held), taken, _unit(shown[held] - fold.shown_mean))
            )
        log_rank, top, ridge, share = _best(folds, targets, shares)
        shuffled = min(_best(folds, targets[rng.permutation(len(targets))], shares) for _ in range(_SHUFFLES))
    chance = min(1.0, _TOP / len(targets))
    return ridge, share, MapQuality(len(targets), top, chance, log_rank, shuffled[1], shuffled[0])


def _best(folds: Sequence[_HeldOut], texts: Numbers, shares: Sequence[float]) -> tuple[float, float, float, float]:
    """The lowest mean log rank of the own text, the share in the top 10, and the λ and w that give it."""
    ranks = np.zeros((len(RIDGES), len(shares), len(texts)))
    for fold in folds:
        mean = texts[fold.others].mean(axis=0)
        candidates = _unit(texts - mean).T
        by_name = fold.named @ candidates
        for place, taken in enumerate(fold.shares):
            regressed = _unit(taken @ (texts[fold.others] - mean)) @ candidates
            for number, share in enumerate(shares):
                # The nearest texts are the same before the sum of both directions is divided by its length.
                ranks[place, number, fold.rows] = _ranks((1 - share) * by_name + share * regressed, fold.rows)
    logs = np.log(ranks).mean(axis=2)
    place, number = np.unravel_index(logs.argmin(), logs.shape)
    return float(logs[place, number]), float((ranks[place, number] <= _TOP).mean()), RIDGES[place], shares[number]


def _ranks(scores: Numbers, own: NDArray[np.int64]) -> Numbers:
    """The rank of the own text of each row, 1 for the nearest; of equally near ones the middle."""
    mine = scores[np.arange(len(own)), own][:, None]
    better, equal = (scores > mine + 1e-9).sum(axis=1), (np.abs(scores - mine) <= 1e-9).sum(axis=1)
    return np.asarray(better + (equal + 1) / 2)


def _held_out(groups: NDArray[np.int64], rng: np.random.Generator) -> Iterator[NDArray[np.bool_]]:
    """Masks of the items to hold out in turn: each group alone where there are few items, else in ten parts."""
    distinct = np.unique(groups)
    if len(groups) <= 200:
        yield from (groups == group for group in distinct)
        return
    for part in np.array_split(rng.permutation(distinct), min(_FOLDS, len(distinct))):
        yield np.isin(groups, part)


def _group_rows(texts: Sequence[str], groups: Sequence[Any] | None) -> NDArray[np.int64]:
    """(n,) numbers of groups; items with equal texts, or of one given group, are in one."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = len(texts)
    edges = []
    for values in (texts, groups):
        if values is not None:
            numbers: dict[Any, int] = {}
            edges.append([numbers.setdefault(value, row) for row, value in enumerate(values)])
    rows = np.tile(np.arange(n), len(edges))
    linked = coo_matrix((np.ones(len(rows)), (rows, np.concatenate(edges or [[]]).astype(np.int64))), shape=(n, n))
    return np.asarray(connected_components(linked, directed=False)[1], dtype=np.int64) if n else np.zeros(0, np.int64)


def _unit(rows: Any) -> Any:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 1e-12)
