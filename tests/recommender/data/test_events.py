"""Events of all types: what they weigh, how they age, what returns take back and what searches say."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np
import pytest

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.settings import ENRICHMENT_FILE, Enrichment
from recommender.cli.app import init
from recommender.data.contract import ContractError
from recommender.data.entities import Entities, with_history
from recommender.data.events import EventWeights
from recommender.data.interactions import Interactions
from recommender.data.searches import MAX_SEARCHES, Searches, read_searches
from recommender.data.tables import load, read_interactions
from recommender.pipeline.profiles import build_profiles, snapshots
from tests.support.encoders import StubEncoder

START = datetime(2024, 1, 10, tzinfo=UTC)
NOW = np.datetime64("2024-01-11", "us")
Event = tuple[str, str | None, datetime, str, float, str | None]


def interactions(*events: tuple[str, str], returned: str = "NaT", weights: list[float] | None = None) -> Interactions:
    """One user's events with one item: (type, moment) each; `returned` is of the first."""
    types = sorted({name for name, _ in events})
    back = np.full(len(events), "NaT", "datetime64[us]")
    back[0] = np.datetime64(returned, "us")
    return Interactions(
        ["u"], ["i"], np.zeros(len(events), int), np.zeros(len(events), int),
        np.array([moment for _, moment in events], "datetime64[us]"),
        np.array(weights or [1] * len(events), np.float32), types, np.array([types.index(n) for n, _ in events]), back,
    )  # fmt: skip


# pragma: allowlist nextline secret
def test_a_row_weighs_its_own_weight_times_that_of_its_type() -> None:
    rows = (("view", "2024-01-01"), ("purchase", "2024-01-02"), ("answer", "2024-01-03"))
    given = interactions(*rows, weights=[2, 3, 4])
    weighted = given.weighted(EventWeights({"view": 0.25, "answer": 0.5}), NOW)
    assert weighted.weights.tolist() == [0.5, 3, 2]
    assert weighted.pairs().weights.tolist() == [5.5]
    # The types are used up: they do not count twice.
    assert weighted.weighted(EventWeights({"view": 0.25}), NOW).weights.tolist() == [0.5, 3, 2]


def test_a_type_without_a_weight_is_no_purchase_but_an_error() -> None:
    with pytest.raises(ColdStartError, match=r"the event type 'answer' has no weight; the types with one are .*view"):
        interactions(("answer", "2024-01-03")).weighted(EventWeights(), NOW)


def test_an_event_counts_half_after_the_half_life() -> None:
    given = interactions(("purchase", "2024-01-01"), ("purchase", "2023-12-22"), ("view", "2023-12-22"))
    weighted = given.weighted(EventWeights({"view": 0.5}, half_life_days=10), NOW)
    assert weighted.weights.tolist() == [0.5, 0.25, 0.125]


def test_an_event_however_old_stays_one() -> None:
    old = interactions(("purchase", "1990-01-01")).weighted(EventWeights(half_life_days=1), NOW)
    assert (len(old), bool(old.weights[0] > 0)) == (1, True)


def test_types_that_weigh_nothing_drop_out() -> None:
    given = interactions(("view", "2024-01-01"), ("purchase", "2024-01-02"))
    kept = given.weighted(EventWeights({"view": 0}), NOW)
    assert kept.timestamps.tolist() == [datetime(2024, 1, 2)]


def test_what_was_taken_back_is_seen_but_counts_no_more() -> None:
    given = interactions(("purchase", "2024-01-01"), ("view", "2024-01-05"), returned="2024-01-04")
    assert len(given) == 2
    assert given.weighted(EventWeights(), NOW).weights.tolist() == pytest.approx([0.1])
    assert given.weighted(EventWeights({"return": 0.75}), NOW).weights.tolist() == pytest.approx([0.25, 0.1])
    assert given.weighted(EventWeights({"return": 0}), NOW).weights.tolist() == pytest.approx([1, 0.1])


