"""Shared by the sections of the recommender's benchmark: the data sets, and results kept until a run is complete."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT
from numpy.typing import NDArray
from real_data import NAMES, contract_tables

from coldstart_udfs.files import write_text
from recommender.data.dataset import Dataset, files_in, read_dataset
from recommender.evaluation.baselines import Scorer
from recommender.measure.metrics import rank_metrics
from recommender.measure.splits import Split

SCRATCH = ROOT / "data" / "bench-recommender"
UNFINISHED = SCRATCH / "unfinished"
ONLINE_RETAIL = NAMES[0]
# Chinese and German texts; the default encoder knows English.
ENCODERS = dict.fromkeys(("polis-vtaiwan", "polis-austria"), "multilingual")
_BLOCK = 512


def make_tables(data_dir: Path | None, sets: Sequence[str] | None = None) -> list[str]:
    """Write the tables of data sets, encode their texts, and return the data sets' names.

    Online Retail's are always written, because the other sections measure on it.

    Args:
        data_dir: contains the folders of the other data sets' raw files.
        sets: names of data sets; None: all whose files are there.
    """
    sources = {ONLINE_RETAIL: ROOT / "examples" / "online_retail"}
    sources |= {name: data_dir / name for name in NAMES[1:] if data_dir and (data_dir / name).is_dir()}
    if absent := sorted(set(sets or ()) - set(sources)):
        raise SystemExit(f"the raw files of {', '.join(absent)} are not there; give --data-dir, a folder with theirs")
    names = [name for name in sources if sets is None or name in sets]
    for name in dict.fromkeys((*names, ONLINE_RETAIL)):
        told(f"preparing {name}")
        contract_tables(name, sources[name], _tables(name))
        dataset(name)
    return names


@lru_cache(maxsize=1)
def dataset(name: str) -> Dataset:
    """Read a data set and encode its texts; variants of one product of Online Retail are a group."""
    return read_dataset(
        *files_in(_tables(name)), group_column="stem" if name == ONLINE_RETAIL else None, model=ENCODERS.get(name)
    )


def data_hash(name: str) -> str:
    """Hash the tables of a data set."""
    digest = hashlib.sha256()
    for path in sorted(_tables(name).glob("*.parquet")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _tables(name: str) -> Path:
    return SCRATCH / "tables" / name


def ndcg_on(split: Split, score: Scorer, candidates: NDArray[np.int64]) -> NDArray[np.float64]:
    """NDCG@20 among the candidates, for every user with at least one relevant candidate.

    Args:
        split: the users to rank for, and their relevant items.
        score: rows of users → scores, shape (rows, candidates).
        candidates: row numbers of items.
    """
    wanted, known = split.wanted[:, candidates], split.excluded[:, candidates]
    asked = split.asked[np.diff(wanted.indptr)[split.asked] > 0]
    values = []
    for start in range(0, len(asked), _BLOCK):
        rows = asked[start : start + _BLOCK]
        values.append(rank_metrics(score(rows), wanted[rows].toarray() > 0, known[rows].toarray() > 0).ndcg)
    return np.concatenate(values)


def kept(name: str, compute: Callable[[], Any], settings: Sequence[Any] = ()) -> Any:
    """Return a result, from an interrupted run with the same code and settings if there is one.

    Args:
        name: name of the result; a file of this name is kept until `forget`.
        compute: computes the result; it must be JSON.
        settings: everything else that the result depends on.
    """
    path = SCRATCH / "results" / f"{name}.json"
    identity = [_code(), *map(str, settings)]
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before["identity"] == identity:
            told(f"{name}: reused from the interrupted run, {path}")
            return before["result"]
    told(name)
    began = time.perf_counter()
    result = compute()
    told(f"{name}: {time.perf_counter() - began:.0f} s")
    write_text(path, json.dumps({"identity": identity, "result": result}, indent=1) + "\n")
    return result


def forget(section: str) -> None:
    """Delete the kept results of a section, so that the next run measures it again."""
    for path in (SCRATCH / "results").glob(f"{section}*.json"):
        path.unlink()
    shutil.rmtree(UNFINISHED / section, ignore_errors=True)


def one_thread() -> dict[str, str]:
    """Return the environment of a process that computes on one thread."""
    return {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")}


def each_size(script: str, sizes: Sequence[int], what: str) -> list[dict[str, float]]:
    """Run a script once for each size, in a process of its own on one thread; return the JSON that it prints."""
    runs = []
    for size in sizes:
        told(f"{what}: {size:,}")
        command = [sys.executable, "-W", "ignore", script, str(size)]
        done = subprocess.run(command, env=one_thread(), stdout=subprocess.PIPE, text=True, check=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    return runs


def told(what: str) -> None:
    """Log a line to stderr."""
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


@lru_cache(maxsize=1)
def _code() -> str:
    digest = hashlib.sha256()
    for folder in ("recommender", "coldstart_udfs", "benchmarks"):
        for path in sorted((ROOT / folder).glob("**/*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
