"""Which items to describe next: those from whose better description most is expected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from coldstart_udfs.console import Report, no_report
from coldstart_udfs.encoder.encoder import Encoder
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import Vectors, has_text
from coldstart_udfs.quoting import quote_name
from coldstart_udfs.tabular import read_file
from coldstart_udfs.text.coverage import MIN_WORDS, is_short
from coldstart_udfs.text.languages import Detector
from recommender.data.contract import ITEM_ID, USER_ID
from recommender.model.parameters import Parameters

# The share of the variance that a text leaves, from which it is unlike what users have.
_UNLIKE = 0.5
# Fewer texts than this share in other languages may be false alarms; they are read as the others are.
_FEW_TEXTS = 0.01
_FOREIGN, _SHORT = "other language", f"under {MIN_WORDS} words"

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """An item to describe.

    Attributes:
        item_id: its id.
        text: its description; "" if it has none.
        why: what is wrong with the text.
        users: number of users who have the item; None without interactions.
        reach: expected number of users: `users`, and for items that nobody has what their texts predict; 1 without
            interactions.
        uncertainty: the share of the variance of what users think of the item that is left, 0 to 1.
        gain: reach · uncertainty.
    """

    item_id: str
    text: str
    why: str
    users: int | None
    reach: float
    uncertainty: float
    gain: float


def to_describe(
    items: Path, interactions: Path | None, k: int, *, text: str = "description", encoder: Encoder,
    encoding: str | None = None, report: Report = no_report,
) -> list[Asked]:
    """The k items from whose better description most is expected, the first one most.

    The gain is reach · uncertainty. With M(d) the texts' embeddings and n_j the users who have item j,

        uncertainty_i = λ · M(d_i)ᵀ (Σ_j n_j·M(d_j)·M(d_j)ᵀ + λI)⁻¹ M(d_i)

    is the share of the prior variance that ridge regression on the texts leaves (Bishop 2006, section 3.3.2), with the
    λ of the item metric. Where a text is missing, or in a language that the encoder does not know, only the users of
    the item tell: λ/(λ + n_i). Without interactions each text counts once, and reach is 1. Items are left out whose
    text is neither missing, short, repeated, cut, in another language, nor unlike what users have (uncertainty from
    .5).

    Args:
        items: a file with a column `item_id`.
        interactions: a file with `user_id` and `item_id`; None if there is none.
        k: how many at most.
        text: the column with the texts.
        encoder: encodes them.
        encoding: of CSV and JSON files.
        report: called with (stage, done, total).

    Raises:
        ColdStartError: a file or a column is missing.
    """
    with duckdb.connect() as con:
        ids, texts = _texts(con, items, text, encoding)
        users = _users(con, ids, interactions, encoding) if interactions else None
    report("texts", 0, len(texts))
    reasons = _reasons(texts, encoder)
    vectors = np.zeros((len(texts), encoder.dimensions), np.float32)
    foreign = [row for row, why in enumerate(reasons) if why == _FOREIGN]
    lost = set(foreign) if len(foreign) >= _FEW_TEXTS * len(texts) else set()
    told = [row for row, one in enumerate(texts) if one and row not in lost]
    vectors[told] = encoder.encode([texts[row] for row in told])
    report("texts", len(texts), len(texts))
    counts = np.ones(len(ids)) if users is None else users
    uncertainty = _uncertainty(vectors, counts, Parameters().metric_ridge)
    if users is None:  # a text says nothing of its own item then
        uncertainty[~vectors.any(axis=1)] = 1.0
    reach = np.ones(len(ids)) if users is None else _reach(vectors, users)
    gain = reach * uncertainty
    found: list[Asked] = []
    for row in np.argsort(-gain, kind="stable").tolist():
        why = reasons[row] or ("unlike the others" if uncertainty[row] >= _UNLIKE else "")
        if why and len(found) < k:
            n = None if users is None else int(users[row])
            found.append(
                Asked(ids[row], texts[row], why, n, float(reach[row]), float(uncertainty[row]), float(gain[row]))
            )
    return found


def _texts(con: duckdb.DuckDBPyConnection, path: Path, text: str, encoding: str | None) -> tuple[list[str], list[str]]:
    _read(con, path, "items_of_file", (ITEM_ID, text), encoding)
    rows = con.execute(f"""
        SELECT {ITEM_ID}::VARCHAR, max(trim({quote_name(text)}::VARCHAR)) FROM items_of_file
        WHERE {ITEM_ID} IS NOT NULL GROUP BY 1 ORDER BY 1
    """).fetchall()
    return [row[0] for row in rows], [row[1] if has_text(row[1]) else "" for row in rows]


def _users(con: duckdb.DuckDBPyConnection, ids: Sequence[str], path: Path, encoding: str | None) -> Numbers:
    """(items,), the users who have each item."""
    _read(con, path, "events_of_file", (USER_ID, ITEM_ID), encoding)
    rows = con.execute(f"""
        SELECT {ITEM_ID}::VARCHAR, count(DISTINCT {USER_ID}) FROM events_of_file WHERE {ITEM_ID} IS NOT NULL GROUP BY 1
    """).fetchall()
    found: dict[str, int] = dict(rows)
    return np.array([found.get(one, 0) for one in ids], np.float64)


def _read(
    con: duckdb.DuckDBPyConnection, path: Path, table: str, columns: Sequence[str], encoding: str | None
) -> None:
    read_file(con, path, table, encoding=encoding)
    known = con.table(table).columns
    if missing := [name for name in columns if name not in known]:
        raise ColdStartError(f"{path} has no column {missing[0]!r}, which --ask needs; it has {known}")


def _reasons(texts: Sequence[str], encoder: Encoder) -> list[str]:
    """What is wrong with each text; "" for nothing."""
    detector, times = Detector(encoder.files.languages), Counter(texts)
    told = [text for text in texts if text]
    cut = {text for text, one in zip(told, encoder.truncated(told), strict=True) if one}

    def reason(text: str) -> str:
        if not text:
            return "no text"
        if detector.is_foreign(detector.language(text)):
            return _FOREIGN
        if is_short(text):
            return _SHORT
        if times[text] > 1:
            return "repeated"
        return "cut" if text in cut else ""

    return [reason(text) for text in texts]


def _uncertainty(vectors: Vectors, counts: Numbers, ridge: float) -> Numbers:
    """(items,), see `to_describe`."""
    exact = vectors.astype(np.float64)
    gram = (exact * counts[:, None]).T @ exact
    gram[np.diag_indices_from(gram)] += ridge
    left = ridge * np.einsum("ij,ji->i", exact, cho_solve(cho_factor(gram, lower=True), exact.T))
    return np.asarray(np.where(exact.any(axis=1), left, ridge / (ridge + counts)))


def _reach(vectors: Vectors, users: Numbers) -> Numbers:
    """(items,), the users who have each item; of items that nobody has what ridge regression on texts predicts."""
    known = users > 0
    if not known.any():
        return np.ones(len(users))
    target, exact = np.log1p(users[known]), vectors[known].astype(np.float64)
    mean, ridge = target.mean(), Parameters().metric_ridge
    weights = np.linalg.solve(exact.T @ exact + ridge * np.eye(exact.shape[1]), exact.T @ (target - mean))
    return np.asarray(np.where(known, users, np.expm1(np.maximum(mean + vectors @ weights, 0))))