def test_a_return_that_is_still_to_come_is_not_known() -> None:
    given = interactions(("purchase", "2024-01-01"), returned="2024-01-04")
    before, after = np.datetime64("2024-01-04"), datetime(2024, 1, 4, 0, 0, 1, tzinfo=UTC)
    assert len(given.weighted(EventWeights(), before)) == 1
    assert len(given.weighted(EventWeights(), after)) == 0


def test_weighing_as_of_a_moment_before_an_event_is_refused() -> None:
    given = interactions(("purchase", "2024-01-01"), ("purchase", "2024-02-01"))
    with pytest.raises(ContractError, match=r"1 of 2 interactions are not earlier than 2024-01-11.*select only"):
        given.weighted(EventWeights(), NOW)


def test_data_of_one_type_weigh_what_they_weighed_before() -> None:
    given = replace(interactions(("x", "2024-01-01")), event_types=("interaction",))
    assert given.weighted(EventWeights(), NOW).weights.tolist() == [1]
    selected = interactions(("view", "2024-01-01"), ("cart", "2024-01-02")).select(np.array([False, True]))
    assert selected.weighted(EventWeights(), NOW).weights.tolist() == [0.5]


@pytest.mark.parametrize(
    ("weights", "half_life", "problem"),
    [
        ({"view": -1}, 1, "'view' is -1"), ({"return": 1.5}, 1, "'return' is 1.5"), ({"View": 1}, 1, "lower case"),
        ({}, 0, "half_life_days is 0"), ({}, float("nan"), "half_life_days is nan"),
    ],
)  # fmt: skip
def test_weights_that_make_no_sense_are_refused(weights: dict[str, float], half_life: float, problem: str) -> None:
    with pytest.raises(ColdStartError, match=problem):
        EventWeights(weights, half_life)


def write(folder: Path, events: list[Event], users: dict[str, tuple[str | None, datetime]], items: list[str]) -> None:
    folder.mkdir(exist_ok=True)
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute("CREATE TABLE items (item_id VARCHAR, description VARCHAR)")
        con.executemany("INSERT INTO items VALUES ($1, $2)", [[name, name] for name in items])
        con.execute("CREATE TABLE users (user_id VARCHAR, description VARCHAR, event_timestamp TIMESTAMPTZ)")
        con.executemany("INSERT INTO users VALUES ($1, $2, $3)", [[name, *said] for name, said in users.items()])
        con.execute("CREATE TABLE interactions (user_id VARCHAR, item_id VARCHAR, event_timestamp TIMESTAMPTZ, "
                    "event_type VARCHAR, weight FLOAT, query VARCHAR)")  # fmt: skip
        con.executemany("INSERT INTO interactions VALUES ($1, $2, $3, $4, $5, $6)", [list(event) for event in events])
        for table in ("items", "users", "interactions"):
            con.execute(f"COPY {table} TO '{folder / table}.parquet'")


# p: purchase, o: order (a type of the shop's own), v: view, c: cart, r: return. Below each event the number of the
# return that takes it back.
SEQUENCES = [
    ("p", "."),
    ("pr", "1."),
    ("rp", ".."),
    ("ppr", ".2."),
    ("pprr", "32.."),
    ("prpr", "1.3."),
    ("prrp", "1..."),
    ("vcpr", "333."),
    ("vprv", "22.."),
    ("vppr", "..3."),
    ("vpprr", "443.."),
    ("vrp", "1.."),
    ("or", "1."),
]


@pytest.mark.parametrize(("types", "expected"), SEQUENCES)
def test_a_return_takes_back_the_last_purchase_and_with_the_last_one_left_what_led_to_it(
    types: str, expected: str, tmp_path: Path
) -> None:
    assert returned_in(tmp_path, {"ann": types})["ann"] == expected
    assert reference(types) == expected


def test_returns_of_many_pairs_agree_with_a_stack(tmp_path: Path) -> None:
    draw = random.Random(0)
    sequences = {f"u{n}": "".join(draw.choices("ppvcr", k=draw.randrange(1, 12))) for n in range(200)}
    found = returned_in(tmp_path, sequences)
    assert found == {name: reference(types) for name, types in sequences.items()}
    assert sum(set(row) != {"."} for row in found.values()) > 100


