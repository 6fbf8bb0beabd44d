"""Interviews with new users: which question to ask; `make bench-interview DATA=folder`.

Writes its sections of docs/explanation/interview.md. Each draw sets a fifth of the users aside as new ones. Half of
what each of them voted on or bought, by a stable hash, can be asked about, and the other half is to be found: NDCG@20
of the recommender's own list after 1, 3 and 5 answers. All ways of asking have the same update. Users on whom settings
were chosen (`--validation`) are in no reported draw.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import duckdb
import numpy as np
from bench_recommender_setup import dataset, make_tables, told
from common import EXPLANATION, made_by, table, write_between
from numpy.typing import NDArray

from recommender.data.dataset import Dataset
from recommender.data.entities import Entities, with_history
from recommender.measure.intervals import intervals
from recommender.measure.metrics import ndcg
from recommender.measure.splits import stable_share
from recommender.model.fitted import Fitted
from recommender.model.fitting import fit
from recommender.model.parameters import Parameters
from recommender.model.posterior import ProfilePrior
from recommender.model.single import block_of
from recommender.serve.interview.asking import NO, Interview, Reply, Topics
from recommender.tuning.validation import fit_tuned

SETS = ("polis-vtaiwan", "polis-austria", "online-retail")
ROUNDS = (1, 3, 5)
# LightFM with fewer numbers than by default, so that the benchmark takes minutes.
PARAMETERS = Parameters(components=32, epochs=5, lightfm_seeds=1)
# Where weights are learned; in a large set this takes many minutes, and the defaults stay.
TUNED = ("polis-vtaiwan", "polis-austria")
# Users with fewer answers cannot be asked five times in every order.
FEWEST = 10
MOST_USERS = 300

Votes: TypeAlias = NDArray[np.float32]
Rows: TypeAlias = NDArray[np.int64]
Ask: TypeAlias = Callable[[Interview, Rows], int]


@dataclass(frozen=True)
class NewUser:
    """One user who is asked.

    Attributes:
        row: in the data set.
        replies: by item, what they answer; items that are not named get "don't know".
        open: the items that may be asked about.
        hidden: the items of the other half.
        wanted: those of them that they agreed with or bought.
    """

    row: int
    replies: dict[int, Reply]
    open: Rows
    hidden: Rows
    wanted: Rows


def main() -> None:
    """Measure the data sets one by one; the section of each is written when it is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="contains the folders of the raw files")
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--validation", action="store_true", help="ask the validation users; write nothing")
    given = parser.parse_args()
    names = make_tables(given.data_dir, given.sets)
    for name in names:
        votes = votes_of(name, given.data_dir, dataset(name))
        runs = [draw(name, dataset(name), votes, seed, given.validation) for seed in range(given.draws)]
        written(name, section(name, runs), given.draws, given.validation)


def written(name: str, lines: list[str], draws: int, validation: bool) -> None:
    """Print the tables of one data set; write them into the page unless they are of validation users."""
    print("\n".join(lines), flush=True)
    if validation:
        return
    weights = "learned" if name in TUNED else "the defaults"
    about = (
        f"{draws} draws of new users, at most {MOST_USERS} each, with at least {FEWEST} items to ask about. Intervals "
        "are 95 %, with draws and users as sources of chance. The recommender is fitted on the other users: LightFM "
        f"with 32 components and 5 epochs; the weights of the score are {weights}."
    )
    text = made_by("make bench-interview DATA=folder", about, ("lightfm-next", "numpy", "scikit-learn", "scipy"))
    write_between(EXPLANATION / "interview.md", f"bench-interview {name}", "\n".join([text, *lines]))


def votes_of(name: str, folder: Path, data: Dataset) -> Votes:
    """(users, items): 1 agree or purchase, -1 disagree, 0 pass, NaN for nothing."""
    interactions = data.interactions
    shape = len(interactions.user_ids), len(interactions.item_ids)
    votes = np.full(shape, np.nan, np.float32)
    if not name.startswith("polis"):
        votes[interactions.users, interactions.items] = 1
        return votes
    users = {key: row for row, key in enumerate(interactions.user_ids)}
    items = {key: row for row, key in enumerate(interactions.item_ids)}
    with duckdb.connect() as con:
        rows = con.execute("SELECT user_id, item_id, vote FROM read_parquet(?)", [str(folder / name / "votes.parquet")])
        for user, item, vote in rows.fetchall():
            if str(user) in users and str(item) in items:
                votes[users[str(user)], items[str(item)]] = vote
    return votes


def draw(name: str, data: Dataset, votes: Votes, seed: int, validation: bool) -> dict[str, NDArray[np.float64]]:
    """The users of one draw, and NDCG@20 by way of asking: (users, 1 + rounds, rankings), before any answer first."""
    told(f"{name}, draw {seed}: fit")
    ids = data.interactions.user_ids
    apart = np.array([stable_share(key, "validation 0") < 0.25 and stable_share(key, "users 0") >= 0.2 for key in ids])
    held = np.array([stable_share(key, f"users {seed}") < 0.2 for key in ids])
    held = apart if validation else held & ~apart
    train = data.interactions.select(~held[data.interactions.users])
    if name in TUNED:
        fitted = fit_tuned(
            train, data.users, data.items, kind="user_cold", groups=data.groups, seed=seed, parameters=PARAMETERS
        ).fitted
    else:
        fitted = fit(replace(PARAMETERS, seed=seed), train, *with_history(train, data.users, data.items))
    fitted.prepare()
    topics = Topics.of(ProfilePrior.of(fitted), fitted)
    users = new_users(name, data, votes, np.flatnonzero(held), seed, fitted)[:MOST_USERS]
    told(f"{name}, draw {seed}: {len(users)} users")
    rng = np.random.default_rng(seed)
    found = {"users": np.array([user.row for user in users], np.float64)}
    for way, ask in ways(fitted, rng).items():
        found[way] = np.array([asked(fitted, topics, user, ask) for user in users])
        told(f"{name}, draw {seed}: {way} {np.nanmean(found[way], axis=0).round(4).tolist()}")
    return found


