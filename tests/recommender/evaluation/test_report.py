"""The HTML report of an evaluation: what it shows, that it is true, and that it refers to nothing outside itself."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from coldstart_udfs.errors import ColdStartError
from recommender.data.entities import Entities, with_history
from recommender.data.interactions import Interactions
from recommender.evaluation.comparison import Details, Evaluation
from recommender.evaluation.report import write_report
from recommender.evaluation.report.examples import new_items, new_users
from recommender.evaluation.report.measures import Mean, bins_of, calibration_of, influence_of
from recommender.measure.splits import Split, make_splits
from recommender.model.recommender import HybridRecommender, Parameters
from recommender.model.weights import Weights

EVIL = "<script>alert('gotcha')</script> & \"lamp\" <img src=http://evil.example/x onerror=alert(2)>"
METHODS = ("random", "popularity", "EASE <b>&</b> $x_1$", "coldstart")
N_USERS, N_ITEMS = 80, 160


def entities(ids: list[str], texts: list[str], vectors: np.ndarray, attributes: list[list[str]]) -> Entities:
    vectors = np.asarray(vectors, np.float32)
    return Entities(ids, texts, attributes, vectors, np.zeros_like(vectors), np.zeros(len(ids)), "stub <of> tests")


def shop(kind: str) -> Split:
    """Two tastes: the first half of the users buys red lamps, the first half of the items; the others garden tools."""
    rng = np.random.default_rng(0)
    user_half, item_half = np.arange(N_USERS) // (N_USERS // 2), np.arange(N_ITEMS) // (N_ITEMS // 2)
    directions = np.array([[1, 0, 0.1], [0, 1, 0.1]])
    texts = [f"{('red metal lamp', 'wooden spade for the garden')[half]} {n}" for n, half in enumerate(item_half)]
    texts = [f"{text} {EVIL}" if n % 5 == 0 else text for n, text in enumerate(texts)]
    items = entities(
        [f"i{n:03}" for n in range(N_ITEMS)], texts, directions[item_half] + rng.normal(scale=0.05, size=(N_ITEMS, 3)),
        [["price=2^1"] for _ in texts],
    )  # fmt: skip
    users = entities(
        [f"u{n:02}" for n in range(N_USERS)], [f"I like {('lamps', 'gardens')[half]} {EVIL}" for half in user_half],
        directions[user_half], [[f"taste={half} <script>"] for half in user_half],
    )  # fmt: skip
    pairs = np.argwhere((user_half[:, None] == item_half) & (rng.random((N_USERS, N_ITEMS)) < 0.3))
    times = np.datetime64("2024-01-01", "us") + np.arange(len(pairs)).astype("timedelta64[h]")
    history = Interactions(users.ids, items.ids, *pairs.T, times, np.ones(len(pairs), np.float32))
    (split, *_) = make_splits(history, *with_history(history, users, items), kind)
    return split


def row(method: str, candidates: str, value: float, low: float | None, high: float | None, **more: Any) -> dict:
    return {
        "method": method, "candidates": candidates, "users": 64.0, "ndcg@20": value, "recall@20": value / 2,
        "precision@10": value / 3, "auc": 0.5 + value / 2, "coverage": value / 4, "cold_share": value / 5,
        "ndcg@20_std": value / 100, "ci_low": low, "ci_high": high, "fit_s": 1234 * value, "score_s": value, **more,
    }  # fmt: skip


def evaluation(kind: str, candidates: Sequence[str], *, seeds: int = 2) -> Evaluation:
    split = shop(kind)
    by_text = {"lightfm": (0.2, 0.2), "popularity": (0.2, 0.2), "text": (2.0, 2.0)}
    parameters = Parameters(components=8, epochs=5, weights=Weights(warm=by_text, cold=by_text))
    model = HybridRecommender(parameters).fit(split.train, split.users, split.items)
    rng = np.random.default_rng(1)
    n = np.tile(np.bincount(split.train.users, minlength=N_USERS)[split.asked], seeds)
    values = {(m, c): rng.uniform(0, 0.1 + 0.2 * k, len(n)) for k, m in enumerate(METHODS) for c in candidates}
    rows = []
    for (method, kind_of), each in values.items():
        lift = values["coldstart", kind_of].mean() - each.mean()
        ours = method == "coldstart"
        rows.append(row(method, kind_of, each.mean(), None if ours else lift - 0.05, None if ours else lift + 0.05))
    result = {"dataset": f"a shop {EVIL}", "split": kind, "seeds": seeds, "rows": rows,
              "versions": {"python": "3.11.9", "encoder": model.fingerprint},
              "notes": [f"ALS is omitted: {EVIL}"]}  # fmt: skip
    users, draws = np.tile(split.asked, seeds), np.repeat(np.arange(seeds), len(split.asked))
    by_kind = [dict.fromkeys(candidates, each) for each in (n, users, draws)]
    return Evaluation(result, Details(values, *by_kind, model, split))


class Page(HTMLParser):
    """Tags with attributes, the text as a reader sees it, and the tables' rows."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.rows = "", []
        self._cell = self._hidden = False
        self.feed(page)
        self.close()
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._hidden |= tag == "style"
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._cell = True
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._hidden &= tag != "style"
        self._cell &= tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.text += data
        if self._cell:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def item_cold() -> Evaluation:
    return evaluation("item_cold", ["cold", "overall"])