def returned_in(folder: Path, sequences: dict[str, str]) -> dict[str, str]:
    names = {"p": "purchase", "o": "booked", "v": "view", "c": "cart", "r": "return"}
    events: list[Event] = [
        (user, "i", START + timedelta(days=n), names[letter], 1, None)
        for user, types in sequences.items() for n, letter in enumerate(types)
    ]  # fmt: skip
    random.Random(1).shuffle(events)
    write(folder, events, dict.fromkeys(sequences, (None, START)), ["i"])
    with duckdb.connect() as con:
        load(con, folder, {"booked": 1})
        rows = con.sql("SELECT user_id, event_timestamp, returned FROM interactions ORDER BY ALL").fetchall()
    found = {user: ["."] * len(types) for user, types in sequences.items()}
    for user, moment, back in rows:
        if back is not None:
            found[user][(moment - START).days] = f"{(back - START).days:x}"
    return {user: "".join(row) for user, row in found.items()}


def reference(types: str) -> str:
    """The same rule, event by event."""
    answer, bought, faint = ["."] * len(types), [], []
    for n, letter in enumerate(types):
        if letter in "po":
            bought.append(n)
        elif letter in "vc":
            faint.append(n)
        else:
            taken = [bought.pop()] if bought else []
            if not bought:
                taken, faint = taken + faint, []
            for row in taken:
                answer[row] = f"{n:x}"
    return "".join(answer)


def searches(*found: tuple[int, str, str]) -> Searches:
    """(user, day, text) each, newest first."""
    users, days, texts = zip(*found, strict=True)
    return Searches(np.array(users), np.array(days, "datetime64[us]"), list(texts))


def test_searches_follow_a_users_own_words_newest_first_and_each_once() -> None:
    found = searches((0, "2024-03-03", "lamp"), (1, "2024-03-02", "pot"), (0, "2024-03-02", "mug"),
                     (0, "2024-03-01", "lamp"))  # fmt: skip
    assert found.join(["I like tea ", None, " ", None], NOW + np.timedelta64(90, "D")) == [
        "I like tea \nlamp\nmug", "pot", "", "",
    ]  # fmt: skip


def test_a_description_knows_no_search_of_later() -> None:
    found = searches((0, "2024-03-03", "lamp"), (1, "2024-03-02", "pot"), (0, "2024-03-01", "mug"))
    assert found.join(["a", "b"], np.datetime64("2024-03-03")) == ["a\nmug", "b\npot"]
    until = np.array(["2024-03-04", "NaT"], "datetime64[us]")
    assert found.join(["a", "b"], until) == ["a\nlamp\nmug", "b"]


def test_only_the_last_searches_count() -> None:
    found = searches(*((0, f"2024-03-{30 - n}", f"query {n}") for n in range(20)))
    assert found.join([None], np.datetime64("2025-01-01")) == ["\n".join(f"query {n}" for n in range(MAX_SEARCHES))]


USERS = {
    "ann": ("I collect lamps", START), "bob": (None, START), "cy": ("moved house", START + timedelta(days=75)),
    "dan": ("party supplies", START), "eve": ("late words", START + timedelta(days=200)), "fay": (None, START),
}  # fmt: skip
ITEMS = ["brass table lamp", "enamel garden pot", "paper party flags", "blue china mug", "tea towel"]
# Of these one user has all, and gives it back two months later.
RETURNED = [("fay", "music box", START, "view"), ("fay", "music box", START + timedelta(days=1), "purchase"),
            ("fay", "music box", START + timedelta(days=60), "return")]  # fmt: skip
WORDS = ["lamp", "garden pot", "party", "china mug", "towel", "tin sign"]


