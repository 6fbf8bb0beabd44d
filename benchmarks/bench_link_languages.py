"""Profiles across languages, for `make bench-link`: a profile of Chinese product names finds English products.

81 products of the Grocery Store Dataset have names in five languages. A profile is the sum of the names of all products
of a category but one; among the English descriptions of the products of other categories and of that one, it is to rank
that one first. There are no interactions in two languages, so nothing can be said of recommendations.
"""

from __future__ import annotations

import csv
from pathlib import Path

import duckdb
import numpy as np
from bench_languages import NAMES, centred
from common import table

from coldstart_udfs import Encoder
from coldstart_udfs.profile import Vectors

# A category has at least so many products.
FEWEST = 3
LANGUAGES = {"English": "name", "Chinese": "zh", "Japanese": "ja", "German": "de"}


def across_languages(products: Path) -> list[str]:
    """The lines of the section: mean AUC, 1 if the product is always first and 0.5 by chance.

    Args:
        products: the Parquet file of the Grocery Store Dataset.
    """
    with duckdb.connect() as con:
        rows = con.execute("SELECT name, coarse, description FROM read_parquet($1)", [str(products)]).fetchall()
    about = {name: (coarse, text) for name, coarse, text in rows}
    with NAMES.open(encoding="utf-8", newline="") as file:
        names = list(csv.DictReader(file))
    kinds = np.array([about[row["name"]][0] for row in names])
    texts = [str(about[row["name"]][1]) for row in names]
    encoders = {"multilingual": Encoder("multilingual"), "MiniLM": Encoder()}
    found, count = [], 0
    for language, column in LANGUAGES.items():
        cells = [language]
        said = [row[column].replace("-", " ") for row in names]
        for encoder in encoders.values():
            asked, stored = encoder.encode(said), encoder.encode(texts)
            for change in (lambda vectors: vectors, centred):
                values = _values(change(asked), change(stored), kinds)
                count = len(values)
                error = values.std() / np.sqrt(count)
                cells.append(f"{values.mean():.3f} ± {error:.3f}")
        found.append(tuple(cells))
    head = ("language of the profile", "multilingual", "multilingual, centred", "MiniLM", "MiniLM, centred")
    return [
        f"**Profiles across languages**, {count} profiles. AUC of English descriptions, ± standard error. Centred: "
        "less the mean of each shop, as links do it.",
        "", *table(head, found), "",
    ]  # fmt: skip


def _values(asked: Vectors, stored: Vectors, kinds: np.ndarray) -> np.ndarray:
    values = []
    for row, kind in enumerate(kinds):
        same = kinds == kind
        if same.sum() < FEWEST:
            continue
        others = np.flatnonzero(same & (np.arange(len(kinds)) != row))
        scores = stored @ asked[others].sum(axis=0)
        values.append(float((scores[row] > scores[~same]).mean()))
    return np.array(values)
