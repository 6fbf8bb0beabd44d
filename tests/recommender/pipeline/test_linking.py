"""Two shops with one taste in both: what a link maps, whom it leaves out, and what is left after an erasure."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import coldstart_udfs
from coldstart_udfs.arrow_lists import embeddings_to_arrow
from coldstart_udfs.errors import ColdStartError, FingerprintError
from coldstart_udfs.link import Link, link_folder
from recommender.cli.app import app, init
from recommender.data.entities import Entities, with_history
from recommender.model.linked import LinkedRecommender
from recommender.model.parameters import Parameters
from recommender.model.recommender import HybridRecommender
from recommender.pipeline.linking import erase_from_targets, link, targets_of, unlink
from recommender.sql import catalogue as sql
from tests.support.made_up_shop import events

# Users 0 to 79 are in both shops, 80 to 99 in the first alone. Those with even numbers cook and the others paint: in
# the first shop they buy books, in the second the things that they need. In each shop half of the items are for each.
SHARED, NEW, KINDS, ITEMS, WIDTH = 80, 20, 2, 30, 6
MOMENT = datetime(2024, 6, 1, tzinfo=UTC)
USERS = [f"u{number:02}" for number in range(SHARED + NEW)]
COOK, PAINTER = "u80", "u81"


def vectors(seed: int) -> np.ndarray:
    """Embeddings of a shop's items, (ITEMS, WIDTH): the two kinds lie in directions of the shop's own."""
    drawn = np.random.default_rng(seed)
    kinds = np.eye(WIDTH)[[seed, seed + 2]][np.arange(ITEMS) % KINDS] + 0.7 * np.eye(WIDTH)[5]
    found = kinds + drawn.normal(scale=0.1, size=(ITEMS, WIDTH))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def things(seed: int, fingerprint: str, prefix: str) -> Entities:
    zeros = np.zeros((ITEMS, WIDTH), np.float32)
    ids = [f"{prefix}{number:02}" for number in range(ITEMS)]
    texts = [f"{'spoon' if number % KINDS == 0 else 'brush'} {number}" for number in range(ITEMS)]
    return Entities(ids, texts, [[] for _ in ids], vectors(seed), zeros, np.zeros(ITEMS), fingerprint)


def lists(found: np.ndarray) -> pa.Array:
    return embeddings_to_arrow(found.astype(np.float32), np.ones(len(found), bool))


def people(ids: list[str], fingerprint: str) -> Entities:
    zeros = np.zeros((len(ids), WIDTH), np.float32)
    return Entities(ids, [""] * len(ids), [[] for _ in ids], zeros, zeros, np.zeros(len(ids)), fingerprint)


def bought(users: int, seed: int) -> list[tuple[int, int]]:
    """Five things of their kind for each user, and one of the other."""
    drawn, pairs = np.random.default_rng(seed), []
    for user in range(users):
        own, other = (np.flatnonzero(np.arange(ITEMS) % KINDS == kind) for kind in (user % KINDS, (user + 1) % KINDS))
        pairs += [(user, int(item)) for item in [*drawn.choice(own, 5, replace=False), drawn.choice(other)]]
    return pairs


def source_shop(shop: Path, share: str = "true AS share", fingerprint: str = "stub") -> Path:
    """The first shop: its table of users, and the sources that `coldstart profiles` writes, of made-up vectors."""
    data = shop / "feature_repo" / "data"
    (data / "item_descriptions").mkdir(parents=True)
    (shop / "data").mkdir()
    users, items = people(USERS, fingerprint), things(0, fingerprint, "b")
    known, _ = with_history(events(users, items, bought(len(USERS), 0)), users, items)
    for months in (1, 0):  # two snapshots; of the older one only half is known
        table = pa.table({
            "user_id": USERS, "user_profile": lists(known.profiles / (1 + months)),
            "user_evidence": [6] * len(USERS), "embedding_fingerprint": [fingerprint] * len(USERS),
            "event_timestamp": pa.array([MOMENT - timedelta(days=30 * months)] * len(USERS), pa.timestamp("us", "UTC")),
        })  # fmt: skip
        file = data / "user_profiles.parquet"
        pq.write_table(pa.concat_tables([pq.read_table(file), table]) if file.exists() else table, file)
    described = pa.table({
        "item_id": list(items.ids), "item_embedding": lists(items.embeddings),
        "embedding_fingerprint": [fingerprint] * ITEMS,
        "event_timestamp": pa.array([MOMENT] * ITEMS, pa.timestamp("us", "UTC")),
    })  # fmt: skip
    pq.write_table(described, data / "item_descriptions" / "part-0.parquet")
    with duckdb.connect() as con:
        con.execute("CREATE TABLE people (user_id VARCHAR, number BIGINT)")
        con.executemany("INSERT INTO people VALUES (?, ?)", list(zip(USERS, range(len(USERS)), strict=True)))
        columns = f"user_id, NULL::VARCHAR AS description{', ' + share if share else ''}"
        con.execute(f"COPY (SELECT {columns} FROM people) TO '{shop / 'data' / 'users.parquet'}' (FORMAT parquet)")
    return shop


def bundle(shop: Path, ids: list[str], fingerprint: str = "stub") -> None:
    """The recommender of the second shop."""
    users, items = people(ids, fingerprint), things(1, fingerprint, "t")
    history = events(users, items, bought(len(ids), 1))
    model = HybridRecommender(Parameters(components=4, epochs=2, lightfm_seeds=1))
    model.fit(history, *with_history(history, users, items)).save(shop / "data" / "bundle")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both shops, not linked yet; the second one is applied, so that its online store exists."""
    folder = tmp_path_factory.mktemp("shops")
    source_shop(folder / "books")
    init(folder / "tools")
    bundle(folder / "tools", USERS[:SHARED])
    return folder


