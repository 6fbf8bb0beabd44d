"""How commands show themselves in `--help`: types as words, and examples below the options."""

from __future__ import annotations

import typing
from collections.abc import Callable
from datetime import datetime
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any

from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

_HEADING = "\n\nExamples:\n"
_WORDS = {str: "TEXT", int: "INTEGER", float: "NUMBER", Path: "PATH", datetime: "YYYY-MM-DD", bool: ""}


class Command(TyperCommand):
    """A command whose docstring ends with the section `Examples:`, one command line on each line.

    Attributes:
        examples: the command lines, as a user types them.
    """

    def __init__(self, *arguments: Any, help: str | None = None, **settings: Any) -> None:
        text, _, examples = (help or "").partition(_HEADING)
        self.examples = tuple(line.strip() for line in examples.splitlines() if line.strip())
        shown = "\n".join(f"$ {escape(example)}" for example in self.examples)
        settings["epilog"] = f"Examples:\n{shown}"
        super().__init__(*arguments, help=_unwrapped(text), **settings)

    def get_params(self, ctx: Any) -> Any:
        """The parameters, with their types as words."""
        return _with_words(super().get_params(ctx), self.callback)


class Group(TyperGroup):
    """A group of commands, with types as words."""

    def get_params(self, ctx: Any) -> Any:
        """The parameters, with their types as words."""
        return _with_words(super().get_params(ctx), None)


def type_word(annotation: Any) -> str:
    """The word for the values of a parameter.

    >>> type_word(int | None), type_word(list[str]), type_word(bool)
    ('INTEGER', 'TEXT', '')
    """
    if typing.get_origin(annotation) in (typing.Union, UnionType, list):
        annotation = next(part for part in typing.get_args(annotation) if part is not type(None))
        return type_word(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "|".join(str(choice.value) for choice in annotation)
    return _WORDS[annotation]


def _with_words(params: list[Any], callback: Callable[..., Any] | None) -> list[Any]:
    """Name the types of parameters; an argument is named by its own metavar, such as FILE, and needs no other word."""
    annotations = typing.get_type_hints(callback) if callback else {}
    for param in params:
        word = "" if param.param_type_name == "argument" else param.metavar
        if word is None:
            word = type_word(annotations.get(param.name, bool))
        # Typer has no setting for this; left alone, it shows Python's names: <str>, <path>.
        param.display_type_rich = lambda ctx, word=word: word or None
    return params


def _unwrapped(text: str) -> str:
    """Each paragraph on one line: the terminal decides where it breaks."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
