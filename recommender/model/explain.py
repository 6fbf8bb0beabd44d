"""Why: a score split into terms that add up to it, and a sentence for people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from coldstart_udfs.profile import Vectors
from coldstart_udfs.text.words import tokens as tokens_of
from recommender.data.entities import Entities
from recommender.model.scoring import Block, ItemSide, UserSide

if TYPE_CHECKING:
    from recommender.model.recommender import HybridRecommender

# Below this share of a deviation a term is rounding, not a reason.
_NOISE = 1e-7


def terms(model: HybridRecommender, block: Block, item: ItemSide, encoder: Any = None) -> pd.DataFrame:
    """One score as a table.

    Args:
        block: of one user.
        item: one item.
        encoder: to split a description by its words.

    Returns:
        term, kind, value; the values add up to `block.total(model, item)`.
    """
    side, settings = block.users, model.parameters
    trust = float(side.trust[0])
    found: list[tuple[str, str, float]] = []
    _, expected, _, popularity = (float(part[0, 0]) for part in block.raw(model, item))
    of_lightfm = trust / float(block.lightfm.deviation[0, 0])
    of_popularity = (1 - trust) / float(block.popularity.deviation[0, 0])
    of_words = float(block.word_weights(model, item)[0, 0])
    behaves = bool(item.rows[0] >= 0 and model.behaves[item.rows[0]])
    of_behaviour = float(block.behaviour_weights(model)[0, 0]) * behaves

    found += _lightfm(model, side, item, of_lightfm)
    found.append(("popularity", "popularity", of_popularity * popularity))
    ax = model.metric @ item.columns.toarray()[0]
    history = _history(model, side, item, ax, of_words, of_behaviour)
    found += history
    past = of_words * float(side.past[0] @ ax) + of_behaviour * expected
    found.append(("history since training", "history", past - sum(value for _, _, value in history)))
    found += _said(model, side, ax, of_words, encoder)
    found.append(("new item", "popularity", settings.cold_offset * float(item.cold[0])))
    # What is left is minus the means over the items with history.
    weights = {"lightfm": of_lightfm, "popularity": of_popularity, "text": of_words, "expected": of_behaviour}
    means = (weight * float(getattr(block, name).mean[0, 0]) for name, weight in weights.items())
    found.append(("the user's average item", "constant", -sum(means)))
    kept = [one for one in found if abs(one[2]) > _NOISE or one[1] == "constant"]
    rest = float(block.total(model, item)[0, 0]) - sum(value for _, _, value in kept)
    kept = [(term, kind, value + rest if kind == "constant" else value) for term, kind, value in kept]
    frame = pd.DataFrame(kept, columns=["term", "kind", "value"])
    return frame.sort_values("value", key=np.abs, ascending=False, kind="stable", ignore_index=True)


def sentences(model: HybridRecommender, users: Entities, rows: Iterable[int], items: Iterable[str]) -> list[str]:
    """Why each row of a `recommend` is there, for people.

    Args:
        users: who was asked for.
        rows: of them, one for each sentence; those of one user stand together.
        items: as many ids.
    """
    found, last, block = [], -1, None
    for row, item in zip(rows, items, strict=True):
        if block is None or row != last:
            last, block = row, Block.of(model, users.take(np.array([row], dtype=np.int64)))
        side = model.all_items.take(np.array([model.item_rows[item]], dtype=np.int64))
        found.append(_sentence(terms(model, block, side), bool(side.cold[0])))
    return found


def _sentence(table: pd.DataFrame, new: bool) -> str:
    reasons = table[(table["value"] > 0) & (table["kind"] != "constant")]
    words = reasons[reasons["kind"] == "word"]["term"].head(2).tolist()
    reasons = reasons.assign(kind=reasons["kind"].replace("word", "description"))
    sums = reasons.groupby("kind", sort=False)["value"].sum().sort_values(ascending=False)
    said = []
    for kind in sums.index[:2]:
        named = reasons[reasons["kind"] == kind]["term"].head(2).tolist()
        if kind == "bought":
            said.append("goes with " + " and ".join(named))
        elif kind == "description":
            said.append("answers the words" + (f" {', '.join(words)}" if words else ""))
        elif kind == "popularity":
            said.append("things like it sell" if new else "many have it")
        elif kind == "history":
            said.append("goes with what the user did lately")
        elif kind.startswith("lightfm"):
            name = ", ".join(named)
            said.append("similar users chose it" if kind in ("lightfm bias", "lightfm identity") else
                        f"similar users chose items with {name}")  # fmt: skip
    return "; ".join(dict.fromkeys(said)) or "nothing speaks for it but that the others are less likely"


def _lightfm(
    model: HybridRecommender, side: UserSide, item: ItemSide, weight: float
) -> list[tuple[str, str, float]]:
    if not weight:
        return []
    features = model.item_space.matrix(item.entities)
    names = model.item_space.names
    found = [("item biases", "lightfm bias", weight * float(item.bias[0]))]
    for column, value in zip(features.indices.tolist(), features.data.tolist(), strict=True):
        kind, name = names[column]
        product = float(side.latent[0] @ model.factors.items[column])
        found.append((name, f"lightfm {kind}", weight * value * product))
    return found


def _history(
    model: HybridRecommender, side: UserSide, item: ItemSide, ax: Vectors, weight: float, expected: float
) -> list[tuple[str, str, float]]:
    done, counts = side.history.indices, side.history.data
    if not len(done):
        return []
    columns = model.all_items.columns
    alike = columns.dot(ax[None]).ravel()
    values = weight * alike[done]
    if model.parameters.smoothing:
        values = values + weight * model.parameters.smoothing * (model.behaviour[done] @ alike)
    if expected:
        values = values + expected * model.behaviour[done][:, [item.rows[0]]].toarray().ravel()
    names = [model.items.descriptions[row] or model.items.ids[row] for row in done.tolist()]
    return [(name, "bought", float(value)) for name, value in zip(names, values * counts, strict=True)]


def _said(
    model: HybridRecommender, side: UserSide, ax: Vectors, weight: float, encoder: Any
) -> list[tuple[str, str, float]]:
    """With an encoder a word's share is what leaving it out takes away, without one what its own column adds.

    What words say only together, or in the encoder's vector alone, is a term of its own.
    """
    whole = weight * float(side.words[0] @ ax)
    entity = side.entities
    words = list(dict.fromkeys(tokens_of(entity.descriptions[0]))) if entity.descriptions[0] else []
    if encoder is None or len(words) < 2:
        columns, names = side.said.sparse, model.item_space.vocabulary.words
        values = weight * columns.data * ax[side.said.dense.shape[1] + columns.indices]
        pairs = zip(columns.indices.tolist(), values.tolist(), strict=True)
        own = [(names[column], "word", value) for column, value in pairs]
        rest = whole - sum(value for _, _, value in own)
        return [*own, (entity.descriptions[0] or "taste of such users", "description", rest)]
    from recommender.data.entities import describe

    texts = [" ".join(word for word in tokens_of(entity.descriptions[0]) if word != left) for left in words]
    without = describe(encoder, [str(place) for place in range(len(words))], texts)
    n = len(words)
    # The same user each time: history and rung go by his id.
    same = replace(
        without, ids=[entity.ids[0]] * n, attributes=[entity.attributes[0]] * n,
        profiles=np.repeat(entity.profiles, n, axis=0), evidence=np.repeat(entity.evidence, n),
    )  # fmt: skip
    rest = UserSide.of(model, same).words @ ax
    shares = [(word, "word", whole - weight * float(value)) for word, value in zip(words, rest, strict=True)]
    return [*shares, ("the words together", "description", whole - sum(value for _, _, value in shares))]
