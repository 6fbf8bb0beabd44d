"""Bulk encoding on a Ray cluster, with one encoder in each actor: parquet folders, or texts for the vector cache."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs

from coldstart_udfs.console import Report, no_report
from coldstart_udfs.encoder.bulk import EMBEDDING, FINGERPRINT, check_schema, embed_table
from coldstart_udfs.encoder.cache.store import key_of
from coldstart_udfs.encoder.encoder import Encoder
from coldstart_udfs.errors import ColdStartError, FingerprintError
from coldstart_udfs.locks import writing

_ROWS = 2_048
_TEXT = "text"


class _Embedder:
    """An actor with an encoder on one processor."""

    def __init__(self, text: str, model: str | None, backend: str, cache: bool | str) -> None:
        self._text = text
        self._encoder = Encoder(model, backend=backend, cache=cache, threads=1)

    def __call__(self, batch: pa.Table) -> pa.Table:
        return embed_table(batch, self._text, self._encoder)


def embed_directory(
    source: str, out: str, *, text: str, model: str | None, backend: str, cache: bool | str, workers: int
) -> int:
    """Embed a column of a parquet folder, a file, or an object-store path, with Ray Data.

    Args:
        source: path or URI of parquet files.
        out: path or URI of a folder that does not exist or is empty; its files get the columns of `embed_table`.
        text: the column with the texts.
        model: model of the encoder.
        backend: backend of the encoder; "auto" is resolved here, once for all actors.
        cache: cache of the encoder.
        workers: number of actors, with one processor each.

    Returns:
        The number of rows, read and written.

    Raises:
        ColdStartError: Ray is not installed, the input cannot be used, `out` is not empty, or Ray lost rows.
        InUseError: another process writes `out`. An object store has no locks.
    """
    _must_be_installed()
    with writing(Path(out), command="coldstart embed --engine ray") if "://" not in out else nullcontext():
        return _embed_directory(source, out, text, model, backend, cache, workers)


def _embed_directory(
    source: str, out: str, text: str, model: str | None, backend: str, cache: bool | str, workers: int
) -> int:
    import ray.data

    dataset = _open(source)
    check_schema(dataset.schema, text, source)
    filesystem, folder = pyarrow.fs.FileSystem.from_uri(_absolute(out))
    if filesystem.get_file_info(pyarrow.fs.FileSelector(folder, allow_not_found=True)):
        raise ColdStartError(f"{out} is not empty; choose another folder")
    rows = int(dataset.count_rows())
    backend = Encoder(model, backend=backend, cache=cache).backend
    local = isinstance(filesystem, pyarrow.fs.LocalFileSystem)
    # Object stores cannot rename: files appear there as they are finished.
    target = f"{folder}.unfinished" if local else out
    if local:
        shutil.rmtree(target, ignore_errors=True)
    _start(workers)
    arguments: dict[str, Any] = {"text": text, "model": model, "backend": backend, "cache": cache}
    ray.data.read_parquet(_absolute(source)).map_batches(
        _Embedder, fn_constructor_kwargs=arguments, batch_format="pyarrow", batch_size=_ROWS,
        compute=ray.data.ActorPoolStrategy(size=workers), num_cpus=1,
    ).write_parquet(target)  # fmt: skip
    written = int(ds.dataset(target if local else folder, filesystem=filesystem, format="parquet").count_rows())
    if written != rows:
        raise ColdStartError(f"{rows:,} rows went in and {written:,} came out, in {target}; look at Ray's log")
    if local:
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(target, folder)
    return written


def encode_into_cache(
    texts: Sequence[str], encoder: Encoder, workers: int, *, report: Report = no_report, stage: str = "encoding on Ray"
) -> int:
    """Encode texts with Ray Data and store their vectors in the encoder's vector cache, on this machine.

    Texts in the cache are not encoded again, so that an interrupted run continues. The vectors come in batches.

    Args:
        texts: n different descriptions.
        encoder: its model, backend and cache.
        workers: number of actors, with one processor each.
        report: called with (stage, done, total).
        stage: for `report`.

    Returns:
        The number of texts that were encoded.

    Raises:
        ColdStartError: Ray is not installed, the cluster has too few processors, the encoder has no cache, or Ray lost
            texts.
    """
    _must_be_installed()
    cache = encoder._disk
    if cache is None:
        raise ColdStartError(
            f"--engine ray stores vectors in the vector cache, and {encoder.name} with the backend {encoder.backend} "
            "has none here; leave --engine ray out"
        )
    keys = {text: key_of(row) for text, row in zip(texts, encoder._prefixed(texts, "document"), strict=True)}
    unknown: list[str] = []
    for first in range(0, len(texts), _ROWS):
        some = texts[first : first + _ROWS]
        known, _ = cache.get([keys[text] for text in some])
        unknown += [text for text in some if keys[text] not in known]
    if not unknown:
        return 0
    import ray.data

    _start(workers)
    blocks = [pa.table({_TEXT: unknown[first : first + _ROWS]}) for first in range(0, len(unknown), _ROWS)]
    arguments = {"text": _TEXT, "model": encoder.files.source, "backend": encoder.backend, "cache": False}
    encoded = ray.data.from_arrow(blocks).map_batches(
        _Embedder, fn_constructor_kwargs=arguments, batch_format="pyarrow", batch_size=_ROWS,
        compute=ray.data.ActorPoolStrategy(size=workers), num_cpus=1,
    )  # fmt: skip
    done = 0
    report(stage, done, len(unknown))
    for batch in encoded.iter_batches(batch_format="pyarrow", batch_size=_ROWS):
        made_by = set(batch[FINGERPRINT].to_pylist())
        if made_by != {encoder.fingerprint}:
            raise FingerprintError(
                found=", ".join(sorted(made_by)), found_in="a Ray node", expected=encoder.fingerprint,
                expected_by="this machine", remedy="Install the same feast-coldstart on every node.",
            )  # fmt: skip
        vectors = np.asarray(batch[EMBEDDING].combine_chunks().flatten()).reshape(len(batch), -1)
        cache.put({keys[text]: vector for text, vector in zip(batch[_TEXT].to_pylist(), vectors, strict=True)})
        done += len(batch)
        report(stage, done, len(unknown))
    if done != len(unknown):
        raise ColdStartError(f"{len(unknown):,} texts went in and {done:,} came out; look at Ray's log")
    return done


def _must_be_installed() -> None:
    if find_spec("ray") is None:
        raise ColdStartError("--engine ray needs Ray, not installed here: pip install 'feast-coldstart[ray]'")


def _start(workers: int) -> None:
    """Connect to Ray and check that it has a processor for each actor."""
    import ray

    if not ray.is_initialized():
        # The cluster that RAY_ADDRESS names, else one here. Reading needs a processor besides those of the actors.
        size = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers + 1, "include_dashboard": False}
        ray.init(logging_level=logging.WARNING, **size)
    logging.getLogger("ray.data").setLevel(logging.WARNING)  # its progress report is a page every few seconds
    processors = int(ray.cluster_resources().get("CPU", 0))
    if processors <= workers:
        raise ColdStartError(
            f"{workers} workers and one processor to read with are more than the cluster's {processors} processors; "
            f"pass --workers {max(1, processors - 1)}"
        )


def _open(source: str) -> ds.Dataset:
    try:
        filesystem, path = pyarrow.fs.FileSystem.from_uri(_absolute(source))
        return ds.dataset(path, filesystem=filesystem, format="parquet")
    except (FileNotFoundError, pa.ArrowInvalid, OSError) as error:
        raise ColdStartError(f"{source} cannot be read as parquet: {error}") from None


def _absolute(path: str) -> str:
    return path if "://" in path else str(Path(path).resolve())