@pytest.fixture(scope="module")
def user_cold() -> Evaluation:
    return evaluation("user_cold", ["warm"])


@pytest.fixture(scope="module")
def html(item_cold: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(item_cold, path)
    return path.read_text(encoding="utf-8")


def test_the_page_refers_to_nothing_outside_itself(html: str) -> None:
    page = Page(html)
    known = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(known) == len(set(known)) > 10
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form", "img", "image")
        for name, value in attributes.items():
            assert not name.startswith(("on", "xmlns"))
            if name in ("src", "href", "xlink:href", "action", "data", "srcset"):
                assert value is not None
                assert value.startswith("data:") or value.removeprefix("#") in known
            for target in re.findall(r"url\(([^)]*)\)", value or ""):
                assert target.removeprefix("#") in known
            if name != "content":
                assert "//" not in (value or "")
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style


def test_a_text_with_a_script_is_shown_and_does_not_run(html: str) -> None:
    page = Page(html)
    assert EVIL in page.text
    assert "<script>alert" not in html
    assert "default-src 'none'" in dict(page.tags[3][1])["content"]
    assert not {"script", "img", "b"} & {tag for tag, _ in page.tags}


def test_every_method_stands_in_the_tables_with_the_numbers_of_the_result(html: str, item_cold: Evaluation) -> None:
    page = Page(html)
    for wanted in item_cold.result["rows"]:
        value = wanted["ndcg@20"]
        cells = [wanted["method"], f"{value:.3f} ± {value / 100:.3f}"]
        (found,) = [each for each in page.rows if each[:2] == cells]
        interval = "–"
        if wanted["ci_low"] is not None:
            interval = f"{wanted['ci_low']:+.3f} to {wanted['ci_high']:+.3f}".replace("-", "−")
        assert found[2:] == [
            interval, f"{value / 2:.3f}", f"{value / 3:.3f}", f"{0.5 + value / 2:.3f}", f"{value / 4:.0%}",
            f"{value / 5:.0%}", f"{1234 * value:,.1f}", f"{value:,.1f}",
        ]  # fmt: skip
    assert page.text.count("64 users") == 2
    assert "stub <of> tests" in page.text


def test_the_plots_name_every_method_as_it_is_called_dollars_and_all(html: str) -> None:
    drawings = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert len(drawings) == 5
    lift, history, _, calibration, coverage = (Page(drawing).text for drawing in drawings)
    for method in METHODS[:-1]:
        assert method in lift
        assert method in coverage
    assert "coldstart" in coverage
    assert "coldstart" in history
    assert METHODS[2] in history  # one of the two best others
    assert METHODS[0] not in history
    assert "red" in calibration
    for text in (lift, history, coverage):
        assert "new items" in text
        assert "all items" in text


def test_words_of_the_shop_have_a_direction_and_a_language_of_their_own(item_cold: Evaluation, tmp_path: Path) -> None:
    """Else "(חדש)!" ends at the wrong side, and Chinese texts have Japanese shapes of characters."""
    texts = {
        "he": "מנורת מתכת אדומה לחדר השינה (חדש)!", "ar": "مصباح أحمر معدني لغرفة النوم (جديد)!",
        "ko": "빨간 금속 램프", "zh": "红色金属台灯（卧室床头）",
        "ja": "木製の庭用スコップ（軽量）", None: "red metal lamp (new)!",
    }  # fmt: skip
    details = item_cold.details
    entities = details.split.items
    described = replace(entities, descriptions=[list(texts.values())[n % len(texts)] for n in range(len(entities))])
    shown = replace(item_cold, details=replace(details, split=replace(details.split, items=described)))
    write_report(shown, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    for language, text in texts.items():
        written = f'<bdi lang="{language}">{text}</bdi>' if language else f"<bdi>{text}</bdi>"
        assert html.count(written) == html.count(text) > 0
    for example in new_items(details.model, shown.details.split):
        for name in (example.item.name, *(one.name for one in example.beside), *(fan.name for fan in example.audience)):
            assert f"<bdi>{name}</bdi>" in html


def test_attributes_of_new_users_have_a_direction_of_their_own(user_cold: Evaluation, tmp_path: Path) -> None:
    write_report(user_cold, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert html.count("<bdi>taste=0 &lt;script&gt;</bdi>") == html.count("taste=0") > 0


def test_one_evaluation_gives_one_file_byte_for_byte(item_cold: Evaluation, html: str, tmp_path: Path) -> None:
    write_report(item_cold, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == html
    assert [path.name for path in tmp_path.iterdir()] == ["again.html"]


def test_without_matplotlib_the_error_says_what_to_install_and_nothing_is_written(
    item_cold: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ColdStartError, match=r"matplotlib.*pip install 'feast-coldstart\[report\]'"):
        write_report(item_cold, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_new_items_are_ten_spread_evenly_and_all_on_the_page(item_cold: Evaluation, html: str) -> None:
    split = item_cold.details.split
    examples = new_items(item_cold.details.model, split)
    sold = [n for n in np.flatnonzero(split.cold) if (split.test.items == n).any()]
    places = [sold.index(split.items.ids.index(example.item.name)) for example in examples]
    assert len(places) == 10
    assert (places[0], places[-1]) == (0, len(sold) - 1)
    assert np.ptp(np.diff(places)) <= 1
    text = Page(html).text
    for example in examples:
        for shown in (example.item.text, *(one.text for one in example.beside), *(f.alike for f in example.audience)):
            assert shown in text
        row_of = split.items.ids.index(example.item.name)
        assert example.buyers == len(set(split.test.users[split.test.items == row_of]))


def test_a_new_lamp_is_offered_to_those_who_bought_lamps(item_cold: Evaluation) -> None:
    split = item_cold.details.split
    for example in new_items(item_cold.details.model, split):
        kind = example.item.text.split()[0]
        assert {fan.alike.split()[0] for fan in example.audience} == {kind}
        item = split.items.ids.index(example.item.name)
        for fan in example.audience:
            user = split.users.ids.index(fan.name)
            assert fan.taken == bool(((split.test.users == user) & (split.test.items == item)).any())


def test_a_new_item_is_shown_beside_the_known_ones_nearest_to_it_in_its_audiences_rankings(
    item_cold: Evaluation,
) -> None:
    split, model = item_cold.details.split, item_cold.details.model
    for example in new_items(model, split):
        new = example.item.name
        distances: dict[str, list[int]] = {split.items.ids[row]: [] for row in np.unique(split.train.items)}
        for fan in example.audience:
            scores = dict(zip(split.items.ids, model.score(fan.name, list(split.items.ids))[0].tolist(), strict=True))
            had = {split.items.ids[n] for n in split.train.items[split.train.users == split.users.ids.index(fan.name)]}
            everything = sorted(scores.keys() - had, key=lambda name: -scores[name])
            level = sum(scores[name] >= scores[new] for name in everything)  # ties count against it
            assert (fan.place, fan.of) == (level, len(everything))
            known = [name for name in everything if name in distances or name == new]
            for name, places in distances.items():
                places.append(abs(known.index(name) - known.index(new)) if name in known else len(distances) + 1)
        assert len(example.beside) == 3
        nearest = sorted(sum(places) for places in distances.values())[:3]
        assert [sum(distances[one.name]) for one in example.beside] == nearest


def test_new_users_are_shown_with_words_attributes_rung_and_what_they_took(
    user_cold: Evaluation, tmp_path: Path
) -> None:
    split = user_cold.details.split
    examples = new_users(user_cold.details.model, split)
    assert len(examples) == 10
    write_report(user_cold, tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "Examples: new users" in page.text
    assert "Examples: new items" not in page.text
    for example in examples:
        user = split.users.ids.index(example.name)
        assert not (split.train.users == user).any()
        took = {split.items.ids[n] for n in split.test.items[split.test.users == user]}
        assert [one.taken for one in example.recommended] == [one.name in took for one in example.recommended]
        assert {one.name for one in example.taken} <= took
        assert example.taken_in_all == len(took)
        assert example.tier == "cold"
        assert example.words in page.text
        assert f"{example.name} · cold · {example.attributes[0]}" in page.text
        taste = {"lamps": "red", "gardens": "wooden"}[example.words.split()[2]]
        assert {one.text.split()[0] for one in example.recommended} == {taste}


def test_a_warm_split_has_no_new_ones_to_show(tmp_path: Path) -> None:
    write_report(evaluation("warm", ["warm"], seeds=1), tmp_path / "report.html")
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    assert "Examples:" not in text
    assert "the split holds out no items" in text
    assert "1 seed." in text


def test_the_page_says_first_how_ours_compares_with_the_best_other(item_cold: Evaluation, tmp_path: Path) -> None:
    intervals = {"cold": (0.01, 0.2), "warm": (-0.2, -0.01), "overall": (-0.1, 0.1), "others": (None, None)}
    rows = []
    for candidates, (low, high) in intervals.items():
        rows += [row("coldstart", candidates, 0.4, None, None), row("EASE", candidates, 0.3, low, high),
                 row("random", candidates, 0.01, 0.3, 0.5)]  # fmt: skip
    write_report(replace(item_cold, result={**item_cold.result, "rows": rows}), tmp_path / "report.html")
    text = Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
    beginning = text[: text.index("Comparison with other methods")]
    for kind, said in {
        "new items": "The difference is between +0.010 and +0.200 (95 % interval): coldstart is better.",
        "known items": "The difference is between −0.200 and −0.010 (95 % interval): coldstart is worse.",
        "all items": "The difference is between −0.100 and +0.100 (95 % interval): the data cannot distinguish "
                     "them.",
        "others": "No interval of the difference was measured.",
    }.items():  # fmt: skip
        compared = "coldstart has an NDCG@20 of 0.400; the best other method, EASE, has 0.300."
        assert f"For {kind}, {compared} {said}" in beginning


def test_each_panel_names_its_own_two_best_others(user_cold: Evaluation, tmp_path: Path) -> None:
    values = {name: np.full(100, value) for name, value in {"coldstart": 0.5, "A": 0.4, "B": 0.3, "C": 0.1}.items()}
    worst_is_best = dict(zip(values, [0.5, 0.1, 0.3, 0.4], strict=True))
    per_user = {(name, "warm"): each for name, each in values.items()}
    per_user |= {(name, "overall"): np.full(100, value) for name, value in worst_is_best.items()}
    history, users = (dict.fromkeys(("warm", "overall"), each) for each in (np.zeros(100, np.int64), np.arange(100)))
    details = replace(user_cold.details, per_user=per_user, history=history, users=users, draws=history)
    write_report(replace(user_cold, details=details), tmp_path / "report.html")
    drawing = re.findall(r"<svg.*?</svg>", (tmp_path / "report.html").read_text(encoding="utf-8"), re.DOTALL)[1]
    entries = []  # (colour, name) of each panel's legend, in which a line comes before its name
    for panel in drawing.split('id="history-axes_')[1:]:
        found = re.findall(r"stroke: (#\w+).*?>([^<>]+)</text>", panel[panel.index("legend_") :], re.DOTALL)
        entries.append({name: colour for colour, name in found[:3]})
    assert [list(each) for each in entries] == [["coldstart", "A", "B"], ["coldstart", "C", "B"]]
    assert len({*entries[0].values(), *entries[1].values()}) == 4
    assert entries[0]["B"] == entries[1]["B"]
    assert entries[0]["coldstart"] == entries[1]["coldstart"]


def test_rows_of_several_shots_get_a_table_and_a_panel_each(item_cold: Evaluation, tmp_path: Path) -> None:
    rows = [row(method, "warm", value + shots / 100, None if method == "coldstart" else 0.01, 0.02, shots=shots)
            for shots in (1, 3, 5, 7) for method, value in (("EASE", 0.2), ("coldstart", 0.3))]  # fmt: skip
    write_report(replace(item_cold, result={**item_cold.result, "rows": rows}), tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Known items, 1 shot as candidates" in html
    assert html.count("known items, 3 shots</text>") == 2  # lift and coverage
    assert html.count('class="ours"') == 4


def test_users_are_binned_by_history_and_no_bin_but_that_of_no_history_is_small() -> None:
    history = np.repeat([0, 1, 2, 3, 4, 9, 40, 500], [2, 19, 1, 20, 25, 30, 5, 3])
    bins = bins_of(history)
    assert [(each.label, len(each.rows)) for each in bins] == [("0", 2), ("1–3", 40), ("4", 25), ("9–500", 38)]


def test_the_bootstrap_interval_is_that_of_a_mean() -> None:
    values = np.random.default_rng(0).normal(3, 2, 2_500)
    mean = Mean.of(values)
    error = 1.96 * values.std() / 50
    assert mean.value == pytest.approx(values.mean())
    assert (mean.low, mean.high) == pytest.approx((mean.value - error, mean.value + error), abs=error / 10)


@pytest.mark.parametrize(("scale", "turning"), [(np.inf, 6), (6.0, 4)])
# pragma: allowlist nextline secret
def test_behaviour_outweighs_words_where_the_norm_of_the_profile_passes_alpha(scale: float, turning: int) -> None:
    n = np.arange(1.0, 13)
    users = entities([f"u{k}" for k in n], [""] * 12, np.zeros((12, 2)), [[]] * 12)
    users = replace(users, profiles=np.column_stack([n, 0 * n]).astype(np.float32), evidence=n)
    model: Any = SimpleNamespace(users=users, parameters=Parameters(alpha=5.0, evidence_scale=scale))
    found = influence_of(model)
    assert found is not None
    np.testing.assert_allclose(found.norm[:, 1], found.n)
    np.testing.assert_allclose(found.weight, 5.0 if np.isinf(scale) else 5 * scale / (scale + found.n))
    np.testing.assert_allclose(found.share[:, 1], found.weight / (found.weight + found.n), atol=0.02)
    assert found.turning_point == pytest.approx(turning, abs=1)


@pytest.mark.parametrize(("sign", "correlation"), [(1, 1.0), (-1, -1.0), (0, None)])
def test_an_exact_forecast_of_demand_is_called_exact(
    item_cold: Evaluation, sign: int, correlation: float | None
) -> None:
    split = item_cold.details.split
    sold = np.bincount(split.test.items, minlength=N_ITEMS)
    rows = {name: row for row, name in enumerate(split.items.ids)}
    forecast: Any = SimpleNamespace(score=lambda users, ids: sign * np.array([[float(sold[rows[n]]) for n in ids]]))
    silent: Any = SimpleNamespace(tag=lambda texts: [[] for _ in texts])
    found = calibration_of(forecast, split, silent)
    assert found.correlation == (None if correlation is None else pytest.approx(correlation))
    assert found.overall.value == pytest.approx(sold[split.cold].mean())
    assert found.overall.n == split.cold.sum() == sum(mean.n for mean in found.buyers)
    means = [sign * mean.value for mean in found.buyers]
    assert means == sorted(means)
    assert not found.labels


def test_tags_stand_with_the_demand_and_the_buyers_of_their_items(html: str, item_cold: Evaluation) -> None:
    split = item_cold.details.split
    sold = np.bincount(split.test.items, minlength=N_ITEMS)
    lamps = [n for n in np.flatnonzero(split.cold) if split.items.descriptions[n].startswith("red")]
    (red,) = [each for each in Page(html).rows if each[:2] == ["red", "colour"]]
    assert red[2] == str(len(lamps))
    assert red[4] == f"{sold[lamps].mean():.2f}"
