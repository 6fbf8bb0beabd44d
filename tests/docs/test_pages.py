"""Every code block of the README and of docs/ runs, and prints what it says; the rules: tests/support/pages.py."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import ROOT
from tests.support.pages import Block, Session, agree, blocks_of, commands, faults

# Pages whose blocks are not run here.
EXCLUDED = {
    "docs/reference": "generated; the examples of SQL functions run in the tests of their catalogues",
    "docs/upstream": "the scripts run in tests/docs/test_upstream.py, beside what they print",
}
# What stands in a page's folder before its first block; nothing if it is not named.
FIXTURES = {
    "README.md": "trained_shop",
    "docs/tutorial/first-shop.md": "trained_shop",
    "docs/tutorial/chinese-shop.md": "chinese_files",
    "docs/tutorial/ads.md": "ads_files",
    "docs/tutorial/feed.md": "feed_files",
    "docs/tutorial/catalogue.md": "catalogue_files",
    "docs/how-to/adapt.md": "event_log",
    "docs/how-to/erase-a-user.md": "trained_shop",
    "docs/how-to/evaluate-your-data.md": "trained_shop",
    "docs/how-to/event-weights.md": "trained_shop",
    "docs/how-to/explore.md": "trained_shop",
    "docs/how-to/replay.md": "exported_shop",
    "docs/how-to/interview.md": "trained_shop",
    "docs/tutorial/helpdesk.md": "helpdesk_files",
    "docs/how-to/link-two-shops.md": "catalogue_files",
    "docs/how-to/recipes.md": "recipe_files",
    "docs/how-to/serve.md": "trained_shop",
    "docs/how-to/track-runs.md": "trained_shop",
    "docs/how-to/learn-from-feedback.md": "trained_shop",
    "docs/how-to/update-between-trainings.md": "trained_shop",
    "docs/how-to/upgrade.md": "trained_shop",
    "docs/how-to/use-dbt-and-notebooks.md": "trained_shop",
    "feature_repo/README.md": "trained_shop",
}
# Their blocks take minutes.
SLOW = (
    "docs/how-to/evaluate-your-data.md", "docs/how-to/update-between-trainings.md", "docs/tutorial/chinese-shop.md",
    "docs/tutorial/own-csv-files.md", "docs/how-to/tune-an-encoder.md", "docs/how-to/new-domain.md",
    "docs/how-to/link-two-shops.md", "docs/tutorial/helpdesk.md", "docs/tutorial/ads.md", "docs/tutorial/feed.md",
    "docs/tutorial/catalogue.md", "docs/how-to/recipes.md", "docs/how-to/classify.md",
)  # fmt: skip
FOLDERS = ("docs", "feature_repo", "examples")


def pages() -> list[str]:
    found = [*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))]
    names = sorted(path.relative_to(ROOT).as_posix() for path in found)
    # The change log tells of the past: its names need not exist any more.
    return [
        name for name in names
        if name != "CHANGELOG.md" and "_build" not in name and not name.startswith(tuple(EXCLUDED))
    ]  # fmt: skip


def pages_that_run() -> list[Any]:
    names = [name for name in pages() if any(block.mark != "not run" for block in blocks_of(ROOT / name))]
    return [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in names]


def test_the_named_pages_exist() -> None:
    assert {*FIXTURES, *SLOW} <= set(pages())


@pytest.mark.parametrize("name", pages())
def test_every_block_is_run_or_says_why_not(name: str) -> None:
    assert faults(blocks_of(ROOT / name)) == []


@pytest.mark.parametrize("name", pages_that_run())
def test_the_blocks_of_a_page_print_what_it_says(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = tmp_path / "page"
    if name in FIXTURES:
        shutil.copytree(request.getfixturevalue(FIXTURES[name]), folder)
    else:
        folder.mkdir()
    with Session(folder) as session:
        session.run(blocks_of(ROOT / name))


def block(language: str, text: str = "", mark: str = "", value: str = "") -> Block:
    return Block("page.md", 1, language, text, mark, value)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ([block("perl")], "'perl' is none of"),
        ([block("")], "'' is none of"),
        ([block("indented")], "use a fence"),
        ([block("python", mark="not run")], "needs a reason"),
        ([block("text", "3\n")], "follows no block"),
        ([block("console", "coldstart init\n")], "starts with '$ '"),
    ],
)
def test_a_block_without_a_marking_is_a_fault(given: list[Block], fault: str) -> None:
    (found,) = faults(given)
    assert fault in found


def test_a_block_that_fails_or_prints_something_else_is_told_with_its_line(tmp_path: Path) -> None:
    with Session(tmp_path) as session:
        with pytest.raises(AssertionError, match=r"page.md:1: (?s:.*)ZeroDivisionError"):
            session.run([block("python", "1 / 0")])
        with pytest.raises(AssertionError, match=r"page.md:1: expected\n3"):
            session.run([block("python", "print(2)"), block("text", "3\n")])
        with pytest.raises(AssertionError, match=r"page.md:1: false\nended with 1"):
            session.run([block("console", "$ false\n")])


def test_blocks_share_names_files_and_connection(tmp_path: Path) -> None:
    with Session(tmp_path) as session:
        session.run([
            block("text", "a,b\n1,2\n", "file", "raw/t.csv"),
            block("console", "$ cat raw/t.csv\na,b\n1,2\n$ exit 3\n", "exit status", "3"),
            block("python", "x = 20"), block("python", "print(x + 1)"), block("text", "21\n"),
            block("sql", "CREATE TABLE t AS FROM 'raw/t.csv'"),
            block("sql", "SELECT a + b AS c FROM t"), block("text", "│ c │\n│ 3 │\n1 row · 0.01 s\n"),
        ])  # fmt: skip


def test_a_page_is_read_as_blocks_with_their_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.pages.ROOT", tmp_path)
    (tmp_path / "page.md").write_text(
        "<!-- file: a.csv -->\n```text\na\n```\n\n<!-- not run: slow -->\n\nText.\n\n```sql\nSELECT 1\n```\n\n"
        "```{toctree}\nindex\n```\n\n    indented\n"
    )
    found = [(b.line, b.language, b.mark, b.value) for b in blocks_of(tmp_path / "page.md")]
    assert found == [(2, "text", "file", "a.csv"), (10, "sql", "", ""), (18, "indented", "", "")]


def test_a_command_goes_on_after_a_backslash() -> None:
    given = block("console", "$ echo a \\\n    b\na b\n$ true\n")
    assert commands(given) == [("echo a \\\n    b", "a b\n"), ("true", "")]


@pytest.mark.parametrize(
    ("expected", "actual", "same"),
    [
        ("a | +1.00", "a  │  +1.04", True),
        ("a | +1.00", "a | +1.40", False),
        ("-0.00", "+0.01", True),
        ("12 items", "13 items", False),
        ("a\n...\nz", "a\nb\nc\nz", True),
        ("...\na\n...", "a\n", True),
        ("a\n...", "b\n", False),
        ("a ... z", "a b\nc z", False),
        ("took 3.2 s", "took 11.9 s", True),
        ("done", "fit ━━━━ 3/3 0:00\ndone", True),
    ],
)
def test_outputs_agree_but_for_what_may_differ(expected: str, actual: str, same: bool) -> None:
    assert agree(expected, actual) is same
