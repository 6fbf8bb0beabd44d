"""What ranking new items loses when their texts are not as neat as those that were learned from."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from bench_recommender_setup import ONLINE_RETAIL, dataset, ndcg_on, told
from common import table
from german import GERMAN

from coldstart_udfs.encoder.encoder import shared_encoder
from recommender.data.entities import Entities, describe
from recommender.evaluation.baselines import METHODS, OURS, fit_ours
from recommender.measure.splits import make_splits

_WORD = re.compile(r"[^\W\d_]+")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_LOST = 0.3


def typos(text: str, rng: random.Random) -> str:
    """One edit in every word: a letter left out, doubled by another, replaced, or changed places with the next."""

    def edit(word: re.Match[str]) -> str:
        letters = list(word.group())
        at = rng.randrange(len(letters))
        other = rng.choice(_LETTERS)
        other = other.upper() if letters[at].isupper() else other
        kind = rng.choice(("drop", "insert", "replace", "swap")) if len(letters) > 1 else "insert"
        if kind == "drop":
            del letters[at]
        elif kind == "insert":
            letters.insert(at, other)
        elif kind == "replace":
            letters[at] = other
        else:
            at = min(at, len(letters) - 2)
            letters[at : at + 2] = reversed(letters[at : at + 2])
        return "".join(letters)

    return _WORD.sub(edit, text)


def lower_case(text: str, rng: random.Random) -> str:
    """The words of this shop are in capitals, here no more."""
    return text.lower()


def title_case(text: str, rng: random.Random) -> str:
    """Each Word With A Capital."""
    return text.title()


def lost_words(text: str, rng: random.Random) -> str:
    """Each word is lost with probability 0.3; one at least stays."""
    words = text.split()
    kept = [word for word in words if rng.random() >= _LOST]
    return " ".join(kept or [rng.choice(words)] if words else [])


def german(text: str, rng: random.Random) -> str:
    """The words that the dictionary has, in German; the others as they are."""
    return _WORD.sub(lambda word: GERMAN.get(word.group().lower(), word.group()).upper(), text)


CHANGES: dict[str, Callable[[str, random.Random], str]] = {
    "one typing error in every word": typos,
    "lower case": lower_case,
    "Title Case": title_case,
    "three words in ten lost": lost_words,
    "in German, as far as the dictionary goes": german,
}

AS_THEY_ARE = "as they are"
_PEERS = ("TF-IDF cosine", "encoder cosine")


def measure(seed: int = 0) -> dict[str, Any]:
    """NDCG@20 on Online Retail's cold items, whose texts alone are changed, after what was learned from the others."""
    shop = dataset(ONLINE_RETAIL)
    (split,) = make_splits(shop.interactions, shop.users, shop.items, "item_cold", seed=seed, groups=shop.groups)
    model = fit_ours(split, seed)
    cold = np.flatnonzero(split.cold)
    ids = model.users.ids
    results: dict[str, dict[str, float]] = {}
    for name, change in {AS_THEY_ARE: _as_it_is, **CHANGES}.items():
        told(f"robustness: {name}")
        new = changed(split.items.take(cold), change, seed)
        items = with_rows(split.items, cold, new)
        values = {OURS: ndcg_on(split, lambda rows, new=new: model.score([ids[row] for row in rows], new), cold)}  # type: ignore[misc]
        for method in _PEERS:
            score = METHODS[method](replace(split, items=items), seed)
            values[method] = ndcg_on(split, lambda rows, score=score: score(rows)[:, cold], cold)  # type: ignore[misc]
        results[name] = {method: float(value.mean()) for method, value in values.items()}
    words = [word for row in cold.tolist() for word in _WORD.findall(split.items.descriptions[row])]
    covered = sum(word.lower() in GERMAN for word in words) / len(words)
    return {"seed": seed, "items": len(cold), "users": len(split.asked), "covered": covered, "ndcg": results}


def _as_it_is(text: str, rng: random.Random) -> str:
    return text


def changed(items: Entities, change: Callable[[str, random.Random], str], seed: int) -> Entities:
    """Items with other texts, encoded anew; attributes stay."""
    rng = random.Random(seed)
    texts = [change(text, rng) for text in items.descriptions]
    return describe(shared_encoder(), items.ids, texts, items.attributes)


def with_rows(items: Entities, rows: np.ndarray, new: Entities) -> Entities:
    """All items, with other texts in some rows."""
    descriptions, embeddings = list(items.descriptions), items.embeddings.copy()
    embeddings[rows] = new.embeddings
    for row, text in zip(rows.tolist(), new.descriptions, strict=True):
        descriptions[row] = text
    return replace(items, descriptions=descriptions, embeddings=embeddings)


def markdown(measured: dict[str, Any]) -> list[str]:
    """The table, and what was changed how."""
    methods = (OURS, *_PEERS)
    base = measured["ndcg"][AS_THEY_ARE]
    rows = []
    for name, values in measured["ndcg"].items():
        lost = "" if name == AS_THEY_ARE else " (lost {:.3f}, {:.0%})"
        cells = [f"{values[m]:.3f}" + lost.format(base[m] - values[m], 1 - values[m] / base[m]) for m in methods]
        rows.append((name, f"**{cells[0]}**", *cells[1:]))
    said = (
        f"NDCG@20 on the {measured['items']:,} cold items of Online Retail (by stem, seed {measured['seed']}, "
        f"{measured['users']:,} users). Methods learned from the other items as they are; then the cold items' texts "
        "were changed. A typing error is one random edit (a letter dropped, inserted, replaced or swapped with the "
        "next) in every word. Each word is lost with probability 0.3; one stays. The German is a dictionary of "
        f"{len(GERMAN)} frequent words, which covers {measured['covered']:.0%} of the cold items' words; the others "
        "stay English. The encoder is an English one, and like the tokens it does not tell capitals from small letters."
    )
    return [said, "", *table(("texts of the cold items", *methods), rows)]
