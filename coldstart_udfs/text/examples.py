"""Examples of labels: checked, and each once."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.profile import has_text


def examples_of(texts: Iterable[str | None], labels: Iterable[str | None]) -> tuple[tuple[str, str], ...]:
    """(label, text) of each different example, in alphabetical order.

    Raises:
        ColdStartError: as `Classifier.fit`.
    """
    texts, labels = texts_of(texts, "texts"), texts_of(labels, "labels")
    if len(texts) != len(labels):
        raise ColdStartError(f"there are {len(texts)} texts and {len(labels)} labels; give one label for each text")
    pairs = zip(texts, labels, strict=True)
    found = sorted({(label, text) for text, label in pairs if text and label and has_text(text) and has_text(label)})
    names = {label for label, _ in found}
    if len(names) < 2:
        given = f"the label {next(iter(names))!r} alone" if names else "no label"
        raise ColdStartError(
            f"{len(texts)} rows give {len(found)} different examples with both a text and a label, and {given}; give "
            "at least one example of each of two labels"
        )
    return tuple(found)


def texts_of(values: Iterable[str | None], name: str) -> list[Any]:
    """The values as a list. What is missing (None, and NaN, NaT and NA of pandas) is no text, but no error.

    Raises:
        ColdStartError: `values` is a single string, or one is a number.
    """
    if isinstance(values, str):
        raise ColdStartError(f"{name} is a single string; give a list of them, such as [{values[:20]!r}]")
    found = list(values)
    for row, value in enumerate(found):
        if isinstance(value, bytes) or (isinstance(value, Real) and value == value):
            raise ColdStartError(f"{name}[{row}] is {value!r} ({type(value).__name__}); {name} are texts, such as '1'")
    return found
