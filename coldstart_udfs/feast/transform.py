"""The function of registered on-demand views: P' = P + α(n)·M(d) on the columns that Feast passes."""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np

from coldstart_udfs.encoder.encoder import shared_encoder
from coldstart_udfs.errors import ColdStartError, FingerprintError
from coldstart_udfs.profile import Vectors, enrich, evidence_weight, has_text, usable_rows

if TYPE_CHECKING:
    import pandas as pd

REQUEST_DESCRIPTION = "request_description"
FINGERPRINT_SUFFIX = "_fingerprint"

_REMEDY = "Run `coldstart profiles`, then `feast apply` and `feast materialize`, to embed everything again."


@dataclass(slots=True)
class Enricher:
    """The enrichment of one view: its parameters, without an encoder, as they stand in its registered source.

    Registries hold calls of this class with these keyword arguments, so they cannot be renamed.

    Attributes:
        name: the entity's name, the prefix of every output.
        profile: the input with P, a vector of `dimensions` numbers or NULL.
        evidence: the input with n.
        description: the input with d, or with its stored embedding.
        alpha: the weight of a description, in interactions; for items this is β.
        backend: the encoder's backend.
        fingerprint: the encoder's fingerprint; a stored vector with another one is an error.
        dimensions: length of a vector.
        stored: whether `description` is a stored embedding.
        fingerprints: the inputs with the fingerprints of stored vectors.
        request: whether requests have a `request_description`.
        evidence_scale: a in α(n) = α·a/(a+n); None keeps α constant.
        model: the encoder's model; None is the embedded one.
    """

    name: str
    profile: str
    evidence: str
    description: str
    alpha: float
    backend: str
    fingerprint: str
    dimensions: int
    stored: bool = False
    fingerprints: tuple[str, ...] = ()
    request: bool = False
    evidence_scale: float | None = None
    model: str | None = None

    @property
    def view(self) -> str:
        """The name of the on-demand view for online reads."""
        return f"{self.name}_enriched{'_request' if self.request else ''}"

    def columns(self, inputs: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Enrich columns of plain Python lists: the function of a view in `mode="python"`, for online reads.

        Each output is returned under its short and its `view__feature` name, because Feast 0.67 drops the features of a
        python view online when full names are asked for. Under its short name a profile is an `array` of 32-bit
        floats; all other values are plain Python values.

        A stored vector with NaN or infinity counts as NULL; a `ColdStartWarning` says how many there are.

        Raises:
            FingerprintError: stored vectors are of another encoder than the view's.
            ColdStartError: a stored vector is not `dimensions` long, or a description is neither text nor NULL.
        """
        sample = self._is_feast_sample(inputs)
        rows, flags = self._enrich(inputs, sample)
        profile = f"{self.name}_enriched_profile"
        plain: dict[str, list[Any]] = {profile: rows.tolist(), **flags}
        full = {f"{self.view}__{name}": values for name, values in plain.items()}
        if not sample:
            # Feast copies a list number by number, but reads an array directly. Under the full name, and when the view
            # is applied, Feast does not know the type and accepts only lists.
            plain[profile] = [array("f", row.tobytes()) for row in rows]
        return {**plain, **full}

    def frame(self, inputs: pd.DataFrame) -> pd.DataFrame:
        """Enrich a data frame: the function of a view in `mode="pandas"`, for history. Otherwise as `columns`."""
        import pandas as pd

        rows, flags = self._enrich(inputs, self._is_feast_sample(inputs))
        columns: dict[str, Any] = {f"{self.name}_enriched_profile": list(rows), **flags}
        cosine = f"{self.name}_enriched_cosine"
        columns[cosine] = np.array(columns[cosine], dtype=np.float64)  # None as NaN
        return pd.DataFrame(columns, index=inputs.index)

    def _enrich(self, inputs: Any, sample: bool) -> tuple[Vectors, dict[str, list[Any]]]:
        """The (n, d) enriched profiles, and the other outputs as lists, which for one row are faster than NumPy."""
        evidence = [0.0 if _is_null(n) else float(n) for n in inputs[self.evidence]]
        count = len(evidence)
        if sample:
            profiles = embeddings = np.ones((count, self.dimensions), dtype=np.float32)
            described = [True] * count
        else:
            for feature in self.fingerprints:
                self._check_fingerprints(inputs[feature], f"the source of {feature}")
            profiles, _ = self._stack(inputs[self.profile], self.profile)
            embeddings, described = self._embeddings(inputs, count)
        weights = evidence_weight(evidence, self.alpha, self.evidence_scale)
        enriched = enrich(profiles, embeddings, weights)
        return enriched, {
            f"{self.name}_is_cold": [n == 0 for n in evidence],
            f"{self.name}_evidence_weight": weights.tolist(),
            f"{self.name}_has_description": described,
            f"{self.name}_embedding_fingerprint": [self.fingerprint] * count,
            f"{self.name}_embedding_norm": list(map(math.sqrt, np.vecdot(embeddings, embeddings).tolist())),
            f"{self.name}_enriched_cosine": _cosines(profiles, enriched),
        }

    def _embeddings(self, inputs: Any, rows: int) -> tuple[Vectors, list[bool]]:
        """M(d) of the request's description, else of the stored one, and whether there is a description."""
        texts: list[Any] = [None] * rows
        if self.stored:
            embeddings, described = self._stack(inputs[self.description], self.description)
        else:
            embeddings, described = np.zeros((rows, self.dimensions), dtype=np.float32), [False] * rows
            texts = _texts(inputs[self.description], self.description)
        if self.request:
            asked = _texts(inputs[REQUEST_DESCRIPTION], REQUEST_DESCRIPTION)
            texts = [new if has_text(new) else old for new, old in zip(asked, texts, strict=True)]
        given = [row for row, text in enumerate(texts) if has_text(text)]
        if given:
            encoder = shared_encoder(self.model, backend=self.backend)
            self._check_fingerprints([encoder.fingerprint], "this process's encoder")
            embeddings[given] = encoder.encode([texts[row] for row in given])
            described = [known or has_text(text) for known, text in zip(described, texts, strict=True)]
        return embeddings, described

    def _is_feast_sample(self, inputs: Any) -> bool:
        """Whether this is the sample row of `feast apply`: every text is "hello world", every vector has one number."""
        profiles = inputs[self.profile]
        if len(profiles) != 1 or not _is_single(next(iter(profiles))):
            return False
        texts = [*self.fingerprints, *([] if self.stored else [self.description])]
        texts += [REQUEST_DESCRIPTION] if self.request else []
        return all(next(iter(inputs[text])) == "hello world" for text in texts)

    def _check_fingerprints(self, found: Sequence[Any], found_in: str) -> None:
        for name in set(found):
            if not _is_null(name) and name != self.fingerprint:
                raise FingerprintError(
                    found=name, found_in=found_in, expected=self.fingerprint,
                    expected_by=f"the view {self.view}", remedy=_REMEDY,
                )  # fmt: skip

    def _stack(self, values: Sequence[Any], feature: str) -> tuple[Vectors, list[bool]]:
        """(n, d) the vectors, zero for NULL, and whether each is neither NULL nor holds NaN or infinity."""
        # Some stores return an empty list for NULL.
        present = [not _is_null(value) and len(value) > 0 for value in values]
        vectors = list(values) if all(present) else list(compress(values, present))
        for vector in vectors:
            if len(vector) != self.dimensions:
                raise ColdStartError(
                    f"{feature} holds a vector of {len(vector)} numbers, the encoder gives {self.dimensions}. {_REMEDY}"
                )
        if vectors and isinstance(vectors[0], list):  # online: lists of Python numbers
            packed = bytearray().join([struct.pack(f"{self.dimensions}f", *vector) for vector in vectors])
            known = np.frombuffer(packed, dtype=np.float32).reshape(len(vectors), self.dimensions)
        else:
            known = np.asarray(vectors, dtype=np.float32).reshape(len(vectors), self.dimensions)
        usable = usable_rows(known, feature)
        if len(known) == len(present) and usable.all():
            return known, present
        result = np.zeros((len(present), self.dimensions), dtype=np.float32)
        rows = np.flatnonzero(present)[usable]
        result[rows] = known[usable]
        there = np.zeros(len(present), dtype=bool)
        there[rows] = True
        return result, there.tolist()


def _cosines(profiles: Vectors, enriched: Vectors) -> list[float | None]:
    """Cosine of P and P'; None if one of them is zero."""
    products = zip(
        np.vecdot(profiles, enriched).tolist(), np.vecdot(profiles, profiles).tolist(),
        np.vecdot(enriched, enriched).tolist(), strict=True,
    )  # fmt: skip
    return [both / math.sqrt(one * other) if one and other else None for both, one, other in products]


def _texts(values: Sequence[Any], name: str) -> list[Any]:
    for row, value in enumerate(values):
        if not (isinstance(value, str) or _is_null(value)):
            raise ColdStartError(
                f"{name} of row {row + 1} is {value!r:.80}, which is no text; give one string for each row, or None"
            )
    return list(values)


def _is_null(value: Any) -> bool:
    """Whether a value is None, or what pandas uses for it: NaN, NA or NaT."""
    if value is None or (isinstance(value, (float, np.floating)) and value != value):
        return True
    return type(value).__name__ in ("NAType", "NaTType")


def _is_single(value: Any) -> bool:
    return not _is_null(value) and len(value) == 1
