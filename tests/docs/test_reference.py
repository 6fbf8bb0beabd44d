"""The pages in docs/reference are what the code says, and leave nothing out."""

from __future__ import annotations

import ast
import importlib
import json
from pathlib import Path

import pytest

from docs.generator import PAGES
from docs.generator.markdown import docstring, prose, table
from recommender.data.contract import FACTS, TABLES
from tests.support.commands import ROOT, every_command
from tests.support.made_up_shop import shared

REFERENCE = ROOT / "docs" / "reference"
# `coldstart train` adds these to the manifest.
OF_TRAINING = {"trained_until", "cutoff", "held_out", "data_sha256", "metrics", "events"}


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def first_cells(text: str) -> set[str]:
    """What stands in backticks in the first column of tables."""
    return {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_says(name: str) -> None:
    assert PAGES[name]() == page(name), "run `make docs`"


def test_no_page_is_left_over() -> None:
    assert {path.name for path in REFERENCE.glob("*.md")} == set(PAGES)


def test_every_command_and_option_stands_in_the_reference() -> None:
    sections = dict(part.split("\n", 1) for part in page("command-line.md").split("\n## ")[1:])
    commands = {name: command for name, command in every_command() if not hasattr(command, "commands")}
    assert set(sections) == set(commands)
    for name, command in commands.items():
        for param in command.params:
            named = (*param.opts, *param.secondary_opts) if param.param_type_name == "option" else (param.metavar,)
            assert [one for one in named if f"`{one}`" not in sections[name]] == [], name
        assert [example for example in command.examples if f"\n$ {example}\n" not in sections[name]] == []


@pytest.mark.parametrize("module", ["coldstart_udfs", "coldstart_udfs.feast", "recommender"])
def test_every_public_name_stands_in_the_reference(module: str) -> None:
    names = importlib.import_module(module).__all__
    assert [name for name in names if f"\n### {module}.{name}\n" not in page("python.md")] == []


def test_every_field_of_a_manifest_stands_in_the_reference(tmp_path: Path) -> None:
    shared().save(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    section = page("settings.md").split("## Bundle manifest")[1]
    assert first_cells(section.split("### Parameters")[0]) == {*manifest, *OF_TRAINING}
    assert first_cells(section.split("### Parameters")[1].split("## ")[0]) == set(manifest["parameters"])
    assert first_cells(section.split("### Weights")[1].split("## ")[0]) == set(manifest["parameters"]["weights"])


def test_every_environment_variable_stands_in_the_reference() -> None:
    read = set()
    for path in [*(ROOT / "coldstart_udfs").rglob("*.py"), *(ROOT / "recommender").rglob("*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {one.targets[0].id: one.value.value for one in tree.body if isinstance(one, ast.Assign)
                     and isinstance(one.targets[0], ast.Name) and isinstance(one.value, ast.Constant)}  # fmt: skip
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and ast.unparse(call.func).startswith(("os.environ.", "os.getenv")):
                name = call.args[0]
                read.add(name.value if isinstance(name, ast.Constant) else constants.get(ast.unparse(name)))
    # None: a name that is computed; these are the keys of S3 sources.
    assert {"COLDSTART_CACHE_MB", "RAY_ADDRESS", None} <= read
    assert read - {None} <= first_cells(page("settings.md").split("## Environment variables")[1])


def test_every_column_of_the_contract_stands_in_the_reference() -> None:
    sections = dict(part.split("\n", 1) for part in page("data-contract.md").split("\n## ")[1:])
    for one in (*TABLES, FACTS):
        assert first_cells(sections[one.name]) == {*one.required, *one.optional}


def test_a_docstring_becomes_markdown() -> None:
    text = """Do a thing, if a < b.

    - one item
      on two lines
    - another

    Args:
        first: a number,
            at least 0.
        second, third: others.

    Returns:
        A number.

    >>> 1 + 1
    2
    """
    assert docstring(text) == (
        "Do a thing, if a &lt; b.\n\n- one item on two lines\n- another\n\n"
        "**Arguments**\n\n- `first`: a number, at least 0.\n- `second, third`: others.\n\n"
        "**Returns**\n\nA number.\n\n```pycon\n>>> 1 + 1\n2\n```"
    )


def test_cells_and_code_are_escaped_as_markdown_wants_it() -> None:
    assert table(("a", "b"), [("x|y", "z")]) == "| a | b |\n| --- | --- |\n| x\\|y | z |"
    assert prose("a <b>\n  `<c>`") == "a &lt;b> `<c>`"