@pytest.fixture
def shops(made: Path, tmp_path: Path) -> Path:
    """A copy of them for a test that writes."""
    shutil.copytree(made, tmp_path / "shops")
    return tmp_path / "shops"


@pytest.fixture(scope="module")
def linked(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of them that is linked, for tests that only read."""
    folder = tmp_path_factory.mktemp("linked") / "shops"
    shutil.copytree(made, folder)
    link(folder / "books", folder / "tools")
    return folder


def recommender(shops: Path) -> LinkedRecommender:
    repo = shops / "tools" / "feature_repo"
    return LinkedRecommender(HybridRecommender.load(shops / "tools" / "data" / "bundle"), repo)


def rows(shops: Path) -> list[tuple[str, int]]:
    """The users in the second shop's copy, with their numbers of snapshots."""
    file = shops / "tools" / "feature_repo" / "data" / "linked_profiles.parquet"
    return duckdb.sql(f"SELECT user_id, count(*) FROM '{file}' GROUP BY ALL ORDER BY ALL").fetchall()


def kinds_of(model: LinkedRecommender, user: str) -> list[int]:
    """The kinds of the ten best items of a user."""
    return [int(item[1:]) % KINDS for item in model.recommend(user, 10)["item_id"]]


def test_users_who_are_new_in_the_second_shop_get_what_people_like_them_take_there(linked: Path) -> None:
    model = recommender(linked)
    assert kinds_of(model, COOK).count(0) >= 9
    assert kinds_of(model, PAINTER).count(1) >= 9
    assert set(model.recommend([COOK, PAINTER], 3)["tier"]) == {"linked"}


def test_several_users_get_what_each_gets_alone(linked: Path) -> None:
    model = recommender(linked)
    both = model.recommend([COOK, PAINTER, "u00", "nobody"], 5)
    for name in (COOK, PAINTER, "u00", "nobody"):
        alone = model.recommend(name, 5)
        assert both[both["user_id"] == name]["item_id"].tolist() == alone["item_id"].tolist()


def test_users_with_history_and_strangers_are_ranked_as_without_a_link(linked: Path) -> None:
    model, plain = recommender(linked), HybridRecommender.load(linked / "tools" / "data" / "bundle")
    for name in ("u00", "nobody"):
        expected = plain.recommend(name, 10, unknown="popularity")
        found = model.recommend(name, 10)
        assert found["item_id"].tolist() == expected["item_id"].tolist()
        np.testing.assert_allclose(found["score"], expected["score"])


def test_sql_ranks_scores_and_explains_linked_users_as_python_does(linked: Path) -> None:
    model, shop = recommender(linked), linked / "tools"
    with duckdb.connect() as con:
        coldstart_udfs.register(con, model="stub")
        sql.register(con, shop / "data" / "bundle", shop / "feature_repo")
        for user in (COOK, USERS[0], "nobody"):
            rows = con.execute("FROM recommend(?, k := 5)", [user]).fetchall()
            expected = model.recommend(user, 5)
            assert [row[1] for row in rows] == expected["item_id"].tolist()
            assert [row[2] for row in rows] == pytest.approx(expected["score"].tolist(), abs=1e-4)
            assert {row[3] for row in rows} == {expected["tier"].iloc[0]}
            best = rows[0]
            score = con.execute("SELECT score(?, ?)", [user, best[1]]).fetchall()[0][0]
            assert score == pytest.approx(best[2], abs=1e-4)
            terms = con.execute("SELECT kind, value FROM explain(?, ?)", [user, best[1]]).fetchall()
            assert sum(value for _, value in terms) == pytest.approx(best[2], abs=1e-3)
            assert ("link" in dict(terms)) == (user == COOK)
        several = con.execute(
            f"SELECT u, item_id FROM (VALUES ('{PAINTER}'), ('{USERS[0]}'), ('{COOK}')) t(u), recommend(u, k := 3) "
            "ORDER BY u, rank"
        ).fetchall()
        expected = [(user, item) for user in sorted([PAINTER, USERS[0], COOK])
                    for item in model.recommend(user, 3)["item_id"]]  # fmt: skip
        assert several == expected
        # Without the repository a bundle knows nothing of links.
        sql.register(con, shop / "data" / "bundle")
        assert {row[3] for row in con.execute("FROM recommend(?)", [COOK]).fetchall()} == {"unknown"}


def test_registering_again_forgets_the_scores_of_a_person_who_was_erased(shops: Path) -> None:
    link(shops / "books", shops / "tools")
    shop = shops / "tools"
    with duckdb.connect() as con:
        coldstart_udfs.register(con, model="stub")
        sql.register(con, shop / "data" / "bundle", shop / "feature_repo")
        query = f"SELECT score('{COOK}', 't00'), score('nobody', 't00')"
        person, stranger = con.execute(query).fetchall()[0]
        assert person != stranger
        erase_from_targets(shops / "books" / "data", COOK)
        sql.register(con, shop / "data" / "bundle", shop / "feature_repo")
        person, stranger = con.execute(query).fetchall()[0]
        assert person == stranger
        with pytest.raises(ColdStartError, match=r"the repository .* is no folder"):
            sql.register(con, shop / "data" / "bundle", shop / "feature_rep")


def test_an_item_that_is_new_since_the_training_is_ranked_for_linked_users(linked: Path) -> None:
    model = recommender(linked)
    spoon = replace(things(1, "stub", "t").take(np.array([0])), ids=["new"])
    scores = model.score([COOK, PAINTER], spoon)[:, 0]
    assert scores[0] > scores[1]
    known = model.score([COOK, PAINTER], ["t00"])[:, 0]
    assert known[0] > known[1]


def test_held_out_users_say_what_the_map_is_worth(linked: Path) -> None:
    about = Link.read(link_folder(linked / "tools" / "feature_repo")).about
    assert about.method == "shared users"
    assert about.shared_users == SHARED
    assert about.strength > 0
    assert about.figures["with"] > about.figures["without"] + 0.05
    assert about.figures["low"] > 0


def test_a_map_that_is_noise_changes_no_ranking(shops: Path) -> None:
    """Whoever buys what in the first shop says nothing of the second one, when the ids are mixed."""
    file = shops / "books" / "feature_repo" / "data" / "user_profiles.parquet"
    table = pq.read_table(file)
    order = np.random.default_rng(3).permutation(len(USERS))
    mixed = np.concatenate([order, order + len(USERS)])
    pq.write_table(table.set_column(1, "user_profile", table["user_profile"].take(pa.array(mixed))), file)
    about = link(shops / "books", shops / "tools").about
    assert about.figures["with"] - about.figures["without"] < 0.02


def test_the_latest_profile_counts_and_all_snapshots_are_there(linked: Path) -> None:
    assert rows(linked) == [(name, 2) for name in USERS]
    model = recommender(linked)
    file = linked / "books" / "feature_repo" / "data" / "user_profiles.parquet"
    latest = pq.read_table(file)["user_profile"].to_pylist()[len(USERS)]
    np.testing.assert_allclose(model.source_profiles([USERS[0]])[0], latest, rtol=1e-6)


@pytest.mark.parametrize(
    ("share", "agreed"),
    [
        ("number % 4 > 0 AS share", 75), ("CASE WHEN number < 60 THEN 'true' ELSE 'no' END AS \"Share\"", 60),
        ("CASE WHEN number < 60 THEN true END AS share", 60),
    ],
)  # fmt: skip
def test_only_users_who_agreed_are_linked(tmp_path: Path, made: Path, share: str, agreed: int) -> None:
    source_shop(tmp_path / "books", share)
    shutil.copytree(made / "tools", tmp_path / "tools")
    done = link(tmp_path / "books", tmp_path / "tools")
    assert (done.agreed, done.users) == (agreed, len(USERS))
    assert len(rows(tmp_path)) == agreed


@pytest.mark.parametrize("share", ["", "false AS share", "'whatever' AS share"])
def test_without_consent_nothing_is_written(tmp_path: Path, made: Path, share: str) -> None:
    source_shop(tmp_path / "books", share)
    shutil.copytree(made / "tools", tmp_path / "tools")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ColdStartError, match="share"):
        link(tmp_path / "books", tmp_path / "tools")
    assert sorted(tmp_path.rglob("*")) == before
    assert link(tmp_path / "books", tmp_path / "tools", assume_consent=True).agreed == len(USERS)


