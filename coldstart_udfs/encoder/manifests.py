"""Models that are built once on a machine, each with a manifest: where they are, and how they come to their place."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from coldstart_udfs.encoder.modules import read_json
from coldstart_udfs.encoder.places import own_folder, user_folder
from coldstart_udfs.errors import ColdStartError

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """A derived model: its identity, its origin, and the measurements made when it was built.

    Attributes:
        fingerprint: of the encoder that runs it.
        model: name of the original.
        source: fingerprint of the original under the backend `torch`; of `multilingual`, the sha256 of its source.
        backend: the backend that runs it.
        dimensions: length of a vector.
        max_tokens: number of tokens at which texts are cut.
        prompts: prefixes of texts, by kind of text.
        bytes: size on disk.
        sha256: hash of the file with the weights.
        cosine_mean: mean cosine to the original's vectors, over a fixed sample of real descriptions; None for `static`,
            whose vectors lie in another space.
        cosine_min: the smallest of these cosines.
        similarity_correlation: Pearson correlation between the similarities of all pairs of the sample under this
            model and under the original.
        texts_per_second: speed on this machine, measured on the sample.
        built: date and time, UTC.
        versions: versions of the packages that built it.
        cosine_long: the smallest cosine over texts longer than the token limit; None where it was not measured.
    """

    fingerprint: str
    model: str
    source: str
    backend: str
    dimensions: int
    max_tokens: int | None
    prompts: dict[str, str]
    bytes: int
    sha256: str
    cosine_mean: float | None
    cosine_min: float | None
    similarity_correlation: float
    texts_per_second: float
    built: str
    versions: dict[str, str]
    cosine_long: float | None = None


def models_folder() -> Path:
    """The folder of derived models: `models` in the user's cache directory, even read-only if it holds any.

    Where that cannot be written and holds none, see `places.own_folder`.
    """
    user = user_folder()
    if user is not None and any((user / "models").glob(f"*/{MANIFEST}")):
        return user / "models"
    return own_folder() / "models"


def installed() -> list[Manifest]:
    """The derived models of this machine."""
    return [read_manifest(path.parent) for path in sorted(models_folder().glob(f"*/{MANIFEST}"))]


def build_once(folder: Path, make: Callable[[Path], None], *, again: bool = False) -> Manifest:
    """Make a model's folder, with its manifest, in a scratch folder beside it, and move it into place.

    Processes that start together make it once.

    Args:
        folder: the place of the model.
        make: writes the files into the scratch folder.
        again: make it even if it exists.

    Raises:
        ColdStartError: the manifest is damaged.
        OSError: the folder cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if again or not (folder / MANIFEST).exists():
            with _beside(folder) as scratch:
                make(scratch)
        return read_manifest(folder)


def read_manifest(folder: Path) -> Manifest:
    """The manifest in a model's folder.

    Raises:
        ColdStartError: it is damaged.
    """
    try:
        return Manifest(**read_json(folder / MANIFEST))
    except (TypeError, ColdStartError) as error:
        raise ColdStartError(f"{folder / MANIFEST} is damaged ({error}); delete the folder to build it again") from None


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """Yield a scratch folder that replaces `folder` if the block succeeds."""
    scratch = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))
    try:
        yield scratch
        scratch.chmod(0o755)  # models that root builds into an image are for all users
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
