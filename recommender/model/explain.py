"""Why: a score split into terms that add up to it, and a sentence for people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from coldstart_udfs.profile import Vectors
from coldstart_udfs.text.words import tokens as tokens_of
from recommender.data.entities import Entities, describe
from recommender.model.fitted import Fitted, ItemSide
from recommender.model.scoring import Block, UserSide

# Below this share of a deviation a term is rounding, not a reason.
_NOISE = 1e-7


def terms(block: Block, item: ItemSide, encoder: Any = None) -> pd.DataFrame:
    """One score as a table.

    Args:
        block: of one user.
        item: one item.
        encoder: to split a description by its words.

    Returns:
        term, kind, value; the values add up to `block.total(item)`.
    """
    side, fitted = block.users, block.users.fitted
    trust = float(side.trust[0])
    _, expected, _, popularity = (float(part[0, 0]) for part in block.raw(item))
    of_lightfm = trust / float(block.of_lightfm.deviation[0, 0])
    of_popularity = (1 - trust) / float(block.of_popularity.deviation[0, 0])
    of_text = float(block.text_weights(item)[0, 0])
    in_item_item = bool(fitted.partner_columns(item.rows)[0] >= 0)
    of_item_item = float(block.item_item_weights()[0, 0]) * in_item_item

    found = _lightfm(side, item, of_lightfm)
    found.append(("popularity", "popularity", of_popularity * popularity))
    ax = fitted.item_metric @ item.features.toarray()[0]
    history = _history(side, item, ax, of_text, of_item_item)
    found += history
    past = of_text * float(side.past[0] @ ax) + of_item_item * expected
    found.append(("history since training", "history", past - sum(value for _, _, value in history)))
    found += _described(side, ax, of_text, encoder)
    found.append(("new item", "popularity", fitted.parameters.cold_offset * float(item.cold[0])))
    # What is left is minus the means over the items with history.
    means = (
        weight * float(moments.mean[0, 0])
        for weight, moments in ((of_lightfm, block.of_lightfm), (of_popularity, block.of_popularity),
                                (of_text, block.of_text), (of_item_item, block.of_expected))
    )  # fmt: skip
    found.append(("the user's average item", "constant", -sum(means)))
    kept = [one for one in found if abs(one[2]) > _NOISE or one[1] == "constant"]
    rest = float(block.total(item)[0, 0]) - sum(value for _, _, value in kept)
    kept = [(term, kind, value + rest if kind == "constant" else value) for term, kind, value in kept]
    frame = pd.DataFrame(kept, columns=["term", "kind", "value"])
    return frame.sort_values("value", key=np.abs, ascending=False, kind="stable", ignore_index=True)


def sentences(fitted: Fitted, users: Entities, rows: Iterable[int], items: Iterable[str]) -> list[str]:
    """A sentence for people on each row of a `recommend`.

    Args:
        fitted: the state of the recommender.
        users: the users of the request.
        rows: of them, one for each sentence; those of one user are neighbours.
        items: as many ids.
    """
    found, last, block = [], -1, None
    for row, item in zip(rows, items, strict=True):
        if block is None or row != last:
            last, block = row, Block.of(fitted, users.take(np.array([row], dtype=np.int64)))
        side = fitted.all_items.take(fitted.items.rows([item]))
        found.append(_sentence(terms(block, side), bool(side.cold[0])))
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
            said.append(f"answers the words {', '.join(words)}" if words else "answers the description")
        elif kind == "popularity":
            said.append("things like it sell" if new else "many have it")
        elif kind == "history":
            said.append("goes with what the user did lately")
        elif kind.startswith("lightfm"):
            name = ", ".join(named)
            said.append("similar users chose it" if kind in ("lightfm bias", "lightfm identity") else
                        f"similar users chose items with {name}")  # fmt: skip
    return "; ".join(dict.fromkeys(said)) or "nothing speaks for it but that the others are less likely"


def _lightfm(side: UserSide, item: ItemSide, weight: float) -> list[tuple[str, str, float]]:
    if not weight:
        return []
    fitted = side.fitted
    features = fitted.item_space.matrix(fitted.entities_of(item))
    names = fitted.item_space.names
    found = [("item biases", "lightfm bias", weight * float(item.bias[0]))]
    for column, value in zip(features.indices.tolist(), features.data.tolist(), strict=True):
        kind, name = names[column]
        product = float(side.latent[0] @ fitted.factors.items[column])
        found.append((name, f"lightfm {kind}", weight * value * product))
    return found


def _history(
    side: UserSide, item: ItemSide, ax: Vectors, weight: float, item_item: float
) -> list[tuple[str, str, float]]:
    done, counts, fitted = side.history.indices, side.history.data, side.fitted
    if not len(done):
        return []
    alike = fitted.all_items.features.dot(ax[None]).ravel()
    values = weight * alike[done]
    partners = fitted.widened(fitted.item_item)[done]
    smoothing = fitted.parameters.item_item_smoothing
    if smoothing:
        values = values + weight * smoothing * (partners @ alike)
    if item_item:
        values = values + item_item * partners[:, [item.rows[0]]].toarray().ravel()
    known = zip(fitted.items.descriptions(done), fitted.items.ids(done), strict=True)
    names = [description or name for description, name in known]
    return [(name, "bought", float(value)) for name, value in zip(names, values * counts, strict=True)]


def _described(side: UserSide, ax: Vectors, weight: float, encoder: Any) -> list[tuple[str, str, float]]:
    """The terms of a description.

    With an encoder the term of a word is what the score loses without it; without an encoder it is what the word's own
    column adds. What words say only together, or in the embedding alone, is a term of its own.
    """
    whole = weight * float(side.text[0] @ ax)
    entity = side.entities
    words = list(dict.fromkeys(tokens_of(entity.descriptions[0]))) if entity.descriptions[0] else []
    if encoder is None or len(words) < 2:
        columns, names = side.described.sparse, side.fitted.item_space.vocabulary.words
        values = weight * columns.data * ax[side.described.dense.shape[1] + columns.indices]
        pairs = zip(columns.indices.tolist(), values.tolist(), strict=True)
        own = [(names[column], "word", value) for column, value in pairs]
        rest = whole - sum(value for _, _, value in own)
        return [*own, (entity.descriptions[0] or "predicted profile", "description", rest)]
    texts = [" ".join(word for word in tokens_of(entity.descriptions[0]) if word != left) for left in words]
    without = describe(encoder, [str(place) for place in range(len(words))], texts)
    n = len(words)
    # The same user each time: history and tier go by the id.
    same = replace(
        without, ids=[entity.ids[0]] * n, attributes=[entity.attributes[0]] * n,
        profiles=np.repeat(entity.profiles, n, axis=0), evidence=np.repeat(entity.evidence, n),
    )  # fmt: skip
    rest = UserSide.of(side.fitted, same).text @ ax
    shares = [(word, "word", whole - weight * float(value)) for word, value in zip(words, rest, strict=True)]
    return [*shares, ("the words together", "description", whole - sum(value for _, _, value in shares))]
