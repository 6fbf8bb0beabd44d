from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event as Flag
from threading import Thread, current_thread
from typing import Any

import numpy as np
import pytest
import sqlalchemy
from structlog.testing import capture_logs

from coldstart_udfs.errors import ColdStartError, FingerprintError
from recommender.data.entities import Entities
from recommender.data.events import EventWeights
from recommender.data.interactions import Interactions
from recommender.model.bundle import BundleError, bundle_id, read_manifest
from recommender.model.fitted import Fitted
from recommender.model.recommender import HybridRecommender
from recommender.serve.events.event import Event
from recommender.serve.events.log import EventLog
from recommender.serve.live import Live
from tests.support.made_up_shop import LAMP, SPADE, every_score, shared, trained

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Words:
    """An encoder that knows two words."""

    dimensions, fingerprint = 3, "stub"

    def encode(self, texts: Sequence[str], prompt: str = "document") -> np.ndarray:
        return np.array([LAMP if "lamp" in text else SPADE for text in texts], np.float32).reshape(-1, 3)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    shared().save(tmp_path / "bundle", about={"trained_until": "2025-12-31T00:00:00+00:00"})
    return tmp_path / "bundle"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """In SQLite; a worker on PostgreSQL is in events/test_postgresql.py."""
    return f"sqlite:///{tmp_path}/events.db"


Worker = Callable[..., Live]


@pytest.fixture
def worker(bundle: Path, url: str) -> Iterator[Worker]:
    """Makes workers of one log and one bundle."""
    with ExitStack() as stack:

        def start(at: str = url, **settings: Any) -> Live:
            log = stack.enter_context(closing(EventLog.open(at)))
            return stack.enter_context(Live(bundle, log, **{"encoder": Words(), "poll": None} | settings))

        yield start


@pytest.fixture
def live(worker: Worker) -> Live:
    return worker()


def did(user: str, item: str | None, kind: str = "purchase", hours: float = 0, **rest: object) -> Event:
    return Event(user, item, kind, NOW + timedelta(hours=hours), **rest)  # type: ignore[arg-type]


def wait_until(come: Callable[[], bool]) -> None:
    waited = Flag()
    for _ in range(500):
        if come():
            return
        waited.wait(0.02)
    raise AssertionError("it did not come")


def history(live: Live, user: str) -> dict[str, float]:
    row, items = live.model.fitted.history_of([user]), live.model.items.ids
    return {items[column]: round(float(row[0, column]), 5) for column in row.indices}


