"""The page for people in a real browser: Debian's Chromium, without a window."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, sync_playwright

from recommender.serve.app import create_app
from recommender.serve.keys import KeyFile
from recommender.serve.settings import Settings
from tests.support.servers import serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.service,
    pytest.mark.skipif(
        CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium here; Debian: apt-get install chromium"
    ),
]
HOSTILE = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>"
SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def service(served_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Starts a service, gives its address."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def started(keys: Path | None = None) -> str:
            log = f"sqlite:///{tmp_path_factory.mktemp('browser')}/events.db"
            bundle = served_shop / "data" / "bundle"
            app = create_app(Settings(served_shop / "feature_repo", bundle, None, log, keys))
            server = stack.enter_context(serving(app, lifespan=True))
            return f"http://127.0.0.1:{server.config.port}"

        yield started


@pytest.fixture(scope="module")
def address(service: Callable[..., str]) -> str:
    return service()


@pytest.fixture
def open_page(browser: Any, address: str) -> Iterator[Callable[..., Page]]:
    opened = []

    def opening(fragment: str = "", size: str = "desktop", at: str = address, **settings: Any) -> Page:
        context = browser.new_context(viewport=SIZES[size], **settings)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.wrong = []
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.goto(f"{at}/{fragment}")
        opened.append(context)
        return page

    yield opening
    for context in opened:
        context.close()


def listed(page: Page) -> list[str]:
    page.wait_for_selector("#list:not(.asking) > li")
    return page.locator("#list .named > span:first-child").all_inner_texts()


def asked(page: Page, text: str) -> list[str]:
    page.get_by_label("What somebody says of themselves").fill(text)
    page.get_by_role("button", name="Recommend").click()
    return listed(page)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(open_page: Callable[..., Page], size: str, scheme: str) -> None:
    page = open_page("#side=user&text=a+red+lamp&did=view%3Amug", size, color_scheme=scheme)
    listed(page)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.get_by_role("tab", name="People for a product").click()
    page.get_by_label("The text of a product").fill("red metal lunch box")
    page.get_by_role("button", name="Find people").click()
    page.wait_for_selector("#tags li")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_what_is_clicked_changes_the_list_and_can_be_undone(open_page: Callable[..., Page]) -> None:
    page = open_page()
    first = asked(page, "a red lamp")
    assert "words 100 %" in page.locator("#mix-title").inner_text()
    page.locator("#list > li").nth(1).get_by_role("button", name=re.compile("^Buy")).click()
    page.wait_for_selector("#did li")
    listed(page)
    assert "words 100 %" not in page.locator("#mix-title").inner_text()
    assert first[1] not in listed(page)  # bought
    page.locator("#did button").click()
    page.wait_for_selector("#did-box", state="hidden")
    assert listed(page) == first
    page.locator("#list > li").first.get_by_role("button", name=re.compile("^Not this")).click()
    page.wait_for_selector("#did li")
    assert first[0] not in listed(page)
    assert page.wrong == []


def test_an_address_brings_the_same_list_and_its_text_stays_off_the_network(open_page: Callable[..., Page]) -> None:
    page = open_page()
    first = asked(page, "a red lamp")
    shared = page.url.partition("#")[2]
    assert "text=a+red+lamp" in shared
    paths: list[str] = []
    page.on("request", lambda request: paths.append(request.url))
    page.reload()
    assert listed(page) == first
    assert all("lamp" not in path.partition("#")[0] for path in paths)


def test_it_works_by_keyboard_alone(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.get_by_role("tab", name="Items for a person").focus()
    page.keyboard.press("Tab")
    page.keyboard.type("a red lamp")
    page.keyboard.press("Control+Enter")
    listed(page)
    assert page.evaluate("document.activeElement.id") == "title"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "View"
    page.keyboard.press("Enter")
    page.wait_for_selector("#did li")


def test_a_known_user_can_be_picked(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.locator("#known button").first.click()
    assert listed(page)
    assert "Known by what they did" in page.locator("#note").inner_text()


def test_three_questions_move_the_list_by_keyboard_and_can_be_undone_and_shared(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.get_by_role("button", name="Ask me").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#interview-question:focus")
    start = listed(page)
    question = page.locator("#interview-question").inner_text()
    assert "Question 1 of 3" in page.locator("#interview").inner_text()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Yes"
    page.keyboard.press("Enter")
    page.get_by_text("Question 2 of 3").wait_for()
    assert page.locator("#interview-question").inner_text() != question
    moved = listed(page)
    assert len(moved) == len(start) - 1  # what was liked is known
    page.get_by_role("button", name="No", exact=True).click()
    page.get_by_text("Question 3 of 3").wait_for()
    page.get_by_role("button", name="Don't know").click()
    page.get_by_text("Thank you").wait_for()
    assert [text.partition(":")[0] for text in page.locator("#did button").all_inner_texts()] == [
        "✕ Yes", "✕ No", "✕ Don't know",
    ]  # fmt: skip
    last = listed(page)
    page.reload()
    page.get_by_text("Thank you").wait_for()
    assert listed(page) == last
    for _ in range(3):
        page.locator("#did button").last.click()
        page.wait_for_selector("#list:not(.asking)")
    page.wait_for_selector("#did-box", state="hidden")
    assert listed(page) == start
    assert page.locator("#interview-question").inner_text() == question
    assert page.wrong == []


@pytest.mark.parametrize("size", SIZES)
def test_axe_finds_nothing_in_an_interview(open_page: Callable[..., Page], size: str) -> None:
    page = open_page("#side=user&text=a+red+lamp&answer=yes%3Amug&answer=maybe%3Apot", size)
    page.get_by_text("Question 2 of 3").wait_for()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.get_by_role("tab", name="People for a product").click()
    assert page.locator("#interview").is_hidden()


def test_texts_are_never_html(open_page: Callable[..., Page], address: str) -> None:
    import httpx

    stored = httpx.put(f"{address}/v1/items/hostile", json={"description": HOSTILE, "attributes": ["kind=lamp"]})
    assert stored.status_code == 200
    page = open_page(f"#side=user&text={quote(HOSTILE)}&did=view%3Ahostile")
    listed(page)
    page.wait_for_selector("#did button:has-text('onerror')")
    assert page.title() == "feast-coldstart"
    assert page.locator("main img").count() == 0


def test_an_address_with_nonsense_is_an_empty_page(open_page: Callable[..., Page]) -> None:
    page = open_page("#did=null&side=x&not=")
    assert page.locator("#did-box").is_hidden()
    assert page.locator("#list > li").count() == 0
    assert page.wrong == []


def test_an_address_may_hide_an_item_that_is_no_longer_offered(open_page: Callable[..., Page]) -> None:
    page = open_page("#side=user&text=a+red+lamp&not=gone&not=mug")
    listed(page)
    assert page.locator("#did button:has-text('Not this')").count() == 1


def test_where_keys_are_asked_for_the_page_asks_too(
    open_page: Callable[..., Page], service: Callable[..., str], tmp_path: Path
) -> None:
    key, _ = KeyFile(tmp_path / "keys.json").create("reader", ["read"])
    page = open_page(at=service(tmp_path / "keys.json"))
    page.get_by_label("API key").fill("csk_wrong")
    page.get_by_role("button", name="Use key").click()
    page.get_by_text("Not accepted").wait_for()
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Use key").click()
    assert asked(page, "a red lamp")
    stored = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])")
    assert key not in stored
