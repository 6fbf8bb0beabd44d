"""The code blocks of a Markdown page: what they are, how they are run, and whether their output is what the page says.

A block says by its language what happens to it:

    python    runs; all blocks of a page share one interpreter
    sql       runs; all blocks of a page share one connection, which has the SQL functions
    console   lines that start with "$ " run in bash; the other lines are their output
    text      the output of the block before it

Output is compared; `...` stands for anything within a line, and alone on a line for any lines, or none. A comment
directly above a block changes that:

    <!-- not run: REASON -->               nothing happens to the block
    <!-- output not compared: REASON -->   it runs
    <!-- exit status N -->                 its last command ends with N
    <!-- file: PATH -->                    it is the content of this file; any language
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from markdown_it import MarkdownIt

from tests.support.commands import ROOT

LANGUAGES = ("python", "sql", "console", "text")
_COMMENT = re.compile(r"<!--\s*(not run|output not compared|file|exit status)\b:?\s*(.*?)\s*-->", re.DOTALL)
_NUMBER = re.compile(r"[-+]?\d*\.\d+")
_BORDER = re.compile(r"[┏┡└├┌╞┴┬━─┳╇┼┤┓┩┘═╪╡┐╰╭╮╯ ]+")
_PROGRESS = re.compile(r"━.* \d+/\d+ ")


@dataclass(frozen=True)
class Block:
    """A fenced code block. `line` is that of its fence; `mark` and `value` are the comment above it."""

    page: str
    line: int
    language: str
    text: str
    mark: str
    value: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(path: Path) -> list[Block]:
    """The fenced blocks of a page in their order, directives of the documentation's generator left out."""
    page = path.relative_to(ROOT).as_posix()
    blocks = []
    comment = None
    for token in MarkdownIt().parse(path.read_text(encoding="utf-8")):
        if token.type == "html_block":
            comment = _COMMENT.search(token.content)
        elif token.type == "fence" and not token.info.startswith("{"):
            mark, value = comment.groups() if comment else ("", "")
            blocks.append(Block(page, token.map[0] + 1, token.info.strip(), token.content, mark, value))
        elif token.type == "code_block":
            blocks.append(Block(page, token.map[0] + 1, "indented", token.content, "", ""))
        if token.type != "html_block":
            comment = None
    return blocks


def faults(blocks: list[Block]) -> list[str]:
    """What is wrong with how the blocks of a page are marked."""
    found = []
    before: Block | None = None
    for block in blocks:
        if block.language == "indented":
            found.append(f"{block}: an indented block says no language; use a fence")
        elif block.mark and not block.value:
            found.append(f"{block}: '{block.mark}' needs a reason or a value")
        elif block.mark in ("not run", "file"):
            pass
        elif block.language not in LANGUAGES:
            found.append(f"{block}: {block.language!r} is none of {LANGUAGES}; mark it as 'not run' or 'file'")
        elif block.language == "text" and (before is None or before.language == "text" or before.mark == "file"):
            found.append(f"{block}: this output follows no block that runs; mark it as 'not run' or 'file'")
        elif block.language == "console" and not block.text.startswith("$ "):
            found.append(f"{block}: a console block starts with '$ '")
        before = block
    return found


def commands(block: Block) -> list[tuple[str, str]]:
    """The commands of a console block, each with its output; a backslash continues a command."""
    found: list[list[str]] = []
    continued = False
    for line in block.text.splitlines():
        if continued:
            found[-1][0] += "\n" + line
        elif line.startswith("$ "):
            found.append([line[2:], ""])
        else:
            found[-1][1] += line + "\n"
        continued = line.endswith("\\") and (continued or line.startswith("$ "))
    return [(command, output) for command, output in found]


def agree(expected: str, actual: str) -> bool:
    """Whether an output is the expected one: white space, borders and progress bars aside, numbers to 5 %.

    Numbers with a point may differ by .02 or 5 %, for an encoder in 8 bits computes differently on other processors.
    Seconds may differ by anything.
    """
    pattern, numbers = "", []
    for line in _plain(expected).splitlines():
        if line == "...":
            pattern += r"(?:.*\n)*?"
            continue
        for part in re.split(r"(\.\.\.|[-+]?\d*\.\d+)", line):
            if part == "...":
                pattern += ".*?"
            elif _NUMBER.fullmatch(part):
                pattern += r"([-+]?\d*\.\d+)"
                numbers.append(float(part))
            else:
                pattern += re.escape(part)
        pattern += r"\n"
    match = re.fullmatch(pattern, _plain(actual) + "\n" if actual.strip() else "")
    return match is not None and all(
        abs(float(found) - number) <= 0.02 + 0.05 * abs(number)
        for found, number in zip(match.groups(), numbers, strict=True)
    )


def _plain(output: str) -> str:
    lines = []
    for line in re.sub(r"\x1b\[[\d;]*m", "", output).splitlines():
        if _PROGRESS.search(line) or _BORDER.fullmatch(line):
            continue
        line = re.sub(r"\d+\.\d+ s\b", "# s", re.sub("[┃│]", "|", line))
        if words := line.split():
            lines.append(" ".join(words))
    return "\n".join(lines)


class Session:
    """Runs the blocks of a page, in their order, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        programs = Path(sys.executable).parent
        self._environment = os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
            "COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb", "PYTHONWARNINGS": "ignore",
        }  # fmt: skip
        self._interpreter = subprocess.Popen(
            [sys.executable, "-m", "tests.support.page_interpreter"], cwd=folder, env=self._environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._interpreter.communicate()

    def run(self, blocks: list[Block]) -> None:
        """Run blocks; an AssertionError names the page, the line and both outputs."""
        printed = ""
        for block, after in zip(blocks, [*blocks[1:], None], strict=True):
            if block.mark == "not run" or (block.language == "text" and block.mark != "file"):
                continue
            if block.mark == "file":
                path = self._folder / block.value
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text, encoding="utf-8")
            elif block.language == "console":
                self._run_commands(block)
            else:
                printed = self._run_code(block)
                if after is not None and after.language == "text" and not after.mark:
                    assert agree(after.text, printed), f"{after}: expected\n{after.text}\nbut it printed\n{printed}"

    def _run_code(self, block: Block) -> str:
        assert self._interpreter.stdin is not None
        assert self._interpreter.stdout is not None
        request = {"language": block.language, "code": block.text, "file": block.page, "line": block.line}
        self._interpreter.stdin.write(json.dumps(request) + "\n")
        self._interpreter.stdin.flush()
        answer = json.loads(self._interpreter.stdout.readline())
        assert not answer["error"], f"{block}: {answer['error']}"
        return str(answer["printed"])

    def _run_commands(self, block: Block) -> None:
        asked = commands(block)
        for place, (command, expected) in enumerate(asked):
            last = place == len(asked) - 1
            if command.startswith("cd "):
                self._folder = self._folder / command[3:]
                continue
            status = int(block.value) if block.mark == "exit status" and last else 0
            done = subprocess.run(
                ["bash", "-c", command], cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False,
            )  # fmt: skip
            said = f"{block}: {command}\nended with {done.returncode} and printed\n{done.stdout}"
            assert done.returncode == status, said
            if expected and block.mark != "output not compared":
                assert agree(expected, done.stdout), f"{said}\nexpected\n{expected}"
