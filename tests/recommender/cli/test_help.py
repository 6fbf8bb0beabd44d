"""What `--help` shows, and what a wrong command line is answered with."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from recommender.cli.app import app
from recommender.cli.command import type_word
from recommender.cli.options import one_entity, parse_date
from tests.support.commands import every_command, run

COMMANDS = dict(every_command())
LEAVES = {name: command for name, command in COMMANDS.items() if not hasattr(command, "commands")}


def help_of(name: str, width: int) -> str:
    result = CliRunner().invoke(app, [*name.split()[1:], "--help"], env={"COLUMNS": str(width), "TERMINAL_WIDTH": ""})
    assert result.exit_code == 0, result.output
    return result.output


def test_the_commands_stand_in_five_panels() -> None:
    panels: dict[str, list[str]] = {}
    for line in help_of("coldstart", 100).splitlines():
        if title := re.match(r"╭─ (.+?) ─+╮", line):
            names = panels.setdefault(title[1], [])
        elif command := re.match(r"│ (\w+)  ", line):
            names.append(command[1])
    assert panels == {
        "Options": [],
        "SQL and embedding": ["sql", "embed", "coverage", "annotate", "encoder"],
        "Shop": ["init", "ingest", "facts", "weigh", "profiles", "put", "link"],
        "Recommender": ["train", "evaluate", "recommend", "audience", "explain", "campaign", "bundles", "prior",
                        "runs"],
        "Service": ["serve", "learn", "events", "experiment", "adapt", "keys"],
        "Maintenance": ["skew", "forget", "demo", "cache"],
    }


def test_each_command_has_one_line_in_the_overview() -> None:
    overview = help_of("coldstart", 80)
    for name, command in COMMANDS.items():
        if name.count(" ") == 1:
            summary = command.help.split("\n\n")[0]
            assert re.search(rf"│ {name.split()[1]} +{re.escape(summary)} +│", overview), name


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("width", [80, 120])
def test_help_has_words_for_types_and_fits_the_terminal(name: str, width: int) -> None:
    shown = help_of(name, width)
    assert re.findall(r"<\w+>|%[YmdHMS]|\bNone\b", shown) == []
    assert max(map(len, shown.splitlines())) <= width


@pytest.mark.parametrize("name", LEAVES)
def test_a_command_has_two_examples_that_parse(name: str) -> None:
    examples = LEAVES[name].examples
    assert len(set(examples)) == len(examples) == 2
    for example in examples:
        words = shlex.split(re.split(r" [|>] ", example)[0])
        given = len(name.split())
        assert words[:given] == name.split()
        LEAVES[name].make_context(name, words[given:])
        # Whole, on one line, where a terminal is narrow too.
        assert f" $ {example} " in help_of(name, 80)


@pytest.mark.parametrize("name", LEAVES)
def test_every_option_and_argument_says_what_it_is(name: str) -> None:
    assert [param.name for param in LEAVES[name].params if not param.help or not param.help.strip().endswith(".")] == []


def test_dates_are_shown_as_they_are_typed() -> None:
    for name in ("coldstart train", "coldstart evaluate"):
        assert re.search(r"--cutoff +YYYY-MM-DD ", help_of(name, 100))


def test_a_date_may_have_a_time() -> None:
    assert parse_date("2011-08-01").isoformat() == "2011-08-01T00:00:00"
    assert parse_date("2011-08-01T12:30:00").isoformat() == "2011-08-01T12:30:00"
    with pytest.raises(typer.BadParameter, match=r"'1\.8\.2011' is not a date; give YYYY-MM-DD"):
        parse_date("1.8.2011")


@pytest.mark.parametrize(
    ("annotation", "word"), [(str, "TEXT"), (int | None, "INTEGER"), (Path | None, "PATH"), (list[str] | None, "TEXT")]
)
def test_types_are_words(annotation: Any, word: str) -> None:
    assert type_word(annotation) == word


def test_a_command_is_about_one_user_or_one_item() -> None:
    assert one_entity("17850", None) == ("user", "17850")
    assert one_entity(None, "") == ("item", "")


def test_help_loads_nothing_heavy() -> None:
    code = """
import sys
sys.argv = ["coldstart", "--help"]
try:
    from recommender.cli import main
    main()
except SystemExit as stopped:
    heavy = {"torch", "duckdb", "feast", "pandas", "numpy", "pyarrow", "scipy", "sentence_transformers"}
    print(stopped.code, sorted(heavy & {*sys.modules}), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "0 []\n"
    assert "Usage: coldstart" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("trian",), "No such command 'trian'. Did you mean 'train'; `coldstart --help` lists what is possible"),
        (("train", "--cutof", "3"), "No such option: --cutof (Possible options: --cutoff); `coldstart train --help` "),
        (("train", "--cutoff", "3"), "'3' is not a date; give YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS, in UTC; "),
        (("explain",), "Missing option '--item-id'; `coldstart explain --help` lists what is possible"),
        (("evaluate", "--split", "half"), "'half' is not one of 'item_cold', 'user_cold', 'both_cold', 'warm', "),
        (("cache", "stats", "x"), "Got unexpected extra argument(s) (x); `coldstart cache stats --help` lists "),
        (("put", "--description", "x"), "give one of --user-id and --item-id; neither was given"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_two(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    result = run("coldstart", *words, cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("error: ")
    assert message in result.stderr


def test_without_a_command_the_help_is_printed(tmp_path: Path) -> None:
    result = run("coldstart", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (2, "")
    assert "Usage: coldstart" in result.stdout
