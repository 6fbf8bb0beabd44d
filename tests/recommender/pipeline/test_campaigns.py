"""Campaigns: what is known at their start, who responds, and whom a budget reaches."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from coldstart_udfs import connect
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.settings import ENRICHMENT_FILE, EVENT_WEIGHTS, Enrichment
from recommender.cli.app import app
from recommender.data.campaigns import read_campaigns
from recommender.data.contract import ContractError
from recommender.data.tables import load
from recommender.pipeline.campaign_rows import Behaviour
from recommender.pipeline.campaigns import FEWEST_RESPONSES, audience, fit_before, replay
from tests.support.commands import ROOT
from tests.support.encoders import WordEncoder
from tests.support.word_model import BACKEND, word_model

ADS = ROOT / "examples" / "ads"
PARENTS, OTHERS = [f"p{number:02}" for number in range(40)], [f"o{number:02}" for number in range(40)]
USERS = [*PARENTS, *OTHERS]


def write(folder: Path, name: str, columns: str, *rows: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.csv").write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Parents buy nappies, others tea. Two campaigns for babies have ended; nine of ten parents responded. A third one
    for babies starts, and a fourth for tea that is only described."""
    write(tmp_path, "items", "item_id,description", "n,soft nappies", "w,baby wipes soft", "t,black tea")
    write(tmp_path, "users", "user_id,description", *(f"{name}," for name in USERS))
    write(tmp_path, "interactions", "user_id,item_id,event_timestamp,event_type,query",
          *(f"{name},n,2024-01-{day:02} 10:00,purchase," for name in PARENTS for day in (3, 9)),
          *(f"{name},t,2024-01-{day:02} 10:00,purchase," for name in OTHERS for day in (3, 9)),
          "p00,w,2024-02-20 09:00,view,", "o01,,2024-02-20 09:00,search,soft nappies",
          "p01,t,2024-02-20 09:00,impression,", "p01,n,2023-06-01 09:00,purchase,")  # fmt: skip
    folder = tmp_path / "campaigns"
    write(folder, "campaigns", "campaign_id,starts,ends,description", "a,2024-02-01,2024-02-07,",
          "b,2024-02-10,2024-02-17,", "c,2024-03-01,2024-03-10,", "d,2024-03-01,2024-03-10,black tea")  # fmt: skip
    write(folder, "campaign_items", "campaign_id,item_id", "a,n", "b,n", "b,w", "c,n")
    write(folder, "contacts", "campaign_id,user_id,responded", *(
        f"{campaign},{name},{'2024-02-' + day if name in PARENTS and number % 10 else ''}"
        for campaign, day in (("a", "03"), ("b", "12")) for number, name in enumerate(USERS)
    ), *(f"c,{name},{'2024-03-02' if name == 'p01' else ''}" for name in USERS[:60]))  # fmt: skip
    return tmp_path


def behaviour_of(data: Path, folder: Path | None = None) -> Behaviour:
    with connect() as con:
        load(con, data, {**EVENT_WEIGHTS, "coupon": 1.0})
        return Behaviour.read(con, read_campaigns(con, folder or data / "campaigns"), WordEncoder())  # type: ignore[arg-type]


def test_the_features_of_a_user_can_be_counted_by_hand(shop: Path) -> None:
    behaviour = behaviour_of(shop)
    third = behaviour.campaigns[2]
    rows = behaviour.rows(third)
    found = dict(zip(rows.names, rows.features[rows.users.index("p01")].tolist(), strict=True))
    # Two purchases of just what is promoted; an impression and what is too old do not count. Responses in both
    # campaigns, the last on 12 February; 72 of 160 contacts responded.
    assert found == pytest.approx({
        "events": np.log(3), "events alike": np.log(3), "view events": 0.0, "search events": 0.0,
        "responses": np.log(3),
        "response rate": (2 + 5 * 0.45) / (2 + 5) - 0.45, "days since a response": np.log(1 + 18),
        "promoted texts": 0.0, "share of events alike": found["share of events alike"],
    })  # fmt: skip
    events = rows.features[:, [rows.names.index(f"{name} events") for name in ("view", "search")]]
    assert events[rows.users.index("p00")].tolist() == pytest.approx([np.log(2), 0])
    assert events[rows.users.index("o01")].tolist() == pytest.approx([0, np.log(2)])
    # What was searched for is as alike as what was bought.
    alike = rows.features[:, rows.names.index("events alike")]
    assert alike[rows.users.index("o01")] - alike[rows.users.index("o02")] == pytest.approx(np.log(2))
    assert rows.responded.tolist() == [name == "p01" for name in rows.users]