def same(one: HybridRecommender, other: HybridRecommender) -> None:
    """The same knowledge, whatever the order of rows."""
    users = sorted(one.users.ids)
    assert users == sorted(other.users.ids)
    for side, names in (("users", ("profiles", "evidence", "embeddings")), ("items", ("evidence", "embeddings"))):
        known = [getattr(model.fitted, side) for model in (one, other)]
        ids = sorted(getattr(one, side).ids)
        for name in names:
            np.testing.assert_allclose(
                *(getattr(entities.take(entities.rows(ids)), name) for entities in known), atol=1e-5, err_msg=name
            )
    items = sorted(one.items.ids)
    for name in ("history_of", "seen_by"):
        rows = [
            getattr(model.fitted, name)(users)[:, model.fitted.items.rows(items)].toarray() for model in (one, other)
        ]
        np.testing.assert_allclose(*rows, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(one.score(users, items), other.score(users, items), atol=1e-3)


def test_the_next_request_knows_an_event(live: Live) -> None:
    before = live.model
    assert before.recommend("u03", k=20).item_id.isin(["i15"]).any()
    appended = live.accept([did("u03", "i15")])
    assert (live.watermark, live.pending) == (appended.ids[-1], 1)
    assert not live.model.recommend("u03", k=20).item_id.isin(["i15"]).any()
    assert before.recommend("u03", k=20).item_id.isin(["i15"]).any()  # what a request holds does not change


def test_a_guest_becomes_a_known_user_by_an_event(live: Live) -> None:
    live.accept([did("guest", "i12", "view")])
    answer = live.model.recommend("guest", k=3)
    assert set(answer.tier) == {"warm"}
    assert set(answer.item_id) <= {f"i{n}" for n in range(10, 20)}


def test_another_worker_knows_an_event_after_its_next_look(live: Live, worker: Worker) -> None:
    other = worker()
    live.accept([did("u03", "i15")])
    assert other.pending == 0
    other.refresh()
    assert (other.pending, history(other, "u03")) == (1, history(live, "u03"))


def test_a_worker_looks_by_itself(live: Live, worker: Worker) -> None:
    other = worker(poll=0.02)
    live.accept([did("u03", "i15")])
    wait_until(lambda: other.pending > 0)
    assert history(other, "u03") == history(live, "u03")


def test_a_restart_knows_what_was_accepted_and_put(live: Live, worker: Worker) -> None:
    live.put_user("new", "a flat with a lamp", ["home=flat"])
    live.put_item("j1", "lamp model 77", ["category=lamp"])
    live.accept([did("new", "j1"), did("u03", "i15"), did("u04", "i15", "view")])
    same(worker().model, live.model)


def test_one_by_one_is_all_at_once_is_partial_fit(live: Live, bundle: Path, tmp_path: Path, worker: Worker) -> None:
    given = [
        did("u01", "i12"), did("u01", "i13", "view"), did("v0", "i12", "cart"), did("u01", "i12", "view"),
        did("v0", "i03", weight=2.5), did("v1", "i03", "rating", rating=4.0),
    ]  # fmt: skip
    for event in given:
        live.accept([event])
    once = worker(f"sqlite:///{tmp_path}/once.db")
    once.accept(given)
    same(live.model, once.model)

    by_hand = HybridRecommender.load(bundle)
    users, items = ["u01", "v0", "v1"], ["i12", "i13", "i03"]
    pairs = [(0, 0), (0, 1), (1, 0), (0, 0), (1, 2), (2, 2)]
    rows, columns = np.array(pairs).T
    weights = np.array([1, 0.1, 0.5, 0.1, 2.5, 0.8], np.float32)
    times = np.full(len(pairs), np.datetime64("2026-01-01T12", "us"))
    by_hand.partial_fit(
        Interactions(users, items, rows, columns, times, weights),
        Entities.nothing(users, 3, "stub"), Entities.nothing(items, 3, "stub"),
    )  # fmt: skip
    same(live.model, by_hand)


def test_events_age_from_the_moment_of_the_bundle(bundle: Path, worker: Worker) -> None:
    live = worker(weights=EventWeights(half_life_days=2))
    live.accept([did("new", "i01", hours=-36), did("new", "i02", hours=12)])  # the bundle's moment, and two days later
    assert history(live, "new") == {"i01": 1.0, "i02": 2.0}


@pytest.mark.parametrize("moment", [datetime(1970, 1, 1, tzinfo=UTC), NOW - timedelta(days=150), datetime.now(UTC)])
@pytest.mark.parametrize("weight", [1e-6, 1e6])
def test_an_event_of_any_age_and_weight_counts(worker: Worker, moment: datetime, weight: float) -> None:
    weights = EventWeights(half_life_days=1)
    live = worker(weights=weights)
    live.accept([Event("new", "i01", "view", moment, weight=weight)])
    live.accept([did("new", "i02")])
    assert {*history(live, "new")} == {"i01", "i02"}
    assert np.isfinite(live.model.recommend("new", k=20)["score"]).all()
    same(worker(weights=weights).model, live.model)


def test_impressions_count_nothing_and_what_was_rated_low_is_not_recommended_again(live: Live) -> None:
    live.accept([did("u03", "i15", "impression", position=1), did("u03", "i16", "rating", rating=1.0)])
    listed = set(live.model.recommend("u03", k=20).item_id)
    assert "i15" in listed
    assert "i16" not in listed
    assert not {"i15", "i16"} & set(history(live, "u03"))
    assert live.pending == 2


@pytest.mark.parametrize(
    ("kinds", "left"),
    [
        (["purchase", "return"], None),
        (["view", "purchase", "return"], None),
        (["view", "cart", "return"], None),
        (["purchase", "purchase", "return"], 1.0),
        (["purchase", "return", "purchase"], 1.0),
        (["view", "cart", "cart_removal"], 0.1),
        (["cart", "purchase", "cart_removal"], 1.5),
        (["return"], None),
        (["purchase", "return", "return", "view"], 0.1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("together", [True, False])
def test_returns_and_removals_take_back_what_came_after_the_bundle(
    live: Live, kinds: list[str], left: float | None, together: bool
) -> None:
    given = [did("new", "i12", kind, hours) for hours, kind in enumerate(kinds)]
    for events in [given] if together else [[event] for event in given]:
        live.accept(events)
    assert history(live, "new").get("i12") == left
    evidence = live.model.users.evidence[live.model.fitted.users.row("new")] if left else 0
    assert evidence == {None: 0, 1.0: 1, 0.1: 1, 1.5: 2}[left]


def test_a_return_takes_back_what_the_bundle_has_of_the_item(live: Live) -> None:
    before = history(live, "u00")
    item = next(iter(before))
    row = live.model.fitted.users.row("u00")
    evidence, buyers = live.model.users.evidence[row], live.model.fitted.counts[live.model.fitted.items.row(item)]
    live.accept([did("u00", item, "view"), did("u00", item, "return", 1)])
    assert history(live, "u00") == {name: weight for name, weight in before.items() if name != item}
    assert live.model.users.evidence[row] == evidence - 1
    assert live.model.fitted.counts[live.model.fitted.items.row(item)] == buyers - 1
    assert item not in set(live.model.recommend("u00", k=20).item_id)  # it stays seen
    live.accept([did("u00", item, "return", 2)])
    assert item not in history(live, "u00")


def test_a_user_without_history_again_has_no_profile(live: Live) -> None:
    live.accept([did("new", "i12"), did("new", "i13"), did("new", "i12", "return"), did("new", "i13", "return")])
    users = live.model.users
    assert not users.profiles[live.model.fitted.users.row("new")].any()


def test_a_search_becomes_part_of_what_the_user_says(live: Live) -> None:
    live.put_user("new", "I live on a farm")
    live.accept([did("new", None, "search", query="Red  LAMP"), did("new", None, "search", query="blue lamp")])
    users = live.model.users
    row = live.model.fitted.users.row("new")
    assert users.descriptions[row] == "I live on a farm\nblue lamp\nred lamp"
    np.testing.assert_array_equal(users.embeddings[row], LAMP)
    live.put_user("new", "I have moved")
    assert live.model.users.descriptions[row] == "I have moved\nblue lamp\nred lamp"


def test_a_known_item_gets_other_words(live: Live) -> None:
    live.put_item("i19", "lamp for the table")
    items, row = live.model.items, live.model.fitted.items.row("i19")
    assert (items.descriptions[row], list(items.attributes[row])) == ("lamp for the table", ["category=spade"])
    np.testing.assert_array_equal(items.embeddings[row], LAMP)
    assert np.isfinite(every_score(live.model)).all()


def test_events_with_an_unknown_item_wait_for_its_description(live: Live, worker: Worker) -> None:
    live.accept([did("new", "later", "purchase"), did("new", "i12", "view")])
    assert history(live, "new") == {"i12": 0.1}
    live.put_item("later", "lamp model 8")
    assert history(live, "new") == {"i12": 0.1, "later": 1.0}
    same(worker().model, live.model)


def test_a_type_without_weight_is_refused_before_anything_is_written(live: Live) -> None:
    with pytest.raises(ColdStartError, match="'vote' has no weight"):
        live.accept([did("u03", "i15", "view"), did("u03", "i15", "vote")])
    assert (live.pending, live.watermark) == (0, 0)


def test_the_same_key_counts_once(live: Live) -> None:
    for _ in range(2):
        live.accept([did("new", "i12")], key="k")
    assert history(live, "new") == {"i12": 1.0}


class Odd(Words):
    """Knows no number for one word."""

    def encode(self, texts: Sequence[str], prompt: str = "document") -> np.ndarray:
        found = super().encode(texts, prompt)
        found[["riddle" in text for text in texts]] = np.nan
        return found


def write_to_the_log(url: str, table: str, **values: object) -> None:
    """A row of a newer version, or of somebody's hand: nothing has checked it."""
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        (number,) = connection.exec_driver_sql("UPDATE log_state SET last = last + 1 RETURNING last").one()
        row = {"id": number, "event_us": 0, **values}
        names, places = ", ".join(row), ", ".join("?" * len(row))
        connection.exec_driver_sql(f"INSERT INTO {table} ({names}) VALUES ({places})", tuple(row.values()))
    engine.dispose()


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("events", {"user_id": "new", "event_type": "gesture"}),  # with no item
        ("events", {"user_id": "new", "item_id": "i15", "event_type": "vote"}),  # with no weight in enrichment.json
        ("events", {"user_id": "new", "item_id": "i15", "event_type": "view", "weight": "heavy"}),
        ("events", {"user_id": "new", "item_id": "i15", "event_type": "view", "event_us": 10**18}),
        ("events", {"user_id": "new", "event_type": "search", "query": "riddle"}),
        ("descriptions", {"entity": "item", "entity_id": "i15", "description": "riddle"}),
        ("descriptions", {"entity": "item", "entity_id": "i15", "description": "lamp", "attributes": '{"a": 1}'}),
        ("descriptions", {"entity": "item", "entity_id": "i15", "description": "lamp", "attributes": "[[1]]"}),
        ("descriptions", {"entity": "shop", "entity_id": "s", "description": "lamp"}),
    ],
)  # fmt: skip
def test_an_entry_that_cannot_be_taken_in_is_set_aside_and_the_rest_followed(
    worker: Worker, url: str, table: str, row: dict[str, object]
) -> None:
    live = worker(encoder=Odd())
    live.accept([did("new", "i12"), did("new", "later")])
    write_to_the_log(url, table, **row)
    with capture_logs() as lines:
        live.put_item("later", "lamp model 8")
        live.accept([did("new", "i13"), did("u03", "i15")])
    restarted = worker(encoder=Odd())
    for now in (live, restarted):
        assert (now.watermark, now.pending, now.set_aside) == (6, 4, 1)
        assert history(now, "new") == {"i12": 1.0, "later": 1.0, "i13": 1.0}
        assert np.isfinite(every_score(now.model)).all()
    same(restarted.model, live.model)
    told = [line for line in lines if line["event"] == "entries of the event log set aside"]
    assert [(line["entries"], line["first"]) for line in told] == [(1, 3)]


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_an_event_that_makes_a_profile_infinite_is_set_aside(worker: Worker) -> None:
    live = worker(weights=EventWeights({"cart": 1e35}))
    live.accept([did("new", "i12"), did("new", "i13", "cart", weight=1e6), did("u03", "i15")])
    assert (live.pending, live.set_aside, history(live, "new")) == (2, 1, {"i12": 1.0})
    assert np.isfinite(every_score(live.model)).all()


def test_an_entry_that_was_set_aside_counts_when_it_can(worker: Worker, url: str) -> None:
    live = worker()
    write_to_the_log(url, "events", user_id="new", item_id="i12", event_type="vote")
    live.accept([did("new", "i13")])
    assert history(live, "new") == {"i13": 1.0}
    later = worker(weights=EventWeights({"vote": 0.5}))
    assert (later.set_aside, history(later, "new")) == (0, {"i12": 0.5, "i13": 1.0})


def test_a_failure_in_the_middle_counts_nothing_twice(worker: Worker) -> None:
    class Flaky(Words):
        failures = 1

        def encode(self, texts: Sequence[str], prompt: str = "document") -> np.ndarray:
            if "lamp model 77" in texts and self.failures:
                self.failures -= 1
                raise MemoryError
            return super().encode(texts, prompt)

    live = worker(encoder=Flaky())
    live.accept([did("new", "i12"), did("new", "j1")])
    live.put_item("j1", "lamp model 77")
    assert history(live, "new") == {"i12": 1.0, "j1": 1.0}
    assert (live.pending, live.watermark) == (2, 3)


def test_an_encoder_that_the_bundle_does_not_know_is_refused(worker: Worker) -> None:
    class Other(Words):
        fingerprint = "other"

    with pytest.raises(FingerprintError, match="Serve with the encoder"):
        worker(encoder=Other())


def test_two_workers_that_accept_in_turn_know_the_same(worker: Worker) -> None:
    workers = [worker() for _ in range(2)]
    items = [f"i{n}" for n in range(10, 18)]
    for live, item in zip(itertools.cycle(workers), items, strict=False):
        live.accept([did("new", item)])
    workers[0].refresh()
    same(*(live.model for live in workers))
    assert history(workers[0], "new") == dict.fromkeys(items, 1.0)


def test_a_forgotten_user_is_unknown_to_every_worker_and_after_a_restart(live: Live, worker: Worker) -> None:
    other = worker()
    live.put_user("u03", "lamps please")
    live.accept([did("u03", "i15"), did("u04", "i15"), did("u03", "unknown")])
    other.refresh()
    live.forget_user("u03")
    other.refresh()
    for now in (live, other, worker()):
        assert "u03" not in now.model.users.ids
        assert "u03" not in now.model.fitted.user_space.ids
        assert now.pending == 1
        assert "i15" in history(now, "u04")
    live.accept([did("u03", "i12")])
    assert history(live, "u03") == {"i12": 1.0}
    same(worker().model, live.model)


def test_the_receipt_counts_what_went_and_says_what_remains(live: Live) -> None:
    live.put_user("u03", "lamps please")
    live.accept([did("u03", "i15"), did("u03", "i16", "view")])
    receipt = live.forget_user("u03")
    assert receipt.removed == {"events": 2, "descriptions": 1, "exposures": 0, "explorations": 0, "bundles": 1}
    assert "stays until the next `coldstart train`" in " ".join(receipt.remains)
    assert set(live.forget_user("u03").removed.values()) == {0}


def test_a_forgotten_user_is_in_no_file(live: Live, bundle: Path, tmp_path: Path) -> None:
    live.accept([did("u03", "i15")])
    about = read_manifest(bundle)
    assert any(b"u03" in path.read_bytes() for path in bundle.iterdir())
    live.forget_user("u03")
    left = [str(path) for path in tmp_path.rglob("*") if path.is_file() and b"u03" in path.read_bytes()]
    assert left == []
    now = read_manifest(bundle)
    assert (now["users"], now["trained_until"]) == (about["users"] - 1, about["trained_until"])
    assert set(HybridRecommender.load(bundle).users.ids) == {*shared().users.ids} - {"u03"}


def test_who_was_trained_on_is_erased_from_a_bundle_that_came_later(live: Live, bundle: Path) -> None:
    """Training had read the user before they were erased."""
    live.forget_user("u03")
    trained(epochs=2).save(bundle)
    live.refresh()
    assert "u03" not in live.model.users.ids
    assert "u03" not in HybridRecommender.load(bundle).users.ids


def test_another_bundle_is_taken_in_with_the_events_that_it_does_not_hold(live: Live, bundle: Path, url: str) -> None:
    live.accept([did("u03", "i15"), did("u04", "i16")])
    before = live.bundle_id
    with closing(EventLog.open(url)) as log:
        held = {"log": log.identity, "watermark": 1}
    trained(epochs=2).save(bundle, about={"events": held})
    live.refresh()
    assert live.bundle_id != before
    assert (live.pending, live.watermark) == (1, 2)
    assert "i15" not in history(live, "u03")
    assert "i16" in history(live, "u04")


def test_events_do_not_wait_while_another_bundle_is_prepared(
    live: Live, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(epochs=2).save(bundle)
    preparing, done, prepare, mine = Flag(), Flag(), Fitted.prepare, current_thread()

    def slow(fitted: Fitted) -> None:
        if current_thread() is not mine and not done.is_set():
            preparing.set()
            done.wait(60)
        prepare(fitted)

    monkeypatch.setattr(Fitted, "prepare", slow)
    promoted = Thread(target=live.refresh)
    promoted.start()
    assert preparing.wait(30)
    accepting = Thread(target=live.accept, args=([did("new", "i01")],))
    mine = accepting
    accepting.start()
    accepting.join(10)
    answered = not accepting.is_alive()
    done.set()
    for thread in (accepting, promoted):
        thread.join()
    assert answered
    assert live.bundle_id == bundle_id(read_manifest(bundle))
    assert history(live, "new") == {"i01": 1.0}


def test_a_bundle_of_another_log_is_refused_and_the_one_before_serves(live: Live, bundle: Path) -> None:
    """Its events would count twice."""
    live.accept([did("u03", "i15"), did("u04", "i16")])
    before = live.bundle_id
    trained(epochs=2).save(bundle, about={"events": {"log": "another", "watermark": 1}})
    with pytest.raises(ColdStartError, match="the log in --events is another one"):
        live.refresh()
    live.refresh()
    assert (live.bundle_id, live.pending) == (before, 2)


def test_a_bundle_that_cannot_be_read_is_refused_once_and_the_one_before_serves(live: Live, bundle: Path) -> None:
    before = live.bundle_id
    manifest = bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"users": 40', '"users": 41'))
    with pytest.raises(BundleError, match="was altered"):
        live.refresh()
    live.refresh()
    assert live.accept([did("u03", "i15")]).ids
    assert (live.bundle_id, live.pending) == (before, 1)


@pytest.mark.parametrize("wrong", [b"{", b"{}", b"[]", b'{"format": 4, "arrays": 1}', None])
def test_a_bundle_that_cannot_be_read_is_a_problem_until_it_can(
    bundle: Path, worker: Worker, wrong: bytes | None
) -> None:
    live, manifest = worker(poll=0.01), bundle / "manifest.json"
    good = manifest.read_bytes()
    manifest.unlink()
    if wrong is not None:
        manifest.write_bytes(wrong)
    wait_until(lambda: live.problem is not None)
    Flag().wait(0.1)
    assert live.problem is not None
    assert live.accept([did("u03", "i15")]).ids
    manifest.write_bytes(good)
    wait_until(lambda: live.problem is None)


def test_a_bundle_whose_arrays_arrive_after_its_manifest_is_taken_in(live: Live, bundle: Path) -> None:
    trained(epochs=2).save(bundle)
    arrays = next(path for path in bundle.glob("arrays-*.npz") if live.bundle_id not in path.name)
    whole = arrays.read_bytes()
    arrays.write_bytes(whole[:1000])
    with pytest.raises(BundleError):
        live.refresh()
    arrays.write_bytes(whole)
    live.refresh()
    assert live.bundle_id in arrays.name


def test_a_bundle_of_its_own_serves_as_before(live: Live) -> None:
    np.testing.assert_allclose(every_score(live.model), every_score(trained()), atol=1e-5)
