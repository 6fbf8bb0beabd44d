"""`coldstart serve`, and `coldstart keys …`."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from coldstart_udfs.console import console
from coldstart_udfs.errors import ColdStartError
from recommender.cli.command import Command, Group
from recommender.cli.events import EVENTS, EventsOption
from recommender.cli.options import BUNDLE, DATA, REPO, BundleOption, DataOption, RepoOption

KEYS = Path("data/keys.json")

keys_app = typer.Typer(name="keys", cls=Group, no_args_is_help=True, help="Make and revoke API keys of the service.")

FileOption = Annotated[Path, typer.Option("--file", metavar="FILE", help="The file of keys.")]


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on. Another one than this machine's own needs keys.")]
    = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="The number of processes that answer.")] = 1,
    repo: RepoOption = REPO,
    bundle: BundleOption = BUNDLE,
    data: DataOption = DATA,
    events: EventsOption = EVENTS,
    keys: Annotated[
        Path | None,
        typer.Option("--keys", metavar="FILE", help="Ask for API keys, of this file. Default: answer everybody."),
    ] = None,
    rate: Annotated[str, typer.Option(help="How many requests a key may make, in each worker.")] = "6000/minute",
    rates: Annotated[
        str,
        typer.Option("--rates", metavar="URL", help="Where requests are counted: redis://HOST counts all workers."),
    ] = "memory://",
    push_profiles: Annotated[
        bool,
        typer.Option(
            "--push-profiles/--no-push-profiles", help="Write profiles that events changed to Feast's online store."
        ),
    ] = False,
    learn_every: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Run `coldstart learn` by itself, such as every 24h; needs --raw."),
    ] = None,
    raw: Annotated[
        Path | None, typer.Option("--raw", metavar="FOLDER", help="The raw files that --learn-every reads.")
    ] = None,
) -> None:
    """Recommend over HTTP, and learn from events at once.

    Features come from Feast's online store, scores from the bundle. It stops with Ctrl-C.

    Examples:
        coldstart serve
        coldstart serve --host 0.0.0.0 --workers 2 --keys data/keys.json
    """  # fmt: skip
    _need_extra()
    from recommender.model.bundle import read_manifest
    from recommender.serve.events.log import EventLog
    from recommender.serve.keys import KeyFile
    from recommender.serve.scheduled import period
    from recommender.serve.server import run
    from recommender.serve.settings import Settings

    read_manifest(bundle)
    if not (repo / "feature_store.yaml").is_file():
        raise ColdStartError(f"{repo} is no Feast repository (no feature_store.yaml); `coldstart init` makes one")
    if keys is None and not _is_own(host):
        raise ColdStartError(
            f"without keys the service listens on this machine alone, and {host} is another address; make a key with "
            f"`coldstart keys create NAME`, and give --keys {KEYS}"
        )
    if keys is not None and not keys.is_file():
        raise ColdStartError(f"{keys} does not exist; `coldstart keys create NAME --file {keys}` writes it")
    if keys is not None:
        KeyFile(keys).all()
    seconds = period(learn_every) if learn_every is not None else None
    if (seconds is None) != (raw is None):
        raise ColdStartError("--learn-every and --raw go together: how often to learn, and the raw files to learn from")
    if raw is not None and not (raw.is_dir() and data.is_dir()):
        raise ColdStartError(f"--learn-every reads {raw} and writes the tables in {data}; both folders must exist")
    EventLog.open(events).close()
    settings = Settings(
        repo, bundle, data if data.is_dir() else None, events, keys, rate, rates, push_profiles, seconds, raw
    )
    run(settings, host, port, workers)


@keys_app.command(cls=Command)
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is.")],
    scopes: Annotated[
        list[str],
        typer.Option(
            "--scope", help="What the key may do: read, feedback (send events) or admin (write and erase users and "
            "items). Give it again for several."
        ),
    ] = ["read"],  # noqa: B006 - Typer copies it
    days: Annotated[int | None, typer.Option(min=1, help="Days until the key expires. Default: never.")] = None,
    file: FileOption = KEYS,
) -> None:
    """Make an API key, and print it once.

    The file holds its SHA-256 alone.

    Examples:
        coldstart keys create shop --scope read --scope feedback
        coldstart keys create office --scope admin --days 90
    """  # fmt: skip
    from recommender.serve.keys import KeyFile

    whole, key = KeyFile(file).create(name, scopes, days)
    typer.echo(whole)
    until = f"expires {key.expires}" if key.expires else "never expires"
    typer.echo(f"{key.id}: {', '.join(key.scopes)}; {until}. Keep the key: it is not shown again.", err=True)


@keys_app.command("list", cls=Command)
def list_keys(file: FileOption = KEYS) -> None:
    """List the API keys: ids, names, scopes and dates.

    Examples:
        coldstart keys list
        coldstart keys list --file data/keys.json
    """
    from recommender.serve.keys import KeyFile

    table = Table("id", "name", "scopes", "created", "expires")
    for key in KeyFile(file).all():
        expires = f"{key.expires} (expired)" if key.expired() else key.expires or "never"
        table.add_row(key.id, key.name, ", ".join(key.scopes), key.created, expires)
    console.print(table)


@keys_app.command(cls=Command)
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID", help="The id of the key, as `coldstart keys list` shows it.")],
    file: FileOption = KEYS,
) -> None:
    """Revoke an API key: a running service refuses it from the next request on.

    Examples:
        coldstart keys revoke 0f3a9c51d2e4
        coldstart keys revoke 0f3a9c51d2e4 --file data/keys.json
    """
    from recommender.serve.keys import KeyFile

    gone = KeyFile(file).revoke(key)
    console.print(f"{gone.id} ({gone.name}) is revoked", markup=False)


def _need_extra() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("fastapi", "uvicorn", "sqlalchemy", "prometheus_client", "structlog", "limits")
               if find_spec(name) is None]  # fmt: skip
    if missing:
        raise ColdStartError(f"{', '.join(missing)}: not installed; pip install 'feast-coldstart[serve]'")


def _is_own(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
