"""The encoder's own commands: `coldstart embed`, `coldstart encoder …`, `coldstart cache …`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from coldstart_udfs.console import console, progress
from coldstart_udfs.errors import ColdStartError
from recommender.cli.options import ModelOption

encoder_app = typer.Typer(no_args_is_help=True, help="Models derived on this machine: build and list them.")
cache_app = typer.Typer(no_args_is_help=True, help="The machine's vector cache: size, soundness, clearing.")

CachePath = Annotated[Path | None, typer.Option("--path", help="Another cache file than the machine's.")]

class Engine(StrEnum):
    """What runs a bulk job."""

    local = "local"
    ray = "ray"


def embed(
    source: Annotated[str, typer.Argument(help="A parquet file; with --engine ray also a folder or a URI.")],
    text: Annotated[str, typer.Option(help="The column with the texts.")],
    out: Annotated[str, typer.Option(help="The parquet file to write; with --engine ray a folder or a URI.")],
    model: ModelOption = None,
    backend: Annotated[str, typer.Option(help="auto, torch, torch-fp16, onnx, onnx-int8 or static.")] = "auto",
    cache: Annotated[bool, typer.Option(help="Use the machine's vector cache.")] = True,
    engine: Annotated[Engine, typer.Option(help="ray: Ray Data actors, with the extra `ray`.")] = Engine.local,
    workers: Annotated[int | None, typer.Option(min=1, help="Ray actors; default: one for each processor.")] = None,
) -> None:
    """Add `embedding` and `embedding_fingerprint` to a parquet file. After a stop, the same command goes on."""
    if engine is Engine.ray:
        from coldstart_udfs.encoder.backends import available_threads
        from coldstart_udfs.encoder.bulk_ray import embed_directory

        rows = embed_directory(
            source, out, text=text, model=model, backend=backend, cache=cache, workers=workers or available_threads()
        )
        console.print(f"{rows:,} rows read, {rows:,} written → {out}")
        return
    if workers:
        raise ColdStartError("--workers belongs to --engine ray; the local engine uses every processor by itself")
    from coldstart_udfs.encoder.bulk import embed_file
    from coldstart_udfs.encoder.encoder import Encoder

    encoder = Encoder(model, backend=backend, cache=cache)
    try:
        with progress(remaining=True) as report:
            result = embed_file(Path(source), Path(out), text=text, encoder=encoder, report=report)
    except KeyboardInterrupt:
        console.print(f"stopped; finished parts are in {out}.unfinished, and the same command goes on from there")
        raise typer.Exit(130) from None
    details = [f"{result.rows:,} rows", f"{encoder.stats.encoded:,} texts encoded", f"{encoder.stats.hits:,} known"]
    if result.without_text:
        details.append(f"{result.without_text:,} without text (NULL)")
    if result.truncated:
        details.append(f"{result.truncated:,} cut at {encoder.max_tokens} tokens")
    console.print(", ".join(details), f"→ {out}\nencoder {result.fingerprint}")


@encoder_app.command("build")
def build_encoder(
    backend: Annotated[str, typer.Option(help="onnx, onnx-int8 or static.")],
    model: ModelOption = None,
    again: Annotated[bool, typer.Option("--again", help="Even if it is there.")] = False,
) -> None:
    """Derive a model for a backend, measured against its original; it is used from then on."""
    from coldstart_udfs.encoder.derived import build
    from coldstart_udfs.encoder.model_files import ModelFiles

    with console.status("building …") as status:
        manifest = build(ModelFiles(model), backend, report=lambda stage, *_: status.update(f"{stage} …"), again=again)
    measured = [f"{manifest.texts_per_second:,.0f} texts/s on this machine"]
    if manifest.cosine_mean is not None:
        measured.append(f"cosine {manifest.cosine_mean:.4f} on average, {manifest.cosine_min:.4f} at least")
    console.print(f"{manifest.fingerprint}: {', '.join(measured)}")


@encoder_app.command("list")
def list_encoders() -> None:
    """The derived models of this machine, and what was measured when each was built."""
    from coldstart_udfs.encoder.derived import installed, models_folder

    found = installed()
    if not found:
        console.print(f"none in {models_folder()}; `coldstart encoder build --backend onnx-int8` makes one")
        return
    table = Table()
    for name in ("backend", "model", "fingerprint"):
        table.add_column(name, overflow="fold")
    for name in ("dimensions", "tokens", "MB", "cosine", "min", "correlation", "texts/s"):
        table.add_column(name, justify="right")
    for one in found:
        cosines = ["–" if value is None else f"{value:.4f}" for value in (one.cosine_mean, one.cosine_min)]
        table.add_row(
            one.backend, one.model, one.fingerprint, str(one.dimensions), str(one.max_tokens or "–"),
            f"{one.bytes / 1e6:.0f}", *cosines, f"{one.similarity_correlation:.3f}", f"{one.texts_per_second:,.0f}",
        )  # fmt: skip
    console.print(table)


@cache_app.command("stats")
def cache_stats(path: CachePath = None) -> None:
    """How many vectors the cache holds, of which encoders, and how large it is."""
    from coldstart_udfs.encoder.cache.upkeep import stats

    held = stats(_cache_path(path))
    console.print(f"{held.path}: {held.bytes / 1e6:,.1f} MB of at most {held.limit / 1e6:,.0f} MB")
    for fingerprint, vectors in held.vectors.items():
        console.print(f"{vectors:>12,}  {fingerprint}")


@cache_app.command("clear")
def cache_clear(
    fingerprint: Annotated[str | None, typer.Option(help="Only the vectors of this encoder.")] = None,
    path: CachePath = None,
) -> None:
    """Forget all vectors, or those of one encoder."""
    from coldstart_udfs.encoder.cache.upkeep import clear

    console.print(f"{clear(_cache_path(path), fingerprint):,} vectors removed")


@cache_app.command("verify")
def cache_verify(path: CachePath = None) -> None:
    """Check the cache file and every vector in it; remove what is wrong."""
    from coldstart_udfs.encoder.cache.upkeep import verify

    right, wrong = verify(_cache_path(path))
    console.print(f"{right:,} vectors are right" + (f", {wrong:,} were damaged and are removed" if wrong else ""))


def _cache_path(path: Path | None) -> Path:
    from coldstart_udfs.encoder.cache.store import default_path

    return path or default_path()