def test_nothing_after_a_start_enters_the_rows_of_a_campaign(tmp_path: Path) -> None:
    """The rows of real campaigns are the same, whether or not the files tell what came later."""
    behaviour = behaviour_of(ADS)
    for name in ("9", "16"):
        campaign = next(one for one in behaviour.campaigns if one.campaign_id == name)
        past = tmp_path / name
        shutil.copytree(ADS, past)
        with duckdb.connect() as con:
            for table, kept in (
                ("interactions", f"FROM t WHERE event_timestamp < '{campaign.starts}'"),
                ("campaigns/campaigns", f"FROM t WHERE starts <= '{campaign.starts}'"),
                ("campaigns/contacts", f"SELECT campaign_id, user_id, CASE WHEN responded < '{campaign.starts}' THEN "
                 "responded END AS responded FROM t JOIN (SELECT campaign_id FROM "
                 f"'{ADS}/campaigns/campaigns.parquet' WHERE starts <= '{campaign.starts}') USING (campaign_id)"),
                ("campaigns/campaign_items", "FROM t WHERE campaign_id IN (SELECT campaign_id FROM "
                 f"'{ADS}/campaigns/campaigns.parquet' WHERE starts <= '{campaign.starts}')"),
            ):  # fmt: skip
                con.execute(f"CREATE OR REPLACE TABLE t AS FROM '{ADS / table}.parquet'")
                con.execute(f"COPY ({kept}) TO '{past / table}.parquet' (FORMAT parquet)")
        before = behaviour_of(past)
        known = next(one for one in before.campaigns if one.campaign_id == name)
        assert behaviour.rows(campaign).responded.sum() > 0 == before.rows(known).responded.sum()
        np.testing.assert_allclose(before.rows(known).features, behaviour.rows(campaign).features, rtol=1e-6)
        learned = [fit_before(one, campaign.starts).weights for one in (before, behaviour)]
        np.testing.assert_allclose(learned[0], learned[1], rtol=1e-3, atol=1e-4)


def test_as_of_an_earlier_moment_later_events_are_unknown(shop: Path) -> None:
    behaviour = behaviour_of(shop)
    stale = behaviour.rows(behaviour.campaigns[2], as_of=np.datetime64("2024-01-05"))
    place = stale.names.index("events")
    assert stale.features[:, place] == pytest.approx(np.full(60, np.log(2)))
    assert not stale.features[:, stale.names.index("responses")].any()


def test_who_bought_alike_and_responded_before_is_likeliest_and_the_sum_is_what_came(shop: Path) -> None:
    behaviour = behaviour_of(shop)
    model = fit_before(behaviour, behaviour.campaigns[2].starts)
    rows = behaviour.rows(behaviour.campaigns[2])
    found = dict(zip(rows.users, model.probabilities(rows).tolist(), strict=True))
    answered = [found.pop(name) for name in PARENTS if int(name[1:]) % 10]
    assert min(answered) > max(found.values())
    earlier = [behaviour.rows(one) for one in behaviour.campaigns[:2]]
    # An unpenalised intercept: on what it learned from, the model expects what came.
    assert sum(model.probabilities(one).sum() for one in earlier) == pytest.approx(72, abs=0.1)