def events_of_a_shop() -> list[Event]:
    draw = random.Random(3)
    kinds = ["view"] * 5 + ["cart"] * 2 + ["purchase"] * 3 + ["return"] * 2 + ["search"] * 4
    events: list[Event] = [(*event, 1, None) for event in RETURNED]
    for n in range(160):
        user, item, kind = draw.choice(list(USERS)[:-1]), draw.choice(ITEMS), draw.choice(kinds)
        query = draw.choice(WORDS) + draw.choice(["", " large", " set"]) if kind == "search" else None
        moment = START + timedelta(days=120 * n / 160, seconds=draw.randrange(60))
        events.append((user, None if query and n % 2 else item, moment, kind, draw.choice([1, 1, 2]), query))
    for n in range(30):
        moment = START + timedelta(days=4 * n, hours=1)
        kind = draw.choice(["add_to_cart", "remove_from_cart", "view_item_list"])
        events.append((draw.choice(["ann", "bob"]), draw.choice(ITEMS[:2]), moment, kind, 1, None))
    return events


class CountingStub(StubEncoder):
    """A stub that profiles can be built with."""

    stats = SimpleNamespace(hits=0, encoded=0)


@pytest.fixture(scope="module", autouse=True)
def stub_encoder() -> Iterator[None]:
    encoder = CountingStub()
    with pytest.MonkeyPatch.context() as patch:
        for module in ("recommender.pipeline.profiles", "coldstart_udfs.sql.arrow_functions"):
            patch.setattr(f"{module}.shared_encoder", lambda *_, **__: encoder)
        yield


@pytest.fixture(scope="module")
def make_repo(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Enrichment], Path]:
    """A repository of that shop under given settings, with its profiles; the tables lie in `data` beside it."""

    def make(settings: Enrichment) -> Path:
        shop = tmp_path_factory.mktemp("events") / "shop"
        init(shop)
        settings.write(shop / "feature_repo" / ENRICHMENT_FILE)
        write(shop / "data", events_of_a_shop(), USERS, [*ITEMS, "music box"])
        build_profiles(shop / "data", shop / "feature_repo")
        return shop

    return make


@pytest.fixture(scope="module")
def repo(make_repo: Callable[[Enrichment], Path]) -> Path:
    return make_repo(Enrichment())


