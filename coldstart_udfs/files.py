"""Write beside, then rename: a reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staged(directory: Path) -> Iterator[Path]:
    """Give a scratch folder inside `directory`; move its files up if the block succeeds.

    Files of the same name are replaced one by one, others are left alone. If the block raises or is
    interrupted, `directory` stays as it was.
    """
    existed = directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=directory))
    try:
        yield scratch
        for path in sorted(scratch.iterdir()):
            os.replace(path, directory / path.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if not existed:
            with contextlib.suppress(OSError):  # not empty: the block succeeded
                directory.rmdir()


def write_text(path: Path, text: str) -> None:
    """Write a small text file, whole or not at all."""
    with staged(path.absolute().parent) as scratch:
        (scratch / path.name).write_text(text, encoding="utf-8")