def test_who_withdraws_is_gone_after_the_next_link(shops: Path) -> None:
    link(shops / "books", shops / "tools")
    users = shops / "books" / "data" / "users.parquet"
    table = pq.read_table(users)
    pq.write_table(table.set_column(2, "share", pa.array([name != COOK for name in USERS])), users)
    done = link(shops / "books", shops / "tools")
    assert done.withdrawn == 1
    assert COOK not in dict(rows(shops))


def test_all_who_withdraw_are_gone_though_there_is_nothing_to_link_any_more(shops: Path) -> None:
    link(shops / "books", shops / "tools")
    users = shops / "books" / "data" / "users.parquet"
    pq.write_table(pq.read_table(users).set_column(2, "share", pa.array([False] * len(USERS))), users)
    with pytest.raises(ColdStartError, match="nothing to link"):
        link(shops / "books", shops / "tools")
    assert rows(shops) == []
    assert set(recommender(shops).recommend(COOK, 3)["tier"]) == {"unknown"}


def test_an_erasure_in_the_first_shop_reaches_the_second(shops: Path) -> None:
    link(shops / "books", shops / "tools")
    data = shops / "books" / "data"
    assert targets_of(data) == [(shops / "tools").resolve()]
    assert [count for _, _, count in erase_from_targets(data, COOK, dry_run=True).removed] == [2]
    assert COOK in dict(rows(shops))
    assert [count for _, _, count in erase_from_targets(data, COOK).removed] == [2]
    assert COOK not in dict(rows(shops))
    assert erase_from_targets(data, COOK).removed == []
    assert set(recommender(shops).recommend(COOK, 3)["tier"]) == {"unknown"}


