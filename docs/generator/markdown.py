"""Markdown from code: tables, and docstrings in Google style."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence

# Sections whose entries have names, and sections of plain text.
_NAMED = ("Args", "Attributes", "Raises")
_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):$")
_ENTRY = re.compile(r"(\*{0,2}[\w.]+(?:, \w+)*): (.*)", re.DOTALL)
_CODE = re.compile(r"(`[^`]*`)")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; `|` within cells is escaped."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def prose(text: str) -> str:
    """Text on one line, with `<` escaped where Markdown would take it for HTML."""
    parts = _CODE.split(" ".join(text.split()))
    return "".join(part if part.startswith("`") else part.replace("<", "&lt;") for part in parts)


def fence(language: str, text: str) -> str:
    """A code block."""
    return f"```{language}\n{text}\n```"


def docstring(text: str) -> str:
    """A docstring in Google style as Markdown: paragraphs, sections as lists, doctests as code blocks."""
    blocks = _blocks(inspect.cleandoc(text))
    parts: list[str] = []
    for block in blocks:
        first, _, rest = block.partition("\n")
        section = _SECTION.match(first)
        if block.startswith(">>>"):
            parts.append(fence("pycon", block))
        elif section and section[1] in _NAMED:
            entries = [_entry(entry) for entry in _entries(inspect.cleandoc(rest))]
            title = "Arguments" if section[1] == "Args" else section[1]
            parts.append(f"**{title}**\n\n" + "\n".join(f"- {entry}" for entry in entries))
        elif section:
            parts.append(f"**{section[1]}**\n\n{prose(rest)}")
        elif re.match(r"[-*] |\d\. ", block):
            parts.append("\n".join(map(prose, re.split(r"\n(?=[-*] |\d\. )", block))))
        elif block.startswith("    "):
            parts.append(fence("text", inspect.cleandoc(block)))
        else:
            parts.append(prose(block))
    return "\n\n".join(parts)


def attributes(text: str | None) -> dict[str, str]:
    """What the section `Attributes:` of a docstring says of each name, as Markdown."""
    for block in _blocks(inspect.cleandoc(text or "")):
        if block.startswith("Attributes:"):
            found = (_ENTRY.match(entry) for entry in _entries(inspect.cleandoc(block.partition("\n")[2])))
            return {match[1]: prose(match[2]) for match in found if match}
    return {}


def _blocks(text: str) -> list[str]:
    """Paragraphs; a blank line within an indented section does not end it."""
    blocks: list[str] = []
    for block in re.split(r"\n\n+", text):
        if blocks and block.startswith("    ") and _SECTION.match(blocks[-1].partition("\n")[0]):
            blocks[-1] += f"\n\n{block}"
        else:
            blocks.append(block)
    return blocks


def _entries(text: str) -> list[str]:
    """Lines that begin with a name and a colon, each with those below it."""
    return re.split(r"\n(?=\*{0,2}[\w.]+(?:, \w+)*: )", text)


def _entry(text: str) -> str:
    match = _ENTRY.match(text)
    return f"`{match[1]}`: {prose(match[2])}" if match else prose(text)

