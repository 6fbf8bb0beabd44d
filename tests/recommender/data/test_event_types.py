"""Event types in other shops' names: what they become, what is told, and what is an error."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from coldstart_udfs.settings import ENRICHMENT_FILE, EVENT_WEIGHTS, Enrichment
from recommender.cli import main
from recommender.data.contract import TAKE_BACK, ContractError
from recommender.data.dataset import read_dataset
from recommender.data.event_types import kind_of, told
from recommender.data.interactions import Interactions
from recommender.data.searches import read_searches
from recommender.data.tables import load, read_interactions
from tests.support.word_model import BACKEND, word_model

NAMES = {
    "RetailRocket": {"view": "view", "addtocart": "cart", "transaction": "purchase"},
    "REES46": {"view": "view", "cart": "cart", "remove_from_cart": "cart_removal", "purchase": "purchase"},
    "Shopify": {
        "product_viewed": "view", "collection_viewed": "impression", "product_added_to_cart": "cart",
        "product_removed_from_cart": "cart_removal", "checkout_started": "checkout", "checkout_completed": "purchase",
        "search_submitted": "search", "checkouts/create": "checkout", "orders/create": "purchase",
        "orders/cancelled": "return", "refunds/create": "return",
    },
    "Magento": {
        "catalog_product_view": "view", "checkout_cart_add_product": "cart", "sales_quote_remove_item": "cart_removal",
        "sales_order_place_after": "purchase", "sales_order_creditmemo_refund": "return",
        "order_cancel_after": "return", "wishlist_add_product": "wishlist", "product-page-view": "view",
        "initiateCheckout": "checkout", "placeOrder": "purchase",
    },
    "GA4": {
        "view_item": "view", "select_item": "view", "view_item_list": "impression", "view_promotion": "impression",
        "add_to_cart": "cart", "remove_from_cart": "cart_removal", "view_cart": "impression",
        "begin_checkout": "checkout", "add_payment_info": "checkout", "purchase": "purchase", "refund": "return",
        "add_to_wishlist": "wishlist", "search": "search", "view_search_results": "search",
    },
    "Segment": {
        "Product Viewed": "view", "Product Clicked": "view", "Product List Viewed": "impression",
        "Product Added": "cart", "Product Removed": "cart_removal", "Checkout Started": "checkout",
        "Order Completed": "purchase", "Order Refunded": "return", "Order Cancelled": "return",
        "Products Searched": "search", "Product Added to Wishlist": "wishlist",
        "Product Removed from Wishlist": "wishlist_removal",
    },
    "Chinese": {
        "浏览": "view", "加购": "cart", "加入购物车": "cart", "收藏": "wishlist", "取消收藏": "wishlist_removal",
        "购买": "purchase", "下单": "purchase", "退货": "return", "取消订单": "return",
        "搜索": "search", "曝光": "impression",
    },
    "Japanese": {
        "閲覧": "view", "カートに追加": "cart", "カートから削除": "cart_removal", "お気に入り": "wishlist",
        "購入": "purchase", "注文": "purchase", "返品": "return", "検索": "search", "表示": "impression",
    },
    "German": {
        "Produktansicht": "view", "Warenkorb": "cart", "In den Warenkorb": "cart", "zur Kasse": "checkout",
        "Merkzettel": "wishlist", "Kauf": "purchase", "KÄUFE": "purchase", "Bestellung": "purchase",
        "Rückgabe": "return", "storniert": "return", "Suche": "search",
    },
    "Spanish": {
        "vista": "view", "añadir_al_carrito": "cart", "quitar del carrito": "cart_removal", "favoritos": "wishlist",
        "Compra": "purchase", "devolución": "return", "DEVOLUCIÓN": "return", "búsqueda": "search",
    },
    "French": {
        "vue": "view", "ajout au panier": "cart", "ajout-panier": "cart", "favoris": "wishlist", "achat": "purchase",
        "commande": "purchase", "retour": "return", "commande annulée": "return", "recherche": "search",
    },
}  # fmt: skip


@pytest.mark.parametrize("shop", NAMES)
def test_the_names_of_known_exports_become_the_contracts_types(shop: str) -> None:
    assert {name: kind_of(name) for name in NAMES[shop]} == NAMES[shop]


@pytest.mark.parametrize(
    "name", ["Product Added", "product_added", "PRODUCT-ADDED", "productAdded", " Product  added ", "product.added"]
)
def test_case_and_separators_make_no_difference(name: str) -> None:
    assert kind_of(name) == "cart"


@pytest.mark.parametrize(
    "name", ["vote", "dislike", "rating", "order_updated", "not purchased", "unpurchase", "未购买", "nicht gekauft"]
)
def test_what_is_not_known_is_not_guessed(name: str) -> None:
    assert kind_of(name) is None


def test_a_type_of_the_settings_keeps_its_name_unless_it_takes_something_back() -> None:
    own = {"addtocart": 0.3, "vote": 2.0, "refund": 1.0}
    assert [kind_of(name, own) for name in ("AddToCart", "vote", "add_to_cart", "refund")] == [
        "addtocart", "vote", "cart", "return",
    ]  # fmt: skip


def test_every_type_has_a_weight_or_takes_something_back() -> None:
    shops = {kind for names in NAMES.values() for kind in names.values()}
    assert shops <= {*EVENT_WEIGHTS, *TAKE_BACK}
    assert EVENT_WEIGHTS["impression"] == 0


# One user, one item per event, unless the row says otherwise.
EVENTS = """user_id,item_id,event_timestamp,event_type,query
u1,i1,2024-01-01,Product Viewed,
u1,i1,2024-01-02,addToCart,
u1,i1,2024-01-03,remove_from_cart,
u1,i2,2024-01-03,view_item_list,
u1,i2,2024-01-04,Order Completed,
u1,i2,2024-01-05,Order Refunded,
u2,,2024-01-05,view_search_results,red lamp
u2,i2,2024-01-05,view_search_results,Red Lamp
u2,i1,2024-01-07,,
"""
UNKNOWN = "u2,i2,2024-01-06,vote,\nu2,i2,2024-01-07,VOTE,\nu2,i1,2024-01-06,Zap It,\n"
AGAINST = (
    "u2,i2,2024-01-06,dislike,\nu2,i2,2024-01-07,order line cancelled,\nu2,i2,2024-01-07,payment_failed,\n"
    "u2,i2,2024-01-08,拒收,\n"
)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "items.csv").write_text("item_id,description\ni1,lamp\ni2,mug\n")
    (folder / "users.csv").write_text("user_id,description\nu1,\nu2,\n")
    (folder / "interactions.csv").write_text(EVENTS)
    return folder


def ingest(raw: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    folder = raw.parent
    monkeypatch.setattr("sys.argv", ["coldstart", "ingest", str(raw), "--data", str(folder / "data"),
                                     "--repo", str(folder / "feature_repo")])  # fmt: skip
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def settings(raw: Path, text: str) -> dict[str, float]:
    """Write the settings of the shop, and return its event weights."""
    repo = raw.parent / "feature_repo"
    repo.mkdir(exist_ok=True)
    (repo / ENRICHMENT_FILE).write_text(text)
    return Enrichment.of_repo(repo).event_weights


def loaded(
    folder: Path, weights: dict[str, float] = EVENT_WEIGHTS
) -> tuple[list[tuple[str, str | None]], Interactions]:
    with duckdb.connect() as con:
        load(con, folder, weights)
        rows = con.sql("SELECT event_type, item_id FROM interactions ORDER BY ALL").fetchall()
        return rows, read_interactions(con, weights)


def test_the_tables_have_the_contracts_types(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ingest(raw, monkeypatch) == 0
    rows, interactions = loaded(raw.parent / "data")
    assert sorted(kind for kind, _ in rows) == [
        "cart", "cart_removal", "impression", "impression", "interaction", "purchase", "return", "search", "view",
    ]  # fmt: skip
    # Neither what takes back nor what was only listed is an event of a user with an item.
    assert interactions.event_types == ["cart", "interaction", "purchase", "view"]
    assert len(interactions) == 4
    weighted = {"impression": 0.05}
    assert "impression" in loaded(raw.parent / "data", weighted)[1].event_types


def test_results_of_a_search_are_a_search_without_an_item_and_an_impression_with_one(raw: Path) -> None:
    rows, _ = loaded(raw)
    assert [row for row in rows if row[0] == "search"] == [("search", None)]
    with duckdb.connect() as con:
        load(con, raw)
        assert set(read_searches(con).texts) == {"red lamp"}


def test_events_in_a_language_of_the_shop_are_read_and_told(raw: Path) -> None:
    lines = ["u1,i1,2024-01-01,浏览,", "u1,i1,2024-01-02,购买,", "u2,i2,2024-01-03,Kauf,", "u2,i2,2024-01-04,Rückgabe,"]
    (raw / "interactions.csv").write_text("\n".join([EVENTS.splitlines()[0], *lines]) + "\n", encoding="utf-8")
    with duckdb.connect() as con:
        types = load(con, raw).event_types
    assert told(types, EVENT_WEIGHTS) == (
        "kauf 1 → purchase (1), rückgabe 1 → return (takes back), 浏览 1 → view (0.1), 购买 1 → purchase (1)"
    )
    assert loaded(raw)[1].event_types == ["purchase", "view"]


def test_what_was_understood_is_told(raw: Path) -> None:
    with duckdb.connect() as con:
        loaded = load(con, raw)
    assert told(loaded.event_types, EVENT_WEIGHTS) == (
        "view_search_results 2 → search or impression (0.2 or 0), (none) 1 → interaction (1), "
        "addtocart 1 → cart (0.5), order completed 1 → purchase (1), order refunded 1 → return (takes back), "
        "product viewed 1 → view (0.1), remove_from_cart 1 → cart_removal (takes back), "
        "view_item_list 1 → impression (0)"
    )


def test_unknown_types_are_an_error_with_their_counts_and_the_line_that_helps(
    raw: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (raw / "interactions.csv").write_text(EVENTS + UNKNOWN)
    assert ingest(raw, monkeypatch) == 2
    said = capsys.readouterr().err.strip()
    assert "interactions.csv: column 'event_type': 2 types are not known: 'vote' (2 rows), 'zap it' (1 row)." in said
    assert not (raw.parent / "data").exists()

    line = said.partition('"event_weights"')[2]
    weights = settings(raw, '{"event_weights"' + line + "}")
    assert weights == EVENT_WEIGHTS | {"vote": 1, "zap it": 1}
    assert ingest(raw, monkeypatch) == 0
    assert {"vote", "zap it"} <= set(loaded(raw.parent / "data", weights)[1].event_types)


def test_the_line_keeps_the_weights_that_the_settings_have(raw: Path) -> None:
    (raw / "interactions.csv").write_text(EVENTS + UNKNOWN)
    line = r'"event_weights": {"view": 0.3, "vote": 1, "zap it": 1}'
    with duckdb.connect() as con, pytest.raises(ContractError, match=line):
        load(con, raw, {"view": 0.3})


def test_the_line_leaves_out_what_speaks_against_an_item(raw: Path) -> None:
    (raw / "interactions.csv").write_text(EVENTS + AGAINST)
    line = r'"event_weights": {"dislike": 0, "order line cancelled": 0, "payment_failed": 0, "拒收": 0}'
    with duckdb.connect() as con, pytest.raises(ContractError, match=line):
        load(con, raw, {})


def test_events_of_which_none_speaks_for_an_item_are_an_error(raw: Path) -> None:
    (raw / "interactions.csv").write_text(EVENTS.splitlines()[0] + "\nu1,i2,2024-01-03,view_item_list,\n")
    with duckdb.connect() as con:
        load(con, raw)
        with pytest.raises(ContractError, match="no event speaks for an item: there are only impression"):
            read_interactions(con)


def test_unknown_types_are_told_beside_other_breaches(raw: Path) -> None:
    (raw / "interactions.csv").write_text(EVENTS + UNKNOWN + "u9,i1,2024-01-01,view,\n")
    with duckdb.connect() as con, pytest.raises(ContractError) as error:
        load(con, raw)
    lines = str(error.value).splitlines()
    assert ["not known" in lines[0], "not in the table users" in lines[1], len(lines)] == [True, True, 2]


def test_types_of_other_columns_than_text_are_read_too(raw: Path) -> None:
    with duckdb.connect() as con:
        con.execute("CREATE TABLE t AS SELECT * REPLACE (event_type::ENUM ('view', 'buy') AS event_type) "
                    "FROM (SELECT 'u1' AS user_id, 'i1' AS item_id, now() AS event_timestamp, "
                    "unnest(['view', 'buy']) AS event_type)")  # fmt: skip
        (raw / "interactions.csv").unlink()
        con.execute(f"COPY t TO '{raw}/interactions.parquet'")
    assert [kind for kind, _ in loaded(raw)[0]] == ["purchase", "view"]


def test_an_evaluation_knows_the_types_of_the_settings_and_tells_what_it_renamed(raw: Path, tmp_path: Path) -> None:
    (raw / "interactions.csv").write_text(EVENTS + UNKNOWN)
    model = word_model(tmp_path / "words", ("lamp", "mug"))
    files = raw / "items.csv", None, raw / "interactions.csv"
    with pytest.raises(ContractError, match="2 types are not known"):
        read_dataset(*files, model=model, backend=BACKEND)
    found = read_dataset(*files, model=model, backend=BACKEND, weights={"vote": 1, "zap it": 0.5})
    assert {"vote", "zap it"} <= set(found.interactions.event_types)
    assert "addtocart 1 → cart (0.5)" in found.notes[0]
