"""Warnings on stderr about the order of commands: what a repository and a bundle were made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from coldstart_udfs.made_from import MadeFrom


def warn_of_repo(repo: Path, bundle: Path | None = None, store: Any = None) -> None:
    """Warn of sources half written, of a bundle trained on other data, and of views that are being materialised.

    Args:
        repo: the Feast repository.
        bundle: a trained recommender that is used with it.
        store: the repository's Feast store, if it is open.
    """
    known = MadeFrom.of_repo(repo)
    if known and not known.complete:
        warn(f"the last `coldstart profiles` was stopped while it wrote the sources of {repo}; run it again")
    elif known and bundle:
        from recommender.model.bundle import read_manifest

        trained = read_manifest(bundle).get("data_sha256")
        if trained and trained != known.sha256:
            warn(
                f"{bundle} was trained on other data than the sources of {repo} were made from; run `coldstart train`, "
                f"then `feast -c {repo} apply`"
            )
    if store is not None:
        from coldstart_udfs.feast.operations.registry import told

        if reason := told(store):
            warn(f"{reason}. Until then the values are those from before")


def warn(message: str) -> None:
    """Tell people of something that they should know, beside the result."""
    from rich.console import Console

    Console(stderr=True, highlight=False, soft_wrap=True).print(f"warning: {message}", markup=False)