def test_replay_leaves_out_campaigns_that_nothing_could_be_learned_for(shop: Path) -> None:
    replayed = list(replay(behaviour_of(shop)))
    assert [one.rows.campaign.campaign_id for one in replayed] == ["b", "c"]
    assert replayed[0].auc > 0.9
    assert replayed[0].best_tenth == pytest.approx(1.0, abs=0.15)


def test_too_few_responses_are_an_error_that_names_another_way(shop: Path) -> None:
    with pytest.raises(ColdStartError, match=f"at least {FEWEST_RESPONSES} responses are needed.*`coldstart audience`"):
        audience(behaviour_of(shop), "a")


def test_an_audience_keeps_the_budget_and_the_cap(shop: Path) -> None:
    behaviour = behaviour_of(shop)
    found = audience(behaviour, "c", budget=5, cost=0.5, cap=3)
    assert found["rank"].dropna().tolist() == list(range(1, 11))
    assert found["rank"].isna().sum() == 50
    assert found["spent"].max() == 5
    assert found["contacts"].eq(1).all()  # campaign a started more than 28 days before
    assert audience(behaviour, "c", cap=1)["rank"].isna().all()
    assert audience(behaviour, "c", cap=1, days=7)["rank"].notna().all()


def test_without_contacts_all_users_are_candidates_and_a_description_is_what_is_promoted(shop: Path) -> None:
    found = audience(behaviour_of(shop), "d")
    assert sorted(found["user_id"]) == sorted(USERS)
    assert behaviour_of(shop).campaigns[3].texts == ("black tea",)


def test_an_unknown_campaign_is_an_error_that_names_the_latest(shop: Path) -> None:
    with pytest.raises(ColdStartError, match="no campaign 'z' among the 4; the latest are a, b, c, d"):
        audience(behaviour_of(shop), "z")


def test_a_contact_has_a_cost(shop: Path) -> None:
    with pytest.raises(ColdStartError, match="the cost of a contact is 0; it must be above 0"):
        audience(behaviour_of(shop), "c", cost=0)
    with pytest.raises(ColdStartError, match="the cost of a contact is inf"):
        audience(behaviour_of(shop), "c", cost=math.inf)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"budget": math.nan}, "the budget is nan"), ({"value": -3}, "the value of a response is -3"),
        ({"cap": -1}, "the cap is -1"),
    ],
)  # fmt: skip
def test_a_limit_is_0_or_more(shop: Path, limits: dict[str, Any], said: str) -> None:
    with pytest.raises(ColdStartError, match=said):
        audience(behaviour_of(shop), "c", **limits)


def test_what_is_no_amount_is_refused_and_a_huge_cap_is_none(shop: Path) -> None:
    behaviour = behaviour_of(shop)
    for given in ({"budget": np.nan}, {"value": np.inf}, {"value": np.nan}, {"cost": np.inf}):
        with pytest.raises(ColdStartError, match=r"is (nan|inf); it must be (0 or more|above 0)"):
            audience(behaviour, "c", **given)
    assert audience(behaviour, "c", cap=10**20)["rank"].notna().all()


