"""`coldstart serve`, and `coldstart keys …`."""

from __future__ import annotations

import asyncio
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
    oidc: Annotated[
        str | None,
        typer.Option("--oidc", metavar="ISSUER", help="Ask for access tokens of this OpenID Connect issuer, in place "
                     "of API keys. The service fetches its public keys."),
    ] = None,
    audience: Annotated[
        str | None, typer.Option("--audience", metavar="AUD", help="The audience of access tokens; with --oidc.")
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
    explore: Annotated[
        float, typer.Option(metavar="SHARE", help="The share of the places of lists that new items get, up to 0.5.")
    ] = 0.0,
    explore_window: Annotated[
        str,
        typer.Option(metavar="TIME", help="For how long after an answer an event counts for what was explored."),
    ] = "24h",
) -> None:
    """Recommend over HTTP, and learn from events at once.

    Features come from Feast's online store, scores from the bundle. It stops with Ctrl-C.

    Examples:
        coldstart serve
        coldstart serve --host 0.0.0.0 --workers 2 --keys data/keys.json
    """  # fmt: skip
    _need_extra()
    from recommender.model.bundle import read_manifest
    from recommender.serve.events.opening import open_log
    from recommender.serve.policy.slots import check_share
    from recommender.serve.scheduled import period
    from recommender.serve.server import run
    from recommender.serve.settings import Settings

    if not (repo / "feature_store.yaml").is_file():
        raise ColdStartError(f"{repo} is no Feast repository (no feature_store.yaml); `coldstart init` makes one")
    read_manifest(bundle)
    _check_callers(host, keys, oidc, audience)
    seconds = period(learn_every) if learn_every is not None else None
    if (seconds is None) != (raw is None):
        raise ColdStartError("--learn-every and --raw go together: how often to learn, and the raw files to learn from")
    if raw is not None and not (raw.is_dir() and data.is_dir()):
        raise ColdStartError(f"--learn-every reads {raw} and writes the tables in {data}; both folders must exist")
    open_log(events, bundle).close()
    settings = Settings(
        repo, bundle, data if data.is_dir() else None, events, keys, rate, rates, oidc, audience, push_profiles,
        seconds, raw, check_share(explore), period(explore_window),
    )  # fmt: skip
    run(settings, host, port, workers)


def _check_callers(host: str, keys: Path | None, oidc: str | None, audience: str | None) -> None:
    """See that the service can tell who sends a request, if it has to."""
    from recommender.serve.keys import KeyFile
    from recommender.serve.oidc import Tokens

    if keys is None and oidc is None and not _is_own(host):
        raise ColdStartError(
            f"without keys the service listens on this machine alone, and {host} is another address; make a key with "
            f"`coldstart keys create NAME`, and give --keys {KEYS}"
        )
    if keys is not None and oidc is not None:
        raise ColdStartError("--keys and --oidc are both given; give one: a request has a key or a token")
    if (oidc is None) != (audience is None):
        given, missing = ("--oidc", "--audience AUD") if audience is None else ("--audience", "--oidc ISSUER")
        raise ColdStartError(f"{given} is given without the other; add {missing}")
    if keys is not None:
        if not keys.is_file():
            raise ColdStartError(f"{keys} does not exist; `coldstart keys create NAME --file {keys}` writes it")
        KeyFile(keys).all()
    if oidc is not None and audience is not None:
        asyncio.run(Tokens(oidc, audience).ask())


@keys_app.command(cls=Command)
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is.")],
    scopes: Annotated[
        list[str],
        typer.Option(
            "--scope", help="What the key may do: read, feedback (send events) or admin (write and erase users and "
            "items, run experiments). Give it again for several."
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

    missing = [name for name in ("fastapi", "uvicorn", "sqlalchemy", "prometheus_client", "structlog", "limits",
                                 "httpx", "jwt", "cryptography")
               if find_spec(name) is None]  # fmt: skip
    if missing:
        raise ColdStartError(f"{', '.join(missing)}: not installed; pip install 'feast-coldstart[serve]'")


def _is_own(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