def test_a_shop_that_moved_is_told(shops: Path) -> None:
    link(shops / "books", shops / "tools")
    (shops / "tools").rename(shops / "elsewhere")
    (remains,) = erase_from_targets(shops / "books" / "data", COOK).remains
    assert "coldstart forget" in remains


def with_users(shop: Path, ids: list[str], fingerprint: str = "stub") -> None:
    shutil.rmtree(shop / "data" / "bundle")
    bundle(shop, ids, fingerprint)


def test_without_shared_users_the_shared_space_is_used(shops: Path) -> None:
    with_users(shops / "tools", [f"other{number}" for number in range(SHARED)])
    about = link(shops / "books", shops / "tools").about
    assert (about.method, about.shared_users) == ("shared space", 0)
    # Cooking lies in another direction in each shop: nothing can be known here, but a profile is still a profile.
    mapped = Link.read(link_folder(shops / "tools" / "feature_repo")).mapped(vectors(0))
    assert mapped.shape == (ITEMS, WIDTH)
    assert np.isfinite(mapped).all()


def test_two_encoders_need_users_of_both_shops(shops: Path) -> None:
    with_users(shops / "tools", USERS[:SHARED], "another")
    link(shops / "books", shops / "tools")
    model = recommender(shops)
    assert kinds_of(model, COOK).count(0) >= 9
    with_users(shops / "tools", [f"other{number}" for number in range(SHARED)], "another")
    with pytest.raises(FingerprintError, match="50 are needed"):
        link(shops / "books", shops / "tools")