def test_a_time_with_an_offset_is_that_moment(shop: Path) -> None:
    file = shop / "campaigns" / "campaigns.csv"
    file.write_text(file.read_text().replace("c,2024-03-01,2024-03-10", "c,2024-03-01T01:00+03:00,2024-03-10T12:00Z"))
    campaign = next(one for one in behaviour_of(shop).campaigns if one.campaign_id == "c")
    assert (campaign.starts, campaign.ends) == (np.datetime64("2024-02-29T22:00"), np.datetime64("2024-03-10T12:00"))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("campaigns", lambda text: text.replace("starts", "begin"), "column 'starts' is missing"),
        ("campaigns", lambda text: text.replace("2024-02-10", "soon"), "'starts': no time such as .* in 1 row: 'soon'"),
        ("campaigns", lambda text: text.replace("2024-02-17", "2024-02-01"), "'ends': a time that is not after the st"),
        ("campaigns", lambda text: text.replace("black tea", ""), "neither items in campaign_items nor a desc.*'d'"),
        ("campaigns", lambda text: text.replace("b,2024", "a,2024"), "an id that occurs before in 1 row: 'a'"),
        ("contacts", lambda text: text + "x,p01,\n", "'campaign_id': an id that campaigns lacks .* in 1 row: 'x'"),
        ("contacts", lambda text: text + "a,nobody,\n", "'user_id': an id that the table users lacks .*'nobody'"),
        ("contacts", lambda text: text + "a,p01,\n", "a user who occurs twice in a campaign in 1 row: 'p01'"),
        ("contacts", lambda text: text.replace("2024-03-02", "true"), "'responded': no time such as .*'true'"),
        ("contacts", lambda text: text.replace("2024-03-02", "2024-05-02"), "'responded': a time outside the campaign"),
        ("campaign_items", lambda text: text + "a,gone\n", "'item_id': an id that the table items lacks .*'gone'"),
        ("campaign_items", lambda text: text + ",n\n", "'campaign_id': no id in 1 row: NULL"),
    ],
)  # fmt: skip
def test_broken_tables_are_refused(shop: Path, name: str, change: Callable[[str], str], message: str) -> None:
    file = shop / "campaigns" / f"{name}.csv"
    file.write_text(change(file.read_text()))
    with pytest.raises(ContractError, match=message) as refused:
        behaviour_of(shop)
    assert f"{name}.csv" in str(refused.value)


def test_a_folder_without_the_tables_is_refused(shop: Path) -> None:
    with pytest.raises(ContractError, match="no table campaigns, contacts; the folder contains"):
        behaviour_of(shop, shop)


def test_the_commands_replay_and_choose(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop)
    model = word_model(shop / "model", ["soft", "nappies", "baby", "wipes", "black", "tea"])
    (shop / "feature_repo").mkdir()
    (shop / "feature_repo" / "feature_store.yaml").touch()
    Enrichment(model=model, backend=BACKEND).write(shop / "feature_repo" / ENRICHMENT_FILE)
    shown = CliRunner().invoke(app, ["campaign", "replay", "--data", "."], env={"COLUMNS": "100"})
    assert shown.exit_code == 0, shown.output
    assert "4 campaigns, 2 of them predicted: 37 responses," in shown.output
    command = ["campaign", "audience", "c", "--data", ".", "--budget", "12", "-k", "2", "--out", "chosen.parquet"]
    shown = CliRunner().invoke(app, command, env={"COLUMNS": "100"})
    assert shown.exit_code == 0, shown.output
    assert "campaign c: 12 of 60 candidates for 12; expected responses" in " ".join(shown.output.split())
    written = pd.read_parquet("chosen.parquet")
    with connect() as con:
        con.register("candidates", written.drop(columns=["rank", "spent"]))
        again = con.sql("FROM campaign_audience('candidates', budget := 12)").df()
    pd.testing.assert_series_equal(again["user_id"], written["user_id"].head(12))
    refused = CliRunner().invoke(app, [*command[:-1], "chosen.csv"])
    assert "chosen.csv is not a .parquet file" in str(refused.exception)
    pd.read_csv("campaigns/contacts.csv", dtype=str).to_parquet("campaigns/contacts.parquet")
    Path("campaigns/contacts.csv").unlink()
    before = (shop / "campaigns" / "contacts.parquet").read_bytes()
    refused = CliRunner().invoke(app, [*command[:-1], "campaigns/contacts.parquet"])
    assert "campaigns/contacts.parquet is a table of campaigns; give another file" in str(refused.exception)
    assert (shop / "campaigns" / "contacts.parquet").read_bytes() == before
    refused = CliRunner().invoke(app, [*command[:-2], "--repo", "elsewhere"])
    assert "elsewhere is not a Feast repository" in str(refused.exception)
