"""Time of fitting and recommending on Online Retail, compared with LightFM and implicit in the same run.

One thread, except that coldstart fits LightFM's seeds on a thread each; fits are measured in seconds and in processor
seconds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from bench_recommender_setup import ONLINE_RETAIL, dataset, told
from common import Row, interleaved, timed
from lightfm import LightFM

from coldstart_udfs.text.words import tokens as tokens_of
from recommender.data.entities import with_history
from recommender.data.interactions import Interactions
from recommender.evaluation.plain_lightfm import COMPONENTS, EPOCHS, LEARNING_RATE
from recommender.measure.splits import pair_matrix
from recommender.model.fitted import Fitted
from recommender.model.recommender import HybridRecommender
from recommender.model.weights import PARTS, Weights
from recommender.tuning.validation import fit_tuned

K = 10
_ROUNDS = 3


def measure() -> dict[str, Any]:
    """Measure the seconds of each fit, and of the top ten for every user."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return _measure()


def _measure() -> dict[str, Any]:
    data = dataset(ONLINE_RETAIL)
    users, items = with_history(data.interactions, data.users, data.items)
    told("speed: choosing parameters")
    tuned: list[HybridRecommender] = []
    search = timed(lambda: tuned.append(
        fit_tuned(data.interactions, users, items, kind="item_cold", groups=data.groups, seed=0)
    ))  # fmt: skip
    ours, plain = HybridRecommender(tuned[0].parameters), Plain(data.interactions, items.descriptions)
    told(f"speed: {_ROUNDS} fits of each")
    fits: dict[str, Callable[[], Any]] = {
        "ours": lambda: ours.fit(data.interactions, users, items), "LightFM": plain.fit,
    }  # fmt: skip
    processor: dict[str, list[float]] = {name: [] for name in fits}

    def counted(name: str) -> None:
        began = time.process_time()
        fits[name]()
        processor[name].append(time.process_time() - began)

    seconds = interleaved({name: partial(counted, name) for name in fits}, rounds=_ROUNDS)
    told("speed: top ten for every user")
    return {
        "pairs": len(data.interactions.pairs()), "users": len(users), "items": len(items), "search_s": search,
        "fit_s": seconds, "fit_processor_s": {name: statistics.median(values) for name, values in processor.items()},
        "factors": ours.fitted.all_items.latent.shape[1], "top_s": top_seconds(ours, plain),
    }  # fmt: skip


def top_seconds(ours: HybridRecommender, plain: Plain) -> dict[str, float]:
    """The seconds of the top ten for every user: all parts; LightFM's part alone; the same and one further part."""
    ids = list(ours.users.ids)

    def recommend(*parts: str) -> Callable[[], Any]:
        equal = dict.fromkeys(parts, (1.0, 1.0))
        weighed = ours.with_parameters(weights=Weights(warm=equal, cold=equal)) if parts else ours
        return lambda: weighed.recommend(ids, K)

    runs = {"recommend": recommend(), "predict": plain.loop, "lightfm": recommend("lightfm")}
    runs |= {part: recommend("lightfm", part) for part in PARTS if part != "lightfm"}
    if find_spec("implicit"):
        runs["implicit"] = partial(implicit_top, ours.fitted)
    for run in runs.values():  # what a state derives once
        run()
    return interleaved(runs, rounds=_ROUNDS)


class Plain:
    """LightFM with user identities, item words and WARP, on one thread."""

    def __init__(self, interactions: Interactions, texts: Sequence[str]) -> None:
        self._seen, self._texts = pair_matrix(interactions), texts

    def fit(self) -> None:
        """Fit on texts and pairs."""
        from sklearn.feature_extraction.text import CountVectorizer

        words = CountVectorizer(tokenizer=tokens_of, token_pattern=None, lowercase=False, binary=True)
        self._features = words.fit_transform(self._texts).astype(np.float32)
        self._model = LightFM(no_components=COMPONENTS, loss="warp", learning_rate=LEARNING_RATE, random_state=0)
        self._model.fit(self._seen.tocoo(), item_features=self._features, epochs=EPOCHS, num_threads=1)

    def loop(self) -> list[np.ndarray]:
        """The top ten unseen items of every user, one `predict` and `argsort` each, as in LightFM's documentation."""
        everything = np.arange(self._seen.shape[1])
        found = []
        for user in range(self._seen.shape[0]):
            scores = self._model.predict(user, everything, item_features=self._features, num_threads=1)
            scores[self._seen.indices[self._seen.indptr[user] : self._seen.indptr[user + 1]]] = -np.inf
            found.append(np.argsort(-scores)[:K])
        return found


def implicit_top(fitted: Fitted) -> tuple[np.ndarray, np.ndarray]:
    """The top ten unseen items of every user by implicit's top-k on LightFM's vectors and item biases."""
    from implicit.cpu.topk import topk

    items, latent = fitted.all_items, fitted.user_space.matrix(fitted.users.whole) @ fitted.factors.users
    wide_items = np.column_stack([items.latent, items.bias]).astype(np.float32)
    wide_users = np.column_stack([latent, np.ones(len(latent))]).astype(np.float32)
    found: tuple[np.ndarray, np.ndarray] = topk(
        wide_items, wide_users, K, filter_query_items=fitted.seen.whole, num_threads=1
    )
    return found


def rows(measured: dict[str, Any]) -> list[Row]:
    """Return the rows of the table."""
    pairs, fit, top = measured["pairs"], measured["fit_s"], measured["top_s"]
    what = f"`recommend`, top {K} for all {measured['users']:,} users of {measured['items']:,} items"
    plain = f"LightFM on tokens, {EPOCHS} epochs, {COMPONENTS} components"
    found = [
        (f"a fit with given parameters, {pairs:,} pairs", plain,
         _times(fit["ours"], fit["LightFM"])),
        ("the same, in processor seconds of all threads", plain,
         _times(measured["fit_processor_s"]["ours"], measured["fit_processor_s"]["LightFM"])),
        ("choosing all parameters and fitting once (`fit_tuned`)", "a fit with given parameters",
         _times(measured["search_s"], fit["ours"])),
        (what, "a loop of `LightFM.predict` and `argsort`, model on tokens",
         f"**{top['predict'] / top['recommend']:.1f}×** as fast ({top['recommend']:.2f} s, {top['predict']:.2f} s)"),
    ]  # fmt: skip
    if "implicit" in top:
        against = f"implicit's top-k on the same {measured['factors']} factors and biases"
        found.append((f"{what}, LightFM's part alone", against, _times(top["lightfm"], top["implicit"])))
    found += [
        (f"the same, and `{part}`", "`recommend`, LightFM's part alone",
         f"{top[part] - top['lightfm']:+.2f} s ({top[part]:.2f} s, {top['lightfm']:.2f} s)")
        for part in PARTS if part != "lightfm"
    ]  # fmt: skip
    return found


def _times(ours: float, theirs: float) -> str:
    return f"**{ours / theirs:.2f}×** ({ours:.2f} s, {theirs:.2f} s)"