def test_a_recommender_of_another_encoder_than_the_link_is_refused(shops: Path) -> None:
    link(shops / "books", shops / "tools")
    with_users(shops / "tools", USERS[:SHARED], "another")
    with pytest.raises(FingerprintError, match="coldstart link"):
        recommender(shops)


def test_a_damaged_link_is_refused(shops: Path) -> None:
    link(shops / "books", shops / "tools")
    folder = link_folder(shops / "tools" / "feature_repo")
    (arrays,) = folder.glob("arrays-*.npz")
    arrays.write_bytes(arrays.read_bytes()[:-1])
    with pytest.raises(ColdStartError, match="coldstart link"):
        Link.read(folder)
    (folder / "link.json").write_text('{"format": 1}', encoding="utf-8")
    with pytest.raises(ColdStartError, match="names no file of arrays; run `coldstart link` again"):
        Link.read(folder)
    link(shops / "books", shops / "tools")
    assert Link.read(folder).about.shared_users == SHARED


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda shops: (shops / "books", shops / "books"), "both shops"),
        (lambda shops: (shops / "nowhere", shops / "tools"), "coldstart profiles"),
        (lambda shops: (shops / "books", shops / "nowhere"), "coldstart train"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(made: Path, change: Callable[[Path], tuple[Path, Path]], message: str) -> None:
    with pytest.raises(ColdStartError, match=message):
        link(*change(made))


def test_a_link_is_removed(shops: Path) -> None:
    link(shops / "books", shops / "tools")
    assert unlink(shops / "tools")
    assert not unlink(shops / "tools")
    model = HybridRecommender.load(shops / "tools" / "data" / "bundle")
    assert LinkedRecommender.of(model, shops / "tools" / "feature_repo") is None


def test_the_command_links_forgets_and_removes(shops: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shops)
    said = CliRunner().invoke(app, ["link", "books", "tools"])
    assert said.exit_code == 0, said.output
    assert "100 of 100 users with history in books are linked, 80 of them are in both shops" in said.output
    query = f"SELECT count(*) AS n FROM linked_profiles WHERE user_id = '{COOK}'"
    monkeypatch.chdir(shops / "tools")
    (shops / "tools" / "feature_repo" / "enrichment.json").write_text("{}")
    shown = CliRunner().invoke(app, ["sql", "--json", "-c", query])
    assert json.loads(shown.stdout) == [{"n": 1}]
    monkeypatch.chdir(shops)
    assert CliRunner().invoke(app, ["link", "tools", "--remove"]).exit_code == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:On demand feature view is an experimental feature")
def test_feast_gives_the_profile_that_sql_and_the_map_give_and_forgets_it(shops: Path) -> None:
    from tests.support.small_shop import apply  # imports Feast

    link(shops / "books", shops / "tools")
    repo = shops / "tools" / "feature_repo"
    store = apply(repo)
    store.materialize(MOMENT - timedelta(days=400), MOMENT + timedelta(days=1), feature_views=["linked_profiles"])
    names = [COOK, "nobody"]

    def online() -> dict[str, list[object]]:
        wanted = ["user_linked:user_linked_profile", "user_linked:user_is_linked"]
        return store.get_online_features(wanted, [{"user_id": name} for name in names]).to_dict()

    found = online()
    model = recommender(shops)
    expected = model.link.mapped(model.source_profiles(names))
    np.testing.assert_allclose(np.array(found["user_linked_profile"]), expected, atol=1e-6)
    assert found["user_is_linked"] == [True, False]
    file = repo / "data" / "linked_profiles.parquet"
    stored = duckdb.sql(f"SELECT user_linked_profile FROM '{file}' WHERE user_id = '{COOK}' ORDER BY event_timestamp")
    np.testing.assert_allclose(stored.fetchall()[-1][0], expected[0], atol=1e-6)
    asked = pa.table({"user_id": names, "event_timestamp": [MOMENT] * 2}).to_pandas()
    history = store.get_historical_features(asked, ["user_linked_training:user_linked_profile"]).to_df()
    by_name = history.set_index("user_id")["user_linked_profile"]
    np.testing.assert_allclose(np.array([by_name[name] for name in names]), expected, atol=1e-6)
    assert {what for _, what, _ in erase_from_targets(shops / "books" / "data", COOK).removed} == {"rows", "values"}
    assert online()["user_is_linked"] == [False, False]
