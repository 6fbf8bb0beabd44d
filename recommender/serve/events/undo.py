"""Put parts of a table back as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def kept(table: dict[K, V], keys: Iterable[K], copied: Callable[[V], V] = lambda value: value) -> Callable[[], None]:
    """Return what gives some keys of a table the values that they have now, and removes those that it does not have.

    Args:
        table: no value in it is None.
        keys: those that will be changed.
        copied: copies a value that will be changed itself.

    >>> table = {"a": 1}
    >>> undo = kept(table, ["a", "b"])
    >>> table.update(a=2, b=3)
    >>> undo()
    >>> table
    {'a': 1}
    """
    values = [(key, copied(table[key]) if key in table else None) for key in keys]

    def restore() -> None:
        for key, value in values:
            if value is None:
                table.pop(key, None)
            else:
                table[key] = value

    return restore
