"""Why: a score split into terms that add up to it, and a sentence for people."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from coldstart_udfs.profile import Vectors
from coldstart_udfs.text.words import tokens as tokens_of
from recommender.data.entities import Entities, describe
from recommender.model.feature_matrix import content_words_of
from recommender.model.fitted import Fitted, ItemSide
from recommender.model.freshness import told
from recommender.model.scoring import Block, slope
from recommender.model.user_side import UserSide

# Below this share of a deviation a term is rounding, not a reason.
_NOISE = 1e-7
# A label of more than this share of the items says nothing of two that have it.
_MOST_SHARED = 0.1
_PUBLISHED = "new: published"
# Of a longer description, a reason gives the beginning.
_LONGEST_NAME = 80
_BAND = re.compile(r"2\^-?\d+")
# Parts that are one term each.
_SINGLE = {
    "lightfm_map": ("its words and attributes", "lightfm map"),
    "popularity": ("popularity", "popularity"),
    "popularity_7d": ("popularity in the last 7 days", "popularity"),
    "popularity_30d": ("popularity in the last 30 days", "popularity"),
    "popularity_90d": ("popularity in the last 90 days", "popularity"),
    "newness": ("time since the first interaction", "newness"),
    "predicted_profile": ("predicted profile", "predicted profile"),
    "attribute_popularity": ("popularity among users with these attributes", "popularity"),
}  # fmt: skip


def terms(block: Block, item: ItemSide, encoder: Any = None) -> pd.DataFrame:
    """One score as a table.

    Args:
        block: of one user.
        item: one item.
        encoder: to split a description by its words.

    Returns:
        term, kind, value; the values add up to `block.total(item)`. A rule that keeps the item from the user's lists
        has the value 0: it does not change the score.
    """
    side, fitted = block.users, block.users.fitted
    weights = fitted.parameters.weights
    first = np.zeros(1, np.int64)
    factors = {}
    found = [("new item", "popularity", weights.cold_offset * float(item.cold[0]))]
    if fitted.parameters.freshness:
        age = float(fitted.births.days(item.rows)[0])
        if np.isfinite(age):
            found.append((f"{_PUBLISHED} {told(age)}", "newness", float(fitted.freshness_of(item)[0])))
    for part in weights.parts:
        centred = float(np.broadcast_to(block.centred(part, item), (1, 1))[0, 0])
        weight = float(block.weight(part, first, item.cold)[0])
        # Standardised and bent, all terms of a part are multiplied by one number.
        factors[part] = weight * float(slope(part, np.array([centred]), block.scale(part)[0])[0])
        if part in _SINGLE:
            found.append((*_SINGLE[part], factors[part] * centred))
    found += _lightfm(side, item, factors.get("lightfm", 0.0))
    x = item.features.toarray()[0] - fitted.mean_features
    history, rest = _history(block, item, x, factors)
    found += [*history, ("history since training", "history", rest)]
    found += _described(side, x, factors.get("text", 0.0), encoder)
    found += _rules(side, fitted.entities_of(item).attributes[0])
    kept = [one for one in found if abs(one[2]) > _NOISE or one[1] in ("constant", "rule")]
    rest = float(block.total(item)[0, 0]) - sum(value for _, _, value in kept)
    kept = [(term, kind, value + rest if kind == "constant" else value) for term, kind, value in kept]
    frame = pd.DataFrame(kept, columns=["term", "kind", "value"]).astype({"value": np.float64})
    return frame.sort_values("value", key=np.abs, ascending=False, kind="stable", ignore_index=True)


def with_link(table: pd.DataFrame, added: float | None) -> pd.DataFrame:
    """The terms of a score with what a link adds to it, the largest first.

    Args:
        table: of `terms`.
        added: to the score; None leaves the terms as they are.
    """
    if added is None:
        return table
    link = pd.DataFrame([("profile in a linked shop", "link", added)], columns=["term", "kind", "value"])
    return pd.concat([table, link]).sort_values("value", key=np.abs, ascending=False, kind="stable", ignore_index=True)


def sentences(
    fitted: Fitted, users: Entities, rows: Iterable[int], items: Iterable[str],
    linked: NDArray[np.float32] | None = None,
) -> list[str]:
    """A sentence for people on each row of a `recommend`.

    Args:
        fitted: the state of the recommender.
        users: the users of the request.
        rows: of them, one for each sentence; those of one user are neighbours.
        items: as many ids.
        linked: (items of the recommender,), what a link adds to scores; None is nothing.
    """
    found, last, block = [], -1, None
    for row, item in zip(rows, items, strict=True):
        if block is None or row != last:
            last, block = row, Block.of(fitted, users.take(np.array([row], dtype=np.int64)))
        side = fitted.all_items.take(fitted.items.rows([item]))
        table = with_link(terms(block, side), None if linked is None else float(linked[side.rows[0]]))
        found.append(sentence(table, bool(side.cold[0])))
    return found


def sentence(table: pd.DataFrame, new: bool) -> str:
    """A sentence for people.

    Args:
        table: of `terms`.
        new: whether the item has no history in training.
    """
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
        elif kind == "link":
            said.append("goes with their profile in a linked shop")
        elif kind == "newness":
            said.append(named[0] if named[0].startswith(_PUBLISHED) else "it is new")
        elif kind == "predicted profile":
            said.append("users like them chose such items")
        elif kind.startswith("lightfm"):
            name = ", ".join(named)
            said.append("similar users chose it" if kind in ("lightfm bias", "lightfm identity", "lightfm map") else
                        f"similar users chose items with {name}")  # fmt: skip
    return "; ".join(dict.fromkeys(said)) or "nothing speaks for it but that the others are less likely"


def _rules(side: UserSide, labels: Iterable[str]) -> list[tuple[str, str, float]]:
    own, given = set(side.entities.attributes[0]), set(labels)
    pairs = side.fitted.parameters.exclusions
    return [(f"{user} excludes {item}", "rule", 0.0) for user, item in pairs if user in own and item in given]


def _lightfm(side: UserSide, item: ItemSide, factor: float) -> list[tuple[str, str, float]]:
    if not factor or not side.latent.any():
        return []
    fitted = side.fitted
    mean, features = fitted.latent_moments.mean, fitted.item_space.matrix(fitted.entities_of(item))
    names = fitted.item_space.names
    found = [
        ("item biases", "lightfm bias", factor * float(item.bias[0] - mean[-1])),
        ("the user's average item", "constant", -factor * float(side.latent[0] @ mean[:-1])),
    ]
    for column, value in zip(features.indices.tolist(), features.data.tolist(), strict=True):
        kind, name = names[column]
        product = float(side.latent[0] @ fitted.factors.items[column])
        found.append((name, f"lightfm {kind}", factor * value * product))
    return found


def _history(
    block: Block, item: ItemSide, x: Vectors, factors: dict[str, float]
) -> tuple[list[tuple[str, str, float]], float]:
    """A term for each item in the history, with what it shares with the item; and what the profile says beyond them."""
    side, fitted = block.users, block.users.fitted
    done, counts = side.history.indices, side.history.data
    of_text, of_neighbours = factors.get("text", 0.0), factors.get("neighbour_text", 0.0)
    partners = fitted.widened(fitted.item_item)[done]
    likeness, row = fitted.likeness, int(item.rows[0])
    if likeness is not None and item.entities is None and max(row, done.max(initial=0)) < len(likeness.text):
        own = likeness.text[done, row] * counts
        at_fit = done < len(likeness.neighbours)
        near = np.where(at_fit, likeness.neighbours[np.where(at_fit, done, 0), row], 0) * counts
        features = fitted.all_items.features
        beyond = likeness.beyond(side.history, side.entities.profiles, features, fitted.item_metric)
        rest = 0.0 if beyond is None else float(beyond[0] @ x)
    else:
        ax = fitted.item_metric @ x
        alike = fitted.all_items.features.dot(ax[None]).ravel()
        own, near = alike[done] * counts, (partners @ alike) * counts
        rest = float(side.past[0] @ ax) - float(own.sum())
    values = of_text * own + of_neighbours * near
    if factors.get("item_item") and fitted.in_partners(item.rows)[0]:
        mean = np.asarray(partners.sum(axis=1)).ravel() / len(fitted.warm_rows)
        weight = partners[:, [row]].toarray().ravel() - mean
        values = values + factors["item_item"] * weight * counts
    known = zip(fitted.items.descriptions(done), fitted.items.ids(done), strict=True)
    names = [shortened(description or name) for description, name in known]
    shared = _shared(fitted, fitted.entities_of(item).attributes[0], done.tolist())
    names = [f"{name} ({why})" if why else name for name, why in zip(names, shared, strict=True)]
    return [(name, "bought", float(value)) for name, value in zip(names, values, strict=True)], of_text * rest


def shortened(text: str, longest: int = _LONGEST_NAME) -> str:
    """A text, or its beginning and an ellipsis.

    >>> shortened("a red lamp", 6)
    'a red…'
    """
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def _shared(fitted: Fitted, labels: Iterable[str], rows: Sequence[int]) -> list[str]:
    """For each of these items what it shares with an item that has these labels: "same director: Kubrick", or "".

    It is the label of the fewest items. Bands of numbers, and labels of more than a tenth of the items, tell nothing.
    """
    found: dict[int, str] = {}
    if not rows:
        return []
    wanted = set(rows)
    having = {label: fitted.rows_with.get(label, []) for label in dict.fromkeys(labels)}
    for label in sorted(having, key=lambda one: (len(having[one]), one)):
        name, _, value = label.partition("=")
        if value and not _BAND.fullmatch(value) and len(having[label]) <= _MOST_SHARED * len(fitted.items):
            for row in wanted.intersection(having[label]):
                found.setdefault(row, f"same {name}: {value}")
    return [found.get(row, "") for row in rows]


def _described(side: UserSide, x: Vectors, weight: float, encoder: Any) -> list[tuple[str, str, float]]:
    """The terms of a description.

    With an encoder the term of a word is what the score loses without it; without an encoder it is what the word's own
    column adds. What words say only together, in the embedding alone, or as function words is a term of its own.
    """
    whole = weight * float(side.text_direction[0] @ x) if side.described.any() else 0.0
    entity = side.entities
    words = list(dict.fromkeys(content_words_of(entity.descriptions[0]))) if entity.descriptions[0] else []
    if encoder is None or len(words) < 2:
        columns, names = side.described.sparse, side.fitted.item_space.vocabulary.words
        metric = side.fitted.item_metric[side.described.dense.shape[1] + columns.indices]
        values = weight * columns.data * (metric @ x)
        pairs = zip(columns.indices.tolist(), values.tolist(), strict=True)
        own = [(names[column], "word", value) for column, value in pairs]
        rest = whole - sum(value for _, _, value in own)
        return [*own, (entity.descriptions[0], "description", rest)]
    texts = [" ".join(word for word in tokens_of(entity.descriptions[0]) if word != left) for left in words]
    without = describe(encoder, [str(place) for place in range(len(words))], texts)
    n = len(words)
    # The same user each time: history and tier go by the id.
    same = replace(
        without, ids=[entity.ids[0]] * n, attributes=[entity.attributes[0]] * n,
        profiles=np.repeat(entity.profiles, n, axis=0), evidence=np.repeat(entity.evidence, n),
    )  # fmt: skip
    rest = UserSide.of(side.fitted, same).text_direction @ x
    shares = [(word, "word", whole - weight * float(value)) for word, value in zip(words, rest, strict=True)]
    return [*shares, ("the words together", "description", whole - sum(value for _, _, value in shares))]