def new_users(name: str, data: Dataset, votes: Votes, rows: Rows, seed: int, fitted: Fitted) -> list[NewUser]:
    """Those who can be asked, in the order of a stable hash."""
    ids, items = data.interactions.user_ids, data.interactions.item_ids
    users = []
    for row in sorted(rows.tolist(), key=lambda one: stable_share(ids[one], f"order {seed}")):
        known = np.flatnonzero(~np.isnan(votes[row]))
        pool = np.array(
            [stable_share(f"{ids[row]}\0{items[item]}", f"pool {seed}") < 0.5 for item in known.tolist()], np.bool_
        )
        hidden = known[~pool]
        wanted = hidden[votes[row, hidden] > 0]
        if pool.sum() < FEWEST or not len(wanted):
            continue
        replies: dict[int, Reply] = {
            int(item): "yes" if votes[row, item] > 0 else "no" if votes[row, item] < 0 else "unknown"
            for item in known[pool]
        }
        # Where people voted on what they were shown, only what they voted on has an answer.
        some = known[pool] if name.startswith("polis") else np.setdiff1d(np.arange(len(items)), hidden)
        users.append(NewUser(row, replies, some[fitted.counts[some] > 0], hidden, wanted))
    return users


def ways(fitted: Fitted, rng: np.random.Generator) -> dict[str, Ask]:
    """The ways of asking that are compared."""

    def entropy(interview: Interview, rows: Rows) -> int:
        share = np.clip(interview.wants.expected()[rows], 1e-6, 1 - 1e-6)
        return int(rows[np.argmax(-share * np.log(share) - (1 - share) * np.log(1 - share))])

    return {
        "the most popular": lambda interview, rows: int(rows[np.argmax(fitted.counts[rows])]),
        "at random": lambda interview, rows: int(rng.choice(rows)),
        "largest entropy of the answer": entropy,
        "largest gain, P(answerable) left out":
            lambda interview, rows: int(rows[np.argmax(interview.wants.reductions(rows, interview.topics.gram))]),
        "largest gain × P(answerable)": lambda interview, rows: int(rows[np.argmax(interview.gains(rows))]),
    }  # fmt: skip


def asked(fitted: Fitted, topics: Topics, user: NewUser, ask: Ask) -> NDArray[np.float64]:
    """(1 + rounds, 3): NDCG@20 among all items not asked about, and among the hidden half; answers of yes or no."""
    interview, rows = Interview.begin(topics), user.open
    answers: list[tuple[int, Reply]] = []
    values = [_measured(fitted, user, answers)]
    for number in range(1, max(ROUNDS) + 1):
        row = ask(interview, rows)
        rows = rows[rows != row]
        answers.append((row, user.replies.get(row, "unknown")))
        interview = interview.after(answers[-1:])
        if number in ROUNDS:
            values.append(_measured(fitted, user, answers))
    return np.array(values)


def _measured(fitted: Fitted, user: NewUser, answers: Sequence[tuple[int, Reply]]) -> tuple[float, float, float]:
    nobody = Entities.nothing(["new"], fitted.items.embeddings.shape[1], fitted.items.fingerprint)
    told_of = [(row, 1.0 if reply == "yes" else -NO) for row, reply in answers if reply != "unknown"]
    columns, weights = np.array([row for row, _ in told_of], np.int64), np.array([w for _, w in told_of], np.float32)
    scores = block_of(fitted, nobody, columns, weights).total(fitted.all_items).astype(np.float64)
    wanted, all_items, hidden = (np.zeros(scores.shape, bool) for _ in range(3))
    wanted[0, user.wanted] = hidden[0, user.hidden] = True
    all_items[:] = True
    all_items[0, list(user.replies)] = False
    return float(ndcg(scores, wanted, all_items)[0]), float(ndcg(scores, wanted, hidden)[0]), float(len(told_of))


def section(name: str, runs: Sequence[dict[str, NDArray[np.float64]]]) -> list[str]:
    """The tables of one data set."""
    users = np.concatenate([run["users"] for run in runs]).astype(np.int64)
    draws = np.repeat(np.arange(len(runs)), [len(run["users"]) for run in runs])
    values = {way: np.concatenate([run[way] for run in runs]) for way in runs[0] if way != "users"}
    rankings = [("all items that cannot be asked about", 0)]
    if name.startswith("polis"):
        rankings.append(("the hidden half of what they voted on", 1))
    lines: list[str] = []
    for title, place in rankings:
        popular = values["the most popular"][:, -1, place]
        rows = []
        for way, found in values.items():
            mean = [float(np.mean([found[draws == one, number, place].mean() for one in range(len(runs))]))
                    for number in range(found.shape[1])]  # fmt: skip
            low, high = intervals((found[:, -1, place] - popular)[:, None], users, draws)[0]
            base = float(np.mean([popular[draws == one].mean() for one in range(len(runs))]))
            against = "" if way == "the most popular" else (
                f"{100 * (mean[-1] / base - 1):+.1f} % ({100 * low / base:+.1f} to {100 * high / base:+.1f})"
            )
            rows.append((way, *(f"{value:.4f}" for value in mean), against, f"{found[:, -1, 2].mean():.1f}"))
        head = ("asked", "before", *(f"after {n}" for n in ROUNDS), "5 answers, against the most popular", "yes or no")
        lines += ["", f"Ranked: {title}; {len(users):,} interviews.", "", *table(head, rows)]
    return lines


if __name__ == "__main__":
    main()
