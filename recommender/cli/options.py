"""Options that several commands share, and how they are read."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from coldstart_udfs.errors import ColdStartError
from coldstart_udfs.settings import ENRICHMENT_FILE, Enrichment

REPO, BUNDLE, DATA = Path("feature_repo"), Path("data/bundle"), Path("data")

# Orders of day, month and year, as in `recommender.data.timestamps`, which is not imported for speed.
DATE_ORDERS = ("dmy", "mdy", "ymd")
_DATE_FORMATS = ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S")


class Engine(StrEnum):
    """What encodes a large number of texts."""

    local = "local"
    ray = "ray"


def parse_date(text: str) -> datetime:
    """A date, or a date with a time, without a time zone.

    Raises:
        typer.BadParameter: `text` is neither.

    >>> parse_date("2011-08-01"), parse_date("2011-08-01T12:30:00")
    (datetime.datetime(2011, 8, 1, 0, 0), datetime.datetime(2011, 8, 1, 12, 30))
    """
    for known in _DATE_FORMATS:
        try:
            return datetime.strptime(text, known)
        except ValueError:
            continue
    raise typer.BadParameter(f"{text!r} is not a date; give YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS, in UTC")


def parse_date_order(text: str) -> str:
    """An order of day, month and year.

    Raises:
        typer.BadParameter: there is no such order.
    """
    if text not in DATE_ORDERS:
        raise typer.BadParameter(f"{text!r} is not an order; possible are {', '.join(DATE_ORDERS)}")
    return text


def one_entity(user_id: str | None, item_id: str | None) -> tuple[str, str]:
    """The user or the item that a command is about: ("user" or "item", id).

    Raises:
        ColdStartError: both are given, or neither.
    """
    given = [(side, name) for side, name in (("user", user_id), ("item", item_id)) if name is not None]
    if len(given) != 1:
        raise ColdStartError(f"give one of --user-id and --item-id; {'both were' if given else 'neither was'} given")
    return given[0]


def ray_workers(engine: Engine, workers: int | None) -> int | None:
    """The number of Ray actors; None for the local engine.

    Raises:
        ColdStartError: workers of the local engine.
    """
    if engine is Engine.local:
        if workers:
            raise ColdStartError("--workers belongs to --engine ray; the local engine uses every processor by itself")
        return None
    from coldstart_udfs.encoder.backends import available_threads

    return workers or available_threads()


def settings_of_shop() -> Path | None:
    """The `enrichment.json` of the shop in whose folder the command runs; None if there is no shop."""
    path = REPO / ENRICHMENT_FILE
    return path if path.is_file() else None


def encoder_of_shop(model: str | None, backend: str | None = None) -> tuple[str | None, str]:
    """The model and the backend that a command uses: those given, else those of the shop in whose folder it runs.

    Raises:
        ColdStartError: the shop's `enrichment.json` is invalid.
    """
    found = settings_of_shop() if model is None else None
    settings = Enrichment.read(found) if found else Enrichment(model=model)
    return settings.model, backend or settings.backend or "auto"


RepoOption = Annotated[Path, typer.Option("--repo", metavar="FOLDER", help="The Feast repository.")]
BundleOption = Annotated[Path, typer.Option("--bundle", metavar="FOLDER", help="The trained recommender.")]
DataOption = Annotated[
    Path, typer.Option("--data", metavar="FOLDER", help="The tables items, users and interactions.")
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="The encoder: multilingual, a folder, or the name of a sentence-transformers model. Default: that of "
        "feature_repo/enrichment.json, or the built-in English model.",
    ),
]
PriorOption = Annotated[
    str,
    typer.Option(
        "--prior", metavar="FILE|public|none",
        help="What small shops have in common, for a shop with few users: a file of `coldstart prior learn`, the prior "
        "that ships with the package, or none.",
    ),
]
CacheOption = Annotated[bool, typer.Option("--cache/--no-cache", help="Use this machine's vector cache.")]
EncodingOption = Annotated[
    str | None,
    typer.Option(
        "--encoding",
        help="The encoding of CSV and JSON files, such as latin-1 or gbk. Default: by a byte order mark, or UTF-8.",
    ),
]
DateOrderOption = Annotated[
    str | None,
    typer.Option(
        "--date-order", metavar="|".join(DATE_ORDERS), parser=parse_date_order,
        help="The order of day, month and year in dates such as 03/04/24. Default: the only one that fits all dates.",
    ),
]
UserOption = Annotated[str | None, typer.Option("--user-id", help="The id of the user.")]
ItemOption = Annotated[str | None, typer.Option("--item-id", help="The id of the item.")]
EngineOption = Annotated[
    Engine, typer.Option("--engine", help="Encode on this machine, or on Ray Data actors (needs the extra `ray`).")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Number of Ray actors. Default: one for each processor.")
]
TrackOption = Annotated[
    str | None,
    typer.Option(
        "--track", metavar="TRACKER",
        help="Tell a tracker about the run too (needs the extra `track`): tensorboard:DIR, or wandb:offline, which "
        "`wandb sync` uploads later. No network call is made.",
    ),
]
