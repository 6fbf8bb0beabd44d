"""Commands of the encoder: `coldstart embed` and `coldstart encoder …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from coldstart_udfs.console import console, progress
from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.locks import whole, writing
from recommender.cli.command import Command, Group
from recommender.cli.failures import INTERRUPTED
from recommender.cli.options import (
    CacheOption,
    EncodingOption,
    Engine,
    EngineOption,
    ModelOption,
    WorkersOption,
    encoder_of_shop,
    ray_workers,
)

encoder_app = typer.Typer(
    name="encoder", cls=Group, no_args_is_help=True, help="Compare encoders; build and list faster variants."
)


def embed(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A Parquet, CSV, JSON lines or Excel file; with --engine ray a Parquet file, a folder or a URI.",
        ),
    ],
    out: Annotated[
        str,
        typer.Option(metavar="FILE", help="The Parquet file to write; with --engine ray a folder or a URI."),
    ],
    text: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column with the texts.")] = None,
    image: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="The column with the paths, or the contents, of pictures (extra image). Relative paths start from the "
            "working directory. Without --map the vectors are those of pictures, which lie in a space of their own.",
        ),
    ] = None,
    picture_map: Annotated[
        Path | None,
        typer.Option(
            "--map", metavar="FOLDER",
            help="With --image: the map from pictures into the space of texts. With --text too it is fitted on the "
            "rows that have both, and written; a row without text gets the vector of its picture.",
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="With --map and --text: rows of one group are variants, and held out together."
        ),
    ] = None,
    image_model: Annotated[
        str | None,
        typer.Option(
            help="The encoder of pictures: a folder or the name of a CLIP-like model. Default: EfficientNet-Lite0."
        ),
    ] = None,
    encoding: EncodingOption = None,
    model: ModelOption = None,
    backend: Annotated[
        str | None,
        typer.Option(
            help="What runs the encoder: auto, torch, torch-fp16, onnx, onnx-int8 or static. Default: with the model "
            "of feature_repo/enrichment.json its backend, else auto."
        ),
    ] = None,
    cache: CacheOption = True,
    engine: EngineOption = Engine.local,
    workers: WorkersOption = None,
) -> None:
    """Add the columns embedding and embedding_fingerprint to a file.

    After an interruption the same command continues where it stopped.

    Examples:
        coldstart embed items.csv --text description --out embedded.parquet
        coldstart embed photos.csv --image photo --map pictures --out out.parquet
    """
    model, chosen = encoder_of_shop(model, backend)
    if image is not None:
        if engine is not Engine.local:
            raise ColdStartError("pictures are embedded on this machine; leave out --engine ray")
        _embed_pictures(source, out, text, image, picture_map, group, image_model, encoding, model, chosen, cache)
        return
    if text is None:
        raise ColdStartError("no column was named; give --text COLUMN, --image COLUMN, or both")
    if picture_map or group or image_model:
        raise ColdStartError("--map, --group and --image-model belong to --image COLUMN")
    if actors := ray_workers(engine, workers):
        from coldstart_udfs.encoder.bulk_ray import embed_directory

        rows = embed_directory(
            source, out, text=text, model=model, backend=chosen, cache=cache, workers=actors
        )
        console.print(f"{rows:,} rows read, {rows:,} written → {out}")
        return
    from coldstart_udfs.encoder.bulk import embed_file
    from coldstart_udfs.encoder.encoder import Encoder

    encoder = Encoder(model, backend=chosen, cache=cache)
    try:
        with progress(remaining=True) as report:
            result = embed_file(
                Path(source), Path(out), text=text, encoder=encoder, encoding=encoding, report=report
            )
    except KeyboardInterrupt:
        console.print(f"stopped; finished parts are in {out}.unfinished, and the same command continues from there")
        raise typer.Exit(INTERRUPTED) from None
    details = [f"{result.rows:,} rows", f"{encoder.stats.encoded:,} texts encoded", f"{encoder.stats.hits:,} known"]
    if result.without_text:
        details.append(f"{result.without_text:,} without text (NULL)")
    if result.truncated:
        details.append(f"{result.truncated:,} cut at {encoder.max_tokens} tokens")
    console.print(", ".join(details), f"→ {out}\nencoder {result.fingerprint}")


def _embed_pictures(
    source: str, out: str, text: str | None, image: str, picture_map: Path | None, group: str | None,
    image_model: str | None, encoding: str | None, model: str | None, backend: str, cache: bool,
) -> None:  # fmt: skip
    from coldstart_udfs.encoder.encoder import Encoder
    from coldstart_udfs.encoder.images.bulk import embed_pictures
    from coldstart_udfs.encoder.images.encoder import ImageEncoder

    with progress(remaining=True) as report:
        result = embed_pictures(
            Path(source), Path(out), image=image, image_encoder=ImageEncoder(image_model, cache=cache), text=text,
            encoder=Encoder(model, backend=backend, cache=cache) if picture_map else None, folder=picture_map,
            group=group, encoding=encoding, report=report,
        )  # fmt: skip
    details = [f"{result.rows:,} rows"]
    details += [f"{count:,} by their {kind}" for kind, count in result.made_from.items() if count]
    details += [f"{result.rows - sum(result.made_from.values()):,} without a vector (NULL)"]
    console.print(", ".join(details), f"→ {out}\nencoder {result.fingerprint}")
    if result.quality:
        console.print(
            f"map → {picture_map}: of {result.quality.items:,} held-out items {result.quality.top_10:.0%} have their "
            f"own text among the 10 nearest; of shuffled pairs {result.quality.shuffled_top_10:.0%}", markup=False,
        )  # fmt: skip
    if result.failed:
        console.print(f"{result.failed:,} pictures cannot be used; column embedding_error says why. The first:")
        for example in result.examples:
            console.print(f"- {example}", markup=False, soft_wrap=True)


@encoder_app.command("build", cls=Command)
def build_encoder(
    backend: Annotated[str, typer.Option(help="The variant: onnx, onnx-int8 or static.")],
    model: ModelOption = None,
    again: Annotated[bool, typer.Option("--again", help="Build it even if it exists.")] = False,
) -> None:
    """Build a faster variant of a model and measure it.

    The variant is compared with its original. Every later command on this machine can use it.

    Examples:
        coldstart encoder build --backend onnx-int8
        coldstart encoder build --backend static --model models/shop --again
    """
    from coldstart_udfs.encoder.derived import build
    from coldstart_udfs.encoder.manifests import models_folder
    from coldstart_udfs.encoder.multilingual import model_files

    # One at a time: the variant's speed is measured.
    with writing(whole(models_folder()), command="coldstart encoder build"), console.status("building …") as status:
        files = model_files(encoder_of_shop(model)[0])
        manifest = build(files, backend, report=lambda stage, *_: status.update(f"{stage} …"), again=again)
    measured = [f"{manifest.texts_per_second:,.0f} texts/s on this machine"]
    if manifest.cosine_mean is not None:
        measured.append(f"cosine {manifest.cosine_mean:.4f} on average, {manifest.cosine_min:.4f} at least")
    console.print(f"{manifest.fingerprint}: {', '.join(measured)}")


@encoder_app.command("compare", cls=Command)
def compare(
    items: Annotated[Path, typer.Argument(metavar="FILE", help="A Parquet, CSV, JSON lines or Excel file.")],
    text: Annotated[str, typer.Option(metavar="COLUMN", help="The column with the texts.")] = "description",
    interactions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Interactions with these items: adds how well each encoder ranks new items."),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A folder or name of another model to compare; can be repeated.")
    ] = None,
) -> None:
    """Compare the installed encoders on your texts.

    Encodes a sample of 300 texts. Shows in how many of them the language is one of the encoder's, how fast the encoder
    is here, and for three texts the most similar other one. With interactions, a fifth of the items is held out and
    ranked by the vectors alone, three times: NDCG@20.

    Examples:
        coldstart encoder compare items.csv
        coldstart encoder compare items.csv --interactions interactions.csv
    """
    from recommender.evaluation.encoders import compare_encoders, installed

    with progress() as report:
        found = compare_encoders(
            items, list(installed(model or ())), text=text, interactions=interactions, report=report
        )
    table = Table("encoder", "backend")
    for name in ("dimensions", "knows the language", "texts/s", *(["NDCG@20, new items"] if interactions else [])):
        table.add_column(name, justify="right")
    for one in found.encoders:
        known = "–" if one.known is None else f"{100 * one.known:.0f} %"
        ranks = [f"{one.ndcg:.3f}"] if one.ndcg is not None else []
        table.add_row(escape(one.name), one.backend, str(one.dimensions), known, f"{one.texts_per_second:,.0f}", *ranks)
    console.print(table)
    nearest = Table("text", "encoder", "the most similar of the others")
    for number, shown in enumerate(found.shown):
        for place, one in enumerate(found.encoders):
            cells = ("" if place else shown, f"{one.name}, {one.backend}", one.nearest[number])
            nearest.add_row(*map(escape, cells), end_section=place == len(found.encoders) - 1)
    console.print(nearest)


@encoder_app.command("list", cls=Command)
def list_encoders() -> None:
    """List the variants built on this machine, with their measurements.

    Examples:
        coldstart encoder list
        coldstart encoder list | grep onnx
    """
    from coldstart_udfs.encoder.manifests import installed, models_folder

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
