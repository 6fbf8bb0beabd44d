"""How much worse new items rank when their texts differ from the training texts: typing errors, case, language."""

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
    """One edit in every word: a letter dropped, inserted, replaced or swapped with the next."""

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
    """Lower case; the texts of this shop are in capitals."""
    return text.lower()


def title_case(text: str, rng: random.Random) -> str:
    """Each Word With a Capital."""
    return text.title()


def lost_words(text: str, rng: random.Random) -> str:
    """Remove each word with probability 0.3; at least one stays."""
    words = text.split()
    kept = [word for word in words if rng.random() >= _LOST]
    return " ".join(kept or [rng.choice(words)] if words else [])


def german(text: str, rng: random.Random) -> str:
    """Translate the words in the dictionary to German; the others stay."""
    return _WORD.sub(lambda word: GERMAN.get(word.group().lower(), word.group()).upper(), text)


CHANGES: dict[str, Callable[[str, random.Random], str]] = {
    "one typing error in every word": typos,
    "lower case": lower_case,
    "Title Case": title_case,
    "three words in ten lost": lost_words,
    "in German, words of the dictionary": german,
}

ORIGINAL = "original"
_PEERS = ("TF-IDF cosine", "encoder cosine")


def measure(seed: int = 0) -> dict[str, Any]:
    """NDCG@20 on Online Retail's cold items with changed texts; the training items' texts stay the same."""
    shop = dataset(ONLINE_RETAIL)
    (split,) = make_splits(shop.interactions, shop.users, shop.items, "item_cold", seed=seed, groups=shop.groups)
    model = fit_ours(split, seed)
    cold = np.flatnonzero(split.cold)
    ids = model.users.ids
    results: dict[str, dict[str, float]] = {}
    for name, change in {ORIGINAL: _unchanged, **CHANGES}.items():
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


def _unchanged(text: str, rng: random.Random) -> str:
    return text


def changed(items: Entities, change: Callable[[str, random.Random], str], seed: int) -> Entities:
    """Items with changed texts, encoded again; attributes stay."""
    rng = random.Random(seed)
    texts = [change(text, rng) for text in items.descriptions]
    return describe(shared_encoder(), items.ids, texts, items.attributes)


def with_rows(items: Entities, rows: np.ndarray, new: Entities) -> Entities:
    """All items, with new texts in some rows."""
    descriptions, embeddings = list(items.descriptions), items.embeddings.copy()
    embeddings[rows] = new.embeddings
    for row, text in zip(rows.tolist(), new.descriptions, strict=True):
        descriptions[row] = text
    return replace(items, descriptions=descriptions, embeddings=embeddings)


def markdown(measured: dict[str, Any]) -> list[str]:
    """Return the table and a description of the changes."""
    methods = (OURS, *_PEERS)
    base = measured["ndcg"][ORIGINAL]
    rows = []
    for name, values in measured["ndcg"].items():
        lost = "" if name == ORIGINAL else " (lost {:.3f}, {:.0%})"
        cells = [f"{values[m]:.3f}" + lost.format(base[m] - values[m], 1 - values[m] / base[m]) for m in methods]
        rows.append((name, f"**{cells[0]}**", *cells[1:]))
    said = (
        f"NDCG@20 on the {measured['items']:,} cold items of Online Retail (by stem, seed {measured['seed']}, "
        f"{measured['users']:,} users). Methods are fitted with the original texts of the other items; then the cold "
        "items' texts are changed. A typing error is one random edit (a letter dropped, inserted, replaced or "
        "swapped with the next) in every word. Each word is removed with probability 0.3; at least one stays. The "
        f"German texts use a dictionary of {len(GERMAN)} frequent words, which covers {measured['covered']:.0%} of the "
        "cold items' words; the others stay English. The encoder is an English model. The encoder and the tokens "
        "ignore case."
    )
    return [said, "", *table(("texts of the cold items", *methods), rows)]
