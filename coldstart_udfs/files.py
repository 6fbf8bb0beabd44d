"""Writing files as a whole: into a scratch folder first, then renamed, so that no reader sees half a file."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SCRATCH = ".unfinished-"


@contextmanager
def staged(directory: Path) -> Iterator[Path]:
    """Yield a scratch folder inside `directory`; if the block succeeds, its files are moved into `directory`.

    Files of the same name are replaced one by one, other files stay. If the block raises or is interrupted, `directory`
    stays as it was. An OSError that names no file, as that of a full disk, or one in the scratch folder, names
    `directory`.
    """
    existed = directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    scratch = None
    try:
        scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=directory))
        yield scratch
        for path in sorted(scratch.iterdir()):
            os.replace(path, directory / path.name)
    except OSError as error:
        if error.errno is not None and (error.filename is None or _SCRATCH in str(error.filename)):
            raise OSError(error.errno, os.strerror(error.errno), str(directory)) from error
        raise
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        if not existed:
            with contextlib.suppress(OSError):  # the folder has files if the block succeeded
                directory.rmdir()


def write_text(path: Path, text: str) -> None:
    """Write a small text file as a whole, or leave it as it was."""
    with staged(path.absolute().parent) as scratch:
        (scratch / path.name).write_text(text, encoding="utf-8")
