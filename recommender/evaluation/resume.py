"""Intermediate results of a long job, kept in a folder until the job is finished."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.files import staged, write_text

Arrays = dict[str, NDArray[Any]]

_KEY = "key.txt"


class Finished:
    """Named results of one job. Results of a job with another key are deleted, and never read: file names contain it.

    Args:
        folder: created with the first result; None keeps nothing.
        key: identifies everything that the results depend on.

    Raises:
        ColdStartError: the folder contains other files.
    """

    def __init__(self, folder: Path | None, key: str) -> None:
        self._folder, self._key = folder, key
        if folder is None or not folder.is_dir() or not any(folder.iterdir()):
            return
        if not (folder / _KEY).is_file():
            raise ColdStartError(f"{folder} does not contain an unfinished evaluation; move it away")
        if (folder / _KEY).read_text("utf-8") != key:
            shutil.rmtree(folder)

    def get(self, name: str, make: Callable[[], Arrays]) -> Arrays:
        """Return the result with this name; compute and keep it if it is missing."""
        path = self._path(name)
        if path is not None and path.is_file():
            try:
                with np.load(path) as arrays:
                    return dict(arrays)
            except (OSError, ValueError, zipfile.BadZipFile):
                path.unlink()
        made = make()
        if path is not None:
            write_text(path.parent / _KEY, self._key)
            with staged(path.parent) as scratch:
                np.savez(scratch / path.name, allow_pickle=False, **made)
        return made

    def folder(self, name: str) -> Path | None:
        """Return a folder for a part of the job, or None."""
        return self._folder / f"{name}-{self._digest(name)}" if self._folder else None

    def _path(self, name: str) -> Path | None:
        return self._folder / f"{self._digest(name)}.npz" if self._folder else None

    def _digest(self, name: str) -> str:
        return hashlib.blake2b(f"{self._key}\0{name}".encode(), digest_size=12).hexdigest()