SETTINGS = {
    "defaults": Enrichment(),
    "aged": Enrichment(event_weights={"view": 0, "search": 1, "return": 0.25}, half_life_days=20),
    "aged, with returns": Enrichment(event_weights={"cart": 0.3}, half_life_days=20),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_sql_and_the_recommender_weigh_events_alike_at_every_snapshot(
    name: str, make_repo: Callable[[Enrichment], Path]
) -> None:
    shop = make_repo(SETTINGS[name])
    weights = EventWeights.of_settings(SETTINGS[name])
    compared = emptied = 0
    with duckdb.connect() as con:
        load(con, shop / "data")
        known, moments = read_interactions(con), snapshots(con)
        source = f"{shop}/feature_repo/data/item_descriptions/*.parquet"
        vectors = dict(con.execute(f"SELECT item_id, item_embedding FROM '{source}'").fetchall())
        embeddings = np.array([vectors[item] for item in known.item_ids], np.float32)
        for moment in moments:
            then = np.datetime64(moment.replace(tzinfo=None), "us")
            history = known.select(known.timestamps < then).weighted(weights, moment)
            users, items = blank(known.user_ids, 0 * embeddings[:1]), blank(known.item_ids, embeddings)
            expected = with_history(history, users, items)
            for side, entities in zip(("user", "item"), expected, strict=True):
                rows = con.execute(f"""
                    SELECT {side}_id, {side}_profile, {side}_evidence
                    FROM '{shop}/feature_repo/data/{side}_profiles.parquet' WHERE event_timestamp <= $1
                    QUALIFY row_number() OVER (PARTITION BY {side}_id ORDER BY event_timestamp DESC) = 1
                """, [moment]).fetchall()  # fmt: skip
                stored = {key: (vector, n) for key, vector, n in rows}
                emptied += sum(n == 0 for _, n in stored.values())
                for row, key in enumerate(entities.ids):
                    profile, n = stored.get(key, (0 * embeddings[0], 0))
                    assert n == entities.evidence[row], (moment, key)
                    np.testing.assert_allclose(profile, entities.profiles[row], atol=1e-6)
                    compared += n > 0
    assert compared > 20
    assert emptied or weights.of("return") < 1  # all that fay had was taken back


def blank(ids: list[str], embeddings: np.ndarray) -> Entities:
    matrix = np.broadcast_to(embeddings, (len(ids), embeddings.shape[1])).astype(np.float32)
    return Entities(ids, [""] * len(ids), [[]] * len(ids), matrix, np.zeros_like(matrix), np.zeros(len(ids)), "any")


def descriptions(shop: Path, moment: datetime) -> dict[str, str]:
    """What the sources say of users at a moment, as a point-in-time read has it."""
    with duckdb.connect() as con:
        rows = con.execute(f"""
            SELECT user_id, user_description FROM '{shop}/feature_repo/data/user_descriptions/*.parquet'
            WHERE event_timestamp <= $1
            QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY event_timestamp DESC) = 1
        """, [moment]).fetchall()  # fmt: skip
    return {user: text or "" for user, text in rows}


def test_descriptions_know_the_searches_before_each_snapshot_and_none_after(repo: Path) -> None:
    with duckdb.connect() as con:
        load(con, repo / "data")
        found, moments = read_searches(con), snapshots(con)
    several = 0
    for moment in [*moments, START + timedelta(days=201)]:
        own = [text if since <= moment else None for text, since in USERS.values()]
        expected = found.join(own, np.datetime64(moment.replace(tzinfo=None), "us"))
        several += sum(text.count("\n") >= MAX_SEARCHES - 1 for text in expected)
        served = descriptions(repo, moment)
        assert {user: served.get(user, "") for user in USERS} == dict(zip(USERS, expected, strict=True))
    assert several
    # Before the first snapshot nothing but their own words is known.
    assert {text for text in descriptions(repo, START + timedelta(days=5)).values() if text} == {
        "I collect lamps", "party supplies",
    }  # fmt: skip


def test_vectors_of_searched_descriptions_are_of_their_words(repo: Path) -> None:
    with duckdb.connect() as con:
        source = f"{repo}/feature_repo/data/user_descriptions/searches-0.parquet"
        rows = con.sql(f"SELECT user_description, user_embedding FROM '{source}' LIMIT 5").fetchall()
    expected = [StubEncoder.vector(text) for text, _ in rows]
    np.testing.assert_allclose([vector for _, vector in rows], expected, atol=1e-6)


def test_words_that_were_put_keep_the_searches_and_searches_do_not_displace_them(repo: Path) -> None:
    folder = repo / "feature_repo" / "data" / "user_descriptions"
    moment = datetime(2024, 3, 5, 12, tzinfo=UTC)
    with duckdb.connect() as con:
        con.execute(f"""
            COPY (SELECT * REPLACE ('only tin signs' AS user_description, $1::TIMESTAMPTZ AS event_timestamp)
                  FROM '{folder}/part-0.parquet' WHERE user_id = 'ann') TO '{folder}/pushed-x.parquet'
        """, [moment])  # fmt: skip
    before = descriptions(repo, moment - timedelta(microseconds=1))["ann"]
    for _ in range(2):
        counts = build_profiles(repo / "data", repo / "feature_repo")
        assert counts["user_descriptions since puts"] == 1
        assert descriptions(repo, moment - timedelta(microseconds=1))["ann"] == before
        first, *queries = descriptions(repo, moment + timedelta(microseconds=1))["ann"].split("\n")
        assert (first, len(queries) > 1) == ("only tin signs", True)
        assert descriptions(repo, moment + timedelta(days=300))["ann"].startswith("only tin signs\n")


def test_tables_without_searches_leave_no_file_of_them(repo: Path) -> None:
    file = repo / "feature_repo" / "data" / "user_descriptions" / "searches-0.parquet"
    assert file.exists()
    with duckdb.connect() as con:
        con.execute(f"CREATE TABLE t AS FROM '{repo}/data/interactions.parquet'")
        con.execute(f"COPY (FROM t WHERE query IS NULL) TO '{repo}/data/interactions.parquet'")
    assert "user_searches" not in build_profiles(repo / "data", repo / "feature_repo")
    assert not file.exists()
