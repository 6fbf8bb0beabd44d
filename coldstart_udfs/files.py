"""Writing files as a whole: into a scratch folder first, then renamed, so that no reader sees half a file."""

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
    """Yield a scratch folder inside `directory`; if the block succeeds, its files are moved into `directory`.

    Files of the same name are replaced one by one, other files stay. If the block raises or is interrupted, `directory`
    stays as it was.
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
            with contextlib.suppress(OSError):  # the folder has files if the block succeeded
                directory.rmdir()


def write_text(path: Path, text: str) -> None:
    """Write a small text file as a whole, or leave it as it was."""
    with staged(path.absolute().parent) as scratch:
        (scratch / path.name).write_text(text, encoding="utf-8")
